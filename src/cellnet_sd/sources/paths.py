"""Where a source is: a file of this machine, or a URL of any file system that fsspec knows."""

from pathlib import Path
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from cellnet_sd.errors import RemoteError

if TYPE_CHECKING:
    from upath import UPath

_LOCAL: Final = ("file", "local")
_WITH_QUERY: Final = ("http", "https")
_CACHES: Final = ("simplecache", "filecache", "blockcache", "cached")


def source_path(path: "str | Path | UPath") -> Path:
    """Return the absolute path of a local file, or the `UPath` of a URL.

    A `UPath` has the interface of a `Path`, without being one: it keeps the options of its file system, credentials
    among them, which neither its `str` nor its `repr` shows.

    Raises
    ------
    ValueError
        If a URL holds a password, which would end up in outputs and messages, names no file system, or one of fsspec's
        caches, which fetch one range after the other.
    """
    if isinstance(path, Path) or "://" not in str(path):
        return Path(str(path)).expanduser().absolute()
    if (parts := urlsplit(str(path))).password is not None:
        msg = f"The URL of {parts.hostname} holds a password. Give it to fsspec: UPath(url, username=…, password=…)."
        raise ValueError(msg)
    from upath import UPath

    url = UPath(path)
    if url.protocol in _CACHES:
        msg = f"{url}: take {url.protocol}:: off. To keep what is read, set cellnet_sd.settings.block_cache."
        raise ValueError(msg)
    return Path(url.path) if url.protocol in _LOCAL else cast("Path", url)


def is_path(obj: object) -> bool:
    """Whether what a caller gave is a path or a URL, rather than an object that was read."""
    from upath import UPath

    return isinstance(obj, str | Path | UPath)


def is_remote(path: Path) -> bool:
    """Whether a path that `source_path` gave is a URL."""
    return not isinstance(path, Path)


def file_name(path: Path) -> str:
    """Return the name of a file, without the query of a URL."""
    return path.name.partition("?")[0] if is_remote(path) else path.name


def beside(path: Path, suffix: str) -> Path:
    """Return the path with `suffix` after its name; before the query of a URL, if it has one."""
    url, mark, query = str(path).partition("?")
    if not (is_remote(path) and mark and cast("UPath", path).protocol in _WITH_QUERY):
        return path.with_name(path.name + suffix)
    from upath import UPath

    return cast("Path", UPath(f"{url}{suffix}?{query}", **cast("UPath", path).storage_options))


def require_local(path: "str | Path | UPath", what: str) -> Path:
    """Return the absolute path of a file that cannot be a remote one.

    Raises
    ------
    RemoteError
        If it is a URL; it says what cannot be done with one.
    """
    local = source_path(path)
    if is_remote(local):
        msg = f"{local} is a URL: {what}"
        raise RemoteError(msg)
    return local
