"""What is checked of an output before work is put into it."""

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cellnet_sd.errors import OutputExistsError

_OF_ZARR: Final = ("zarr.json", ".zgroup", ".zarray")
"""One of which is in the folder of every Zarr store."""


def check_output(path: Path, *, overwrite: bool) -> None:
    """Check that an output can appear under its name: folders are not made, what exists is replaced only on request.

    Raises
    ------
    FileNotFoundError
        If its folder does not exist.
    OutputExistsError
        If it exists and `overwrite` is false.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(path.parent))
    if path.exists() and not overwrite:
        msg = f"{path} exists. Pass overwrite=True to replace it."
        raise OutputExistsError(msg)


def check_replaceable(path: Path, inputs: Iterable[Path]) -> None:
    """Check that nothing is lost with what is replaced but an output: no input, and no folder of something else.

    Parameters
    ----------
    path
        The output, which ends in `.zarr` if it is a folder.
    inputs
        Local files that it is made from.

    Raises
    ------
    OutputExistsError
        If an input is the output, or in it, or if what is there is a folder but no Zarr store, or the reverse.
    """
    for each in inputs:
        if each.absolute().is_relative_to(path.absolute()) or each.resolve().is_relative_to(path.resolve()):
            msg = f"{path} cannot be replaced: {each}, which it is made from, would be gone. Choose another name."
            raise OutputExistsError(msg)
    if path.exists() and not _is_output(path):
        what = "a folder" if path.is_dir() else "a file"
        expected = "Zarr store" if path.suffix == ".zarr" else "file"
        msg = f"{path} is not replaced: it is {what}, and no {expected}. Move it away, or choose another name."
        raise OutputExistsError(msg)


def _is_output(path: Path) -> bool:
    """Whether what is there may be an earlier output of this name; an empty folder holds nothing to lose."""
    if path.suffix != ".zarr":
        return path.is_file()
    return path.is_dir() and (not any(path.iterdir()) or any((path / name).is_file() for name in _OF_ZARR))
