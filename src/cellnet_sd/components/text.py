"""Text as HDF5 files hold it: strings of variable and fixed length, bytes, UTF-8 and what is not UTF-8; and JSON."""

import json
from typing import Any

import numpy as np

from cellnet_sd.sources.base import Raw


def raw_text(raw: Raw) -> str:
    """Return the text of a stored string: scalar or `(1,)`, variable or fixed length, or 1-D uint8 bytes.

    Raises
    ------
    ValueError
        If the value is a group, a list of several strings or a number; the message is the reason.
    """
    return decode_text(raw_bytes(raw))


def raw_bytes(raw: Raw) -> bytes | str:
    """Return a stored string as stored; see `raw_text`."""
    if raw.value is None:
        msg = "a group is stored where text should be"
        raise ValueError(msg)
    return _single(np.asarray(raw.value))


def is_utf8(value: bytes | str) -> bool:
    """Whether stored text is UTF-8, as it should be."""
    if isinstance(value, str):
        return True
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _single(value: np.ndarray[Any, Any]) -> bytes | str:
    if value.ndim == 1 and value.dtype == np.uint8:
        return value.tobytes().rstrip(b"\0")
    if value.size != 1:
        msg = f"one string expected, an array of shape {value.shape} and type {value.dtype} is stored"
        raise ValueError(msg)
    item = value.reshape(-1)[0]
    if isinstance(item, np.ndarray) and item.dtype == np.uint8:
        return item.tobytes()
    if isinstance(item, np.void) and item.dtype.names is None:
        return item.tobytes().rstrip(b"\0")
    if not isinstance(item, bytes | str):
        msg = f"text expected, a value of type {value.dtype} is stored"
        raise ValueError(msg)
    return item


def decode_text(value: bytes | str) -> str:
    """Return `value` as text: UTF-8 (a byte order mark is dropped), else latin-1, which every byte string is."""
    if isinstance(value, str):
        return value
    try:
        return value.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def parse_json(text: str) -> Any:
    """Return what JSON text holds; NaN and infinities are numbers, as Python writes them.

    Raises
    ------
    ValueError
        If `text` is no JSON, or holds text that is none; the message is the reason.
    """
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # `loads` lets half a surrogate pair pass
    except RecursionError as error:
        msg = "it is nested too deep"
        raise ValueError(msg) from error
    except UnicodeEncodeError as error:
        msg = f"{error.object[error.start]!a} is half of a surrogate pair, which stands for no character"
        raise ValueError(msg) from error
    return value


def text_list(value: Any) -> list[str] | None:
    """Return a stored list of names (strings, or a single one) as `str`; `None` if it is not one."""
    array = np.asarray(value)
    if array.dtype.kind not in "OSU" or array.ndim > 1:
        return None
    items = array.reshape(-1).tolist()
    types = set(map(type, items))
    if not types <= {bytes, str}:
        return None
    if types <= {str}:
        return items
    if types == {bytes} and (texts := decoded_at_once(b"\0".join(items), len(items))) is not None:
        return texts
    return [decode_text(item) for item in items]


def decoded_at_once(joined: bytes, n: int) -> list[str] | None:
    """Return `n` texts that are joined by NULs; `None` if one is not plain UTF-8: they are to be read one by one."""
    try:
        text = joined.decode()
    except UnicodeDecodeError:
        return None
    texts = text.split("\0")
    return texts if len(texts) == n and "\ufeff" not in text else None
