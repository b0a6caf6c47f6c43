"""Read Cell-NET as SpatialData and AnnData, and write it back."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "convert": ("cellnet_sd.converter", "convert"),
    "index": ("cellnet_sd.handle", "build_index"),
    "info": ("cellnet_sd.information", "info"),
    "open": ("cellnet_sd.handle", "open_file"),
    "patches": ("cellnet_sd.patch_lookup", "patches"),
    "read": ("cellnet_sd.reader", "read"),
    "read_anndata": ("cellnet_sd.reader", "read_anndata"),
    "validate": ("cellnet_sd.validator", "validate"),
    "write": ("cellnet_sd.writer", "write"),
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    module, attribute = _PUBLIC[name]
    return getattr(import_module(module), attribute)
