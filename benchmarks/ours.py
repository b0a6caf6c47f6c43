"""What cellnet_sd does for each work, and whether it answers what the peers answer."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

import cellnet_sd as cn
from benchmarks.answers import Batch, Catalogue, check, check_matrices
from cellnet_sd.errors import CellNetWarning

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Engine = Literal["auto", "native", "h5py"]

_LABELS = ("source", "tissue", "cell_type", "cell_disease_state", "tissue_disease_state", "st_technology")


@dataclass(frozen=True, slots=True)
class Ours:
    """cellnet_sd with an engine and a number of threads, `None` for all cores."""

    engine: Engine = "auto"
    n_threads: int | None = None

    def forget(self, path: Path) -> None:
        """Delete the index of a file."""
        path.with_name(f"{path.name}.cnindex").unlink(missing_ok=True)

    def index(self, path: Path) -> Path:
        """Index a file that has no index, and save the index beside it."""
        return cn.index(path, engine=self.engine, n_threads=self.n_threads)

    def open(self, path: Path) -> cn.CellNetFile:
        """Open a file that has an index."""
        return cn.open(path, engine=self.engine, n_threads=self.n_threads)

    def reopen(self, path: Path) -> int:
        """Open a file that has an index; return the number of its cells, as their table has it."""
        return len(self.open(path).obs)

    def expression(self, file: cn.CellNetFile) -> "csr_matrix":
        """Read all expression."""
        return file.expression[:]

    def patches(self, file: cn.CellNetFile) -> NDArray[Any]:
        """Read all cell patches."""
        return file.patches("cell").values

    def convert(self, path: Path) -> Path:
        """Convert a file that has an index to an AnnData store, without images and CCC."""
        left_out = {"images": False, "ccc": False, "engine": self.engine, "n_threads": self.n_threads}
        with warnings.catch_warnings():  # the neighbours of few cells are not near each other
            warnings.simplefilter("ignore", CellNetWarning)
            return cn.convert(path, path.with_suffix(".ours.zarr"), kind="anndata", overwrite=True, **left_out)

    def batches(self, file: cn.CellNetFile, batches: Sequence[NDArray[np.int64]]) -> list[Batch]:
        """Read expression and cell patches of batches of cells, in their order."""
        patches = file.patches("cell")
        return [Batch(file.expression[rows], patches[rows].values) for rows in batches]


def check_store(ours: Path, other: Path) -> None:
    """Check that a converted store holds of its first cells what another one does.

    Raises
    ------
    DisagreementError
        If it does not.
    """
    from anndata import read_zarr

    own, theirs = read_zarr(ours), read_zarr(other)
    check_matrices(own.X, theirs.X)
    own = own[: len(theirs)]
    check("names", agree=own.obs_names.tolist() == theirs.obs_names.tolist())
    for name in (*_LABELS, "caption"):
        check(name, agree=own.obs[name].astype(str).tolist() == theirs.obs[name].astype(str).tolist())
    for key, positions in theirs.obsm.items():
        check(key, agree=np.array_equal(own.obsm[key], positions))


def check_index(file: cn.CellNetFile, catalogue: Catalogue) -> None:
    """Check that the index of a file says of the first cells what a peer says.

    Raises
    ------
    DisagreementError
        If it does not.
    """
    rows = slice(0, len(catalogue))
    obs = file.obs.iloc[rows]
    check("names", agree=obs.index.tolist() == catalogue.names)
    check("captions", agree=file.captions.iloc[rows].tolist() == catalogue.captions)
    for name in _LABELS:
        check(name, agree=obs[name].tolist() == catalogue.labels(name))
    check("diameters", agree=np.array_equal(obs["cell_diameter"], catalogue.diameters()))
    for key, positions in catalogue.positions().items():
        check(key, agree=np.array_equal(file.obsm[key][rows], positions))
    check("genes", agree={places[0].shape for places in catalogue.places} == {(file.expression.shape[1],)})
