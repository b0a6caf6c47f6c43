"""What holds for every call of a session: seven settings, each with an environment variable.

The package imports this module eagerly, so that `cellnet_sd.settings` is the object and never the module.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from platformdirs import user_cache_path

_PREFIX: Final = "CELLNET_SD_"
_WORDS: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def _flag(value: object) -> bool:
    """Return `value` as a bool; words such as `"on"` count, for the environment."""
    taken = _WORDS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(taken, bool):
        msg = "True or False"
        raise TypeError(msg)
    return taken


def _folder(value: object) -> Path:
    """Return `value` as an absolute path."""
    if not isinstance(value, str | Path) or value == "":
        msg = "the path of a folder"
        raise TypeError(msg)
    return Path(value).expanduser().absolute()


def _folder_or_none(value: object) -> Path | None:
    """Return `value` as an absolute path, or `None`; an empty text is `None`, for the environment."""
    try:
        return None if value in (None, "") else _folder(value)
    except TypeError:
        msg = "the path of a folder, or None"
        raise TypeError(msg) from None


def _bytes(value: object) -> int:
    """Return `value` as a positive number of bytes; digits count, for the environment."""
    taken = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if not isinstance(taken, int) or isinstance(taken, bool) or taken < 1:
        msg = "a positive whole number of bytes"
        raise TypeError(msg)
    return taken


def _engine(value: object) -> str:
    """Return `value` as the name of an engine."""
    if value not in ("auto", "native", "h5py"):
        msg = "'auto', 'native' or 'h5py'"
        raise TypeError(msg)
    return str(value)


def _threads(value: object) -> int:
    """Return `value` as a positive number of threads; digits count, for the environment."""
    try:
        return _bytes(value)
    except TypeError:
        msg = "a positive whole number of threads"
        raise TypeError(msg) from None


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_TAKE: Final[Mapping[str, Callable[[object], object]]] = {
    "index": _flag,
    "cache_dir": _folder,
    "progress": _flag,
    "batch_bytes": _bytes,
    "engine": _engine,
    "n_threads": _threads,
    "block_cache": _folder_or_none,
}


class Settings:
    """What holds for every call of a session.

    Each setting starts from the environment variable `CELLNET_SD_` and its name in capitals where that is set
    (`CELLNET_SD_INDEX=0`, `CELLNET_SD_BATCH_BYTES=16777216`), else from its default. Assign to change one for the
    rest of the session; use :meth:`override` to change some for the length of a block.

    Raises
    ------
    AttributeError
        When there is no setting of that name.
    ValueError
        When a setting cannot take the value.
    """

    index: bool
    """Whether to keep the index of a file beside it, as `{file}.cnindex`. Default: true."""

    cache_dir: Path
    """Where the indexes of files in read-only folders and of remote files go. Default: the user's cache folder."""

    progress: bool
    """Whether to show progress bars on a terminal. Default: true."""

    batch_bytes: int
    """How many bytes of expression or patches to decode at a time, on the way to the result. Default: 64 MiB."""

    engine: str
    """What reads a file: `"native"`, `"h5py"`, or `"auto"`: native, and h5py where that cannot. Default: auto."""

    n_threads: int
    """How many threads read and decode. Default: the cores this process may use."""

    block_cache: Path | None
    """Where what is read of remote files is kept for later calls; nowhere for `None`. Default: `None`."""

    def __init__(self) -> None:
        defaults = {
            "index": True,
            "cache_dir": user_cache_path("cellnet_sd", appauthor=False),
            "progress": True,
            "batch_bytes": 64 * 2**20,
            "engine": "auto",
            "n_threads": _cores(),
            "block_cache": None,
        }
        for name, default in defaults.items():
            setattr(self, name, os.environ.get(_PREFIX + name.upper(), default))

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _TAKE:
            msg = f"There is no setting {name!r}; there are {', '.join(_TAKE)}."
            raise AttributeError(msg)
        try:
            taken = _TAKE[name](value)
        except TypeError as error:
            msg = f"The setting {name} (environment: {_PREFIX}{name.upper()}) takes {error}, not {value!r}."
            raise ValueError(msg) from None
        super().__setattr__(name, taken)

    def __delattr__(self, name: str) -> None:
        msg = f"The setting {name!r} cannot be deleted; assign to it to change it."
        raise AttributeError(msg)

    @contextmanager
    def override(self, **changes: Any) -> Iterator[None]:
        """Change settings for the length of a `with` block.

        Parameters
        ----------
        **changes
            Values by the name of the setting.

        Examples
        --------
        >>> with settings.override(progress=False, index=False):
        ...     sdata = cn.read("cellnet.h5")
        """
        before = dict(vars(self))
        try:
            for name, value in changes.items():
                setattr(self, name, value)
            yield
        finally:
            vars(self).update(before)

    def __repr__(self) -> str:
        lines = (f"    {name}={value!r},\n" for name, value in vars(self).items())
        return f"Settings(\n{''.join(lines)})"


settings: Final = Settings()
"""The settings of this session."""
