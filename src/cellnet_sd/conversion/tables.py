"""Tables in parts: all of a table but `X` is written at once; `X` is packed from staged parts into its place."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.conversion.arrays import VALUE_CHUNK, VALUE_SHARD, about, make_array, open_array
from cellnet_sd.conversion.matrix import DTYPES, INDPTR, StagedMatrix, packing_jobs
from cellnet_sd.conversion.workspace import Job
from cellnet_sd.sources.hdf5_disk import Output

if TYPE_CHECKING:
    from anndata import AnnData

X: Final = "X"
_GZIP_CHUNK: Final = 2**16


def without_values(adata: "AnnData") -> "AnnData":
    """Return a table with the same rows and columns, and nothing in `X`."""
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    values = None if adata.X is None else csr_matrix(adata.shape, dtype=np.float32)
    parts = {name: dict(getattr(adata, name)) for name in ("obsm", "varm", "obsp", "uns")}
    return AnnData(values, obs=adata.obs, var=adata.var, **parts)  # a copy would take the table's memory again


def index_pointer(counts: NDArray[np.int64]) -> NDArray[Any]:
    """Return where each row begins, as SciPy has it: int32 where that counts the values."""
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return indptr.astype(np.int32 if indptr[-1] <= np.iinfo(np.int32).max else np.int64)


@dataclass(frozen=True)
class ZarrMatrix:
    """A CSR matrix in a Zarr store.

    Parameters
    ----------
    folder
        Of its group.
    """

    folder: Path

    def make(self, matrix: StagedMatrix) -> None:
        """Make the arrays, in the place of empty ones."""
        indptr = index_pointer(matrix.counts())
        for name, dtype in DTYPES.items():
            path, n_values = self.folder / name, int(indptr[-1])
            make_array(path, (n_values,), dtype, chunks=(VALUE_CHUNK,), shards=(VALUE_SHARD,), like=about(path))
        path = self.folder / INDPTR
        make_array(path, indptr.shape, indptr.dtype, chunks=(VALUE_CHUNK,), shards=(VALUE_SHARD,), like=about(path))
        open_array(path)[:] = indptr

    def jobs(self, matrix: StagedMatrix) -> Sequence[Job]:
        """Return the jobs that fill the arrays."""
        return packing_jobs(matrix, index_pointer(matrix.counts()).astype(np.int64), VALUE_SHARD, self._fill)

    def _fill(self, name: str, begin: int, part: NDArray[Any]) -> None:
        open_array(self.folder / name)[begin : begin + len(part)] = part


def write_hdf5(adata: "AnnData", output: Output) -> None:
    """Write a table to an HDF5 file, as `AnnData.write_h5ad` does to one that it opens itself."""
    from anndata.io import write_elem

    write_elem(output.file, "/", adata, dataset_kwargs={"compression": "gzip"})
    output.disk.check()


def pack_hdf5(output: Output, matrix: StagedMatrix) -> None:
    """Put a staged matrix in the place of the empty `X` of an `.h5ad` file."""
    indptr = index_pointer(matrix.counts())
    n_values = int(indptr[-1])
    group = output.file[X]
    for name, dtype in DTYPES.items():
        attributes = dict(group[name].attrs)
        del group[name]
        chunks = (max(1, min(_GZIP_CHUNK, n_values)),)
        group.create_dataset(name, (n_values,), dtype, chunks=chunks, compression="gzip").attrs.update(attributes)
    attributes = dict(group[INDPTR].attrs)
    del group[INDPTR]
    group.create_dataset(INDPTR, data=indptr, compression="gzip").attrs.update(attributes)

    def fill(name: str, begin: int, part: NDArray[Any]) -> None:
        group[name][begin : begin + len(part)] = part
        output.disk.check()

    for job in packing_jobs(matrix, indptr.astype(np.int64), VALUE_SHARD, fill):
        job.run()
