"""The verb that converts: a Cell-NET file to SpatialData Zarr or to AnnData `.h5ad`."""

import inspect
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellnet_sd.outputs import check_output
from cellnet_sd.reader import read, read_anndata

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from spatialdata import SpatialData


def convert(src: str | Path, dst: str | Path, *, overwrite: bool = False, **options: Any) -> Path:
    """Convert a Cell-NET file: to SpatialData Zarr if `dst` ends in `.zarr`, to AnnData if it ends in `.h5ad`.

    Parameters
    ----------
    src
        A Cell-NET HDF5 file.
    dst
        What to write; it appears only when it is complete.
    overwrite
        Whether an existing `dst` is replaced.
    **options
        Parameters of `read` (for `.h5ad`, of `read_anndata`).

    Returns
    -------
    The path of the output.

    Raises
    ------
    FileNotFoundError
        If there is no `src`, or no folder to write `dst` in.
    OutputExistsError
        If `dst` exists and `overwrite` is false.
    ValueError
        If `dst` has another ending, or an option is no parameter of the reader.
    CellNetError
        As `read`.
    """
    dst = Path(dst).expanduser().absolute()
    writers: dict[str, tuple[Callable[..., Any], Callable[[Any, Path], None]]] = {
        ".zarr": (read, _write_zarr),
        ".h5ad": (read_anndata, _write_h5ad),
    }
    if dst.suffix not in writers:
        msg = f"{dst} ends neither in .zarr (SpatialData) nor in .h5ad (AnnData)."
        raise ValueError(msg)
    reader, write = writers[dst.suffix]
    unknown = options.keys() - inspect.signature(reader).parameters.keys()
    if unknown:
        msg = f"{', '.join(sorted(unknown))}: no such parameter of {reader.__name__}, which reads for {dst.suffix}."
        raise ValueError(msg)
    check_output(dst, overwrite=overwrite)
    partial = dst.with_name(f".{dst.stem}.{uuid.uuid4().hex[:8]}{dst.suffix}")
    try:
        write(reader(src, **options), partial)
        check_output(dst, overwrite=overwrite)
        _replace(dst, partial)
    finally:
        _remove(partial)
    return dst


def _write_zarr(sdata: "SpatialData", partial: Path) -> None:
    sdata.write(partial)


def _write_h5ad(adata: "AnnData", partial: Path) -> None:
    adata.write_h5ad(partial, compression="gzip")


def _replace(dst: Path, partial: Path) -> None:
    """Put `partial` in the place of `dst`, which is deleted only then: a killed process leaves both on disk."""
    old = partial.with_name(f"{partial.stem}.old{partial.suffix}")
    try:
        if dst.exists():
            dst.rename(old)
        partial.rename(dst)
    except BaseException:
        if old.exists() and not dst.exists():
            old.rename(dst)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
