"""Cells with CCC as a source would hand them over: written with h5py, read back as `Raw`."""

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from cellnet_sd.components.ccc import CCCContext
from cellnet_sd.problems import Problems
from cellnet_sd.sources.base import Raw


def raw_of(stored: h5py.Group | h5py.Dataset) -> Raw:
    """Return a group or dataset as a source does."""
    attrs = dict(stored.attrs)
    if isinstance(stored, h5py.Group):
        return Raw(None, attrs, {name: raw_of(stored[name]) for name in stored})
    return Raw(np.asarray(stored[()]), attrs)


def memory_file() -> h5py.File:
    """Return an HDF5 file that lives in memory."""
    return h5py.File.in_memory()


def csr_raw(matrix: NDArray[Any] | sp.csr_matrix, **members: Any) -> Raw:
    """Return a matrix as AnnData stores CSR, with further members."""
    made = sp.csr_matrix(matrix)
    parts = {"data": made.data, "indices": made.indices, "indptr": made.indptr}
    return group_raw({**parts, **members}, **{"encoding-type": "csr_matrix", "shape": np.array(made.shape)})


def group_raw(members: dict[str, Any], **attrs: Any) -> Raw:
    """Return a group of arrays and of other raw values."""
    return Raw(None, attrs, {k: v if isinstance(v, Raw) else Raw(_array(v)) for k, v in members.items()})


def _array(value: Any) -> NDArray[Any]:
    array = np.asarray(value)
    return np.array([str(v).encode() for v in array.ravel()], dtype=object) if array.dtype.kind == "U" else array


def context_of(slides: Sequence[int], names: Sequence[str] | None = None, **options: Any) -> CCCContext:
    """Return the context of a file whose cells are on `slides`."""
    codes = np.asarray(slides, dtype=np.int32)
    rows = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    return CCCContext(
        n_file=len(codes),
        slide_of_row=codes,
        rows_of_slide=rows,
        names=[f"c{i}" for i in range(len(codes))] if names is None else names,
        **options,
    )


def problems_of(policy: str = "raise") -> Problems:
    """Return an empty list of problems."""
    return Problems("test.h5", lambda row: f"c{row}", policy)  # type: ignore[arg-type]


def random_links(n: int, n_pairs: int = 1, *, seed: int = 0, density: float = 0.3) -> NDArray[np.float32]:
    """Return random signals by pair, sender and receiver, float32 `(n_pairs, n, n)`, exact in sums."""
    rng = np.random.default_rng(seed)
    shape = (n_pairs, n, n)
    return (rng.integers(-20, 64, shape) * (rng.random(shape) < density) / 8).astype(np.float32)
