"""The verb that converts: a Cell-NET file to SpatialData Zarr or to AnnData `.h5ad`."""

import shutil
import uuid
from pathlib import Path
from typing import Any

from cellnet_sd.errors import OutputExistsError
from cellnet_sd.reader import read, read_anndata


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
    OutputExistsError
        If `dst` exists and `overwrite` is false.
    ValueError
        If `dst` has another ending.
    CellNetError
        As `read`.
    """
    dst = Path(dst).expanduser().absolute()
    writers = {".zarr": _write_zarr, ".h5ad": _write_h5ad}
    if dst.suffix not in writers:
        msg = f"{dst} ends neither in .zarr (SpatialData) nor in .h5ad (AnnData)."
        raise ValueError(msg)
    _refuse(dst, overwrite=overwrite)
    partial = dst.with_name(f".{dst.stem}.{uuid.uuid4().hex[:8]}{dst.suffix}")
    try:
        writers[dst.suffix](src, partial, options)
        _refuse(dst, overwrite=overwrite)
        _remove(dst)
        partial.rename(dst)
    finally:
        _remove(partial)
    return dst


def _write_zarr(src: str | Path, partial: Path, options: dict[str, Any]) -> None:
    read(src, **options).write(partial)


def _write_h5ad(src: str | Path, partial: Path, options: dict[str, Any]) -> None:
    read_anndata(src, **options).write_h5ad(partial, compression="gzip")


def _refuse(dst: Path, *, overwrite: bool) -> None:
    if dst.exists() and not overwrite:
        msg = f"{dst} exists. Pass overwrite=True to replace it."
        raise OutputExistsError(msg)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
