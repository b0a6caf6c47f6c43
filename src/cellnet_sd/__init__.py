"""Read Cell-NET as SpatialData and AnnData, and write it back."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cellnet_sd import errors as errors
from cellnet_sd import forks as _forks  # noqa: F401  # once, for all forks of this process
from cellnet_sd.settings import settings as settings

if TYPE_CHECKING:
    from cellnet_sd import datasets as datasets
    from cellnet_sd import pl as pl
    from cellnet_sd.converter import convert as convert
    from cellnet_sd.handle import CellNetFile as CellNetFile
    from cellnet_sd.handle import build_index as index  # noqa: F401
    from cellnet_sd.handle import open_file as open  # noqa: A004, F401
    from cellnet_sd.information import info as info
    from cellnet_sd.patch_lookup import patches as patches
    from cellnet_sd.reader import read as read
    from cellnet_sd.reader import read_anndata as read_anndata
    from cellnet_sd.store_reader import open_store as open_store
    from cellnet_sd.validator import validate as validate
    from cellnet_sd.writer import write as write

# Where each public name is found; its module is imported when the name is first used, and no module has such a name.
_PUBLIC = {
    "CellNetFile": ("cellnet_sd.handle", "CellNetFile"),
    "convert": ("cellnet_sd.converter", "convert"),
    "datasets": ("cellnet_sd.datasets", None),
    "index": ("cellnet_sd.handle", "build_index"),
    "info": ("cellnet_sd.information", "info"),
    "open": ("cellnet_sd.handle", "open_file"),
    "open_store": ("cellnet_sd.store_reader", "open_store"),
    "patches": ("cellnet_sd.patch_lookup", "patches"),
    "pl": ("cellnet_sd.pl", None),
    "read": ("cellnet_sd.reader", "read"),
    "read_anndata": ("cellnet_sd.reader", "read_anndata"),
    "validate": ("cellnet_sd.validator", "validate"),
    "write": ("cellnet_sd.writer", "write"),
}

__all__ = [*_PUBLIC, "errors", "settings"]  # noqa: PLE0604  # names are strings


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cellnet-sd")
    if name not in _PUBLIC:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    module_name, attribute = _PUBLIC[name]
    module = import_module(module_name)
    value = module if attribute is None else getattr(module, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__", *(name for name in globals() if name.startswith("__"))})
