"""What is checked of an output before work is put into it."""

import errno
from pathlib import Path

from cellnet_sd.errors import OutputExistsError


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
