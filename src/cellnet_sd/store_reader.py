"""The verb that reopens a converted store: all of it as it was written, and `X` block by block."""

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from cellnet_sd import keys
from cellnet_sd.conversion.matrix import DATA, rows_of_part
from cellnet_sd.conversion.workspace import folder_of
from cellnet_sd.elements import quiet_about_regions
from cellnet_sd.errors import ConversionError, LayoutError, SourceMovedError
from cellnet_sd.settings import settings
from cellnet_sd.sources.paths import require_local

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

_SPATIALDATA: Final = "spatialdata_attrs"
"""Where SpatialData notes its version, in the attributes of a store, and what a table annotates, in its `uns`."""
_ELEMENTS: Final = ("images", "labels", "points", "shapes")


def open_store(path: str | Path) -> "SpatialData | AnnData":
    """Reopen what `convert` wrote, with a lazy `X`.

    `spatialdata.read_zarr`, `anndata.read_zarr` and `anndata.read_h5ad` load `X` whole; this reads none of it.

    What is lazy is read from the store as long as the object is used. So never write the object over its own store, as
    with `adata.write_zarr(path)`: anndata empties the store first, and `X` is lost. Write to another path, or only what
    has changed, as with `anndata.io.write_elem(group, "obs", adata.obs)` (see the docs on converted stores).

    Parameters
    ----------
    path
        An output of `convert`: a SpatialData Zarr, an AnnData Zarr or an `.h5ad`.

    Returns
    -------
    SpatialData or AnnData
        As was written. `X` is a dask array of CSR blocks, float32 (n_cells, n_genes): rows in the order of the store,
        in blocks that take about `settings.batch_bytes` to read. `obs`, `var`, `obsm`, `obsp` and `uns` are in memory;
        images are lazy. No file stays open, and lazy parts can be sent to other processes, which open the store by its
        path.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    ConversionError
        If a conversion to `path` has not finished.
    LayoutError
        If what is there is not an output of `convert`.
    RemoteError
        If `path` is a URL.
    """
    path = require_local(
        path, "a store is reopened where it is. Copy it here; cellnet_sd.read reads files behind URLs."
    )
    _check_there(path)
    return _of_hdf5(path) if path.is_file() else _of_zarr(path)


def _check_there(path: Path) -> None:
    if path.exists():
        return
    if folder_of(path).exists():
        msg = f"{path}: its conversion has not finished. Run the same cellnet_sd.convert again: it goes on."
        raise ConversionError(msg)
    raise FileNotFoundError(errno.ENOENT, "No such store", str(path))


def _of_hdf5(path: Path) -> "AnnData":
    import h5py

    if not h5py.is_hdf5(path):
        raise _not_ours(path, "it is neither HDF5 nor a Zarr folder")
    with h5py.File(path, "r") as root:
        return _annotated(root, path)


def _of_zarr(path: Path) -> "SpatialData | AnnData":
    import zarr

    try:
        root = zarr.open_group(zarr.storage.LocalStore(path, read_only=True), mode="r")
    except (zarr.errors.GroupNotFoundError, zarr.errors.ContainsArrayError) as error:
        raise _not_ours(path, "it is no Zarr group") from error
    if _SPATIALDATA not in root.attrs:
        return _annotated(root, path)
    if keys.PROVENANCE not in root.attrs:
        raise _not_ours(path, f"its attributes have no {keys.PROVENANCE}, which says where cells came from")
    return _spatial(root, path)


def _spatial(root: Any, path: Path) -> "SpatialData":
    import spatialdata

    sdata = spatialdata.read_zarr(path, selection=_ELEMENTS)
    with quiet_about_regions():
        for name, group in root["tables"].groups() if "tables" in root else ():
            sdata.tables[name] = _table(group)
    return sdata


def _annotated(root: Any, path: Path) -> "AnnData":
    """Return the table that a store consists of."""
    if root.attrs.get("encoding-type") != "anndata":
        raise _not_ours(path, "it is no AnnData or SpatialData")
    if keys.PROVENANCE not in root["uns"]:
        raise _not_ours(path, f"its uns has no {keys.PROVENANCE}, which says where cells came from")
    return _table(root)


def _table(group: Any) -> "AnnData":
    """Return the table in a group of HDF5 or Zarr: all of it but `X` is read."""
    from anndata import AnnData
    from anndata.io import read_elem

    table = AnnData(**{name: _lazy(group[name]) if name == "X" else read_elem(group[name]) for name in group})
    annotated = table.uns.get(_SPATIALDATA, {})
    if "region" in annotated:  # a list when it was written; SpatialData's own reader mends it likewise
        annotated["region"] = list(annotated["region"])
    return table


def _lazy(matrix: Any) -> Any:
    """Return a stored CSR matrix as a dask array of blocks of whole rows; what is no CSR matrix is read."""
    from anndata.experimental import read_elem_lazy
    from anndata.io import read_elem

    if matrix.attrs["encoding-type"] != "csr_matrix":
        return read_elem(matrix)
    n_rows, n_columns = map(int, matrix.attrs["shape"])
    place = _MatrixPlace.of(matrix)
    rows = rows_of_part(place.n_values / max(1, n_rows), settings.batch_bytes)
    lazy = read_elem_lazy(matrix, chunks=(rows, n_columns))
    return lazy.map_blocks(place.checked, dtype=lazy.dtype, meta=lazy._meta)  # noqa: SLF001  # CSR, not an array


@dataclass(frozen=True)
class _MatrixPlace:
    """Where a stored matrix is, and its size when it was opened.

    Zarr gives zeros for what is no longer there: a store that is written over while its own `X` is lazy would come out
    empty, in silence.

    Parameters
    ----------
    store, name
        A Zarr folder or an HDF5 file, and the group in it.
    shape, n_values
        Of the matrix.
    """

    store: Path
    name: str
    shape: tuple[int, ...]
    n_values: int

    @classmethod
    def of(cls, matrix: Any) -> Self:
        """Return the place of the matrix in a group of HDF5 or Zarr."""
        store = matrix.file.filename if hasattr(matrix, "file") else matrix.store.root
        return cls(Path(store).absolute(), matrix.name, *_size(matrix))

    def checked(self, block: Any) -> Any:
        """Return a block that was read, if the matrix is still the one that was opened.

        Raises
        ------
        SourceMovedError
            If it is not.
        """
        if self._now() != (self.shape, self.n_values):
            msg = (
                f"{self.store}: its {self.name.strip('/')} was removed or written anew after it was opened. Open it "
                "again with cellnet_sd.open_store. If it was being written over by the object that was opened from it, "
                "convert it again, and write to another path, or only what has changed."
            )
            raise SourceMovedError(msg)
        return block

    def _now(self) -> tuple[tuple[int, ...], int] | None:
        """Return shape and number of values of the matrix that is there; `None` if there is none."""
        import h5py
        import zarr

        try:
            if self.store.is_file():
                with h5py.File(self.store, "r") as root:
                    return _size(root[self.name])
            # as it is, not as it was when metadata were gathered
            return _size(zarr.open_group(self.store, path=self.name, mode="r", use_consolidated=False))
        except (FileNotFoundError, KeyError):
            return None


def _size(matrix: Any) -> tuple[tuple[int, ...], int]:
    """Return the shape of a stored matrix, and how many values it has."""
    return tuple(map(int, matrix.attrs["shape"])), int(matrix[DATA].shape[0])


def _not_ours(path: Path, reason: str) -> LayoutError:
    msg = (
        f"{path} is not an output of cellnet_sd.convert: {reason}. A Cell-NET file is read by cellnet_sd.read; other "
        "stores by spatialdata.read_zarr and anndata.experimental.read_lazy."
    )
    return LayoutError(msg)
