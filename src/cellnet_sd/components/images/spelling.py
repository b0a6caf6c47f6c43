"""One stored patch, in any of its spellings, to an array (H, W, C)."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.images.encoded import NotAnImageError, decode_bytes, outline_of_bytes, sniff
from cellnet_sd.errors import MissingDependencyError
from cellnet_sd.sources.base import Raw, Unreadable

GREY: Final = "(H, W) arrays"
CHANNELS_LAST: Final = "(H, W, C) arrays"
CHANNELS_FIRST: Final = "(C, H, W) arrays"
_CHANNELS: Final = (1, 3, 4)
_PIXELS: Final = frozenset({"uint8", "float16", "float32", "float64", ">f2", ">f4", ">f8"})
_LOOKED_AT: Final = 2**28
"""Bytes of whole images that are decoded to see whether they are images: deflated ones may be a thousand times more."""


class Reading(NamedTuple):
    """One stored patch as an array (H, W, C), and how it was stored; as stored where its axes are ambiguous."""

    array: NDArray[Any]
    stored: str
    ambiguous: bool = False

    def in_order(self, order: str) -> "Reading":
        """Return an ambiguous patch read in one of the two axis orders."""
        array = np.moveaxis(self.array, 0, -1) if order == CHANNELS_FIRST else self.array
        return Reading(array, order)

    def outline(self) -> "Reading":
        """Return it with zeros in place of the pixels, which take no memory."""
        return self._replace(array=np.broadcast_to(np.zeros((), self.array.dtype), self.array.shape))


def outline_of(dtype: str | None, shape: Sequence[int] | None) -> Raw | None:
    """Return what reads as a whole image of this dtype and shape does, without its pixels: zeros that take no memory.

    `None` where only what is stored tells, as of encoded bytes. Whether floats lie in 0-1 is not seen.
    """
    if dtype not in _PIXELS or shape is None or len(shape) < 2:
        return None
    return Raw(np.broadcast_to(np.zeros((), dtype), tuple(shape)))


class FirstLook:
    """Which of the whole images of a file are decoded when it is indexed: those that fit into 256 MiB, as they come.

    Damage of the others shows when they are read.
    """

    def __init__(self) -> None:
        self._left = _LOOKED_AT

    def fault(self, dtype: str, shape: Sequence[int] | None, read: Callable[[], Raw | Unreadable]) -> str | None:
        """Return why a stored object is no image; `None` if it is one, for all that can be told.

        Parameters
        ----------
        dtype, shape
            Of the dataset.
        read
            Returns what it stores.
        """
        try:
            self._look(dtype, shape, read)
        except MissingDependencyError:
            return None
        except ValueError as error:
            return str(error)
        return None

    def _look(self, dtype: str, shape: Sequence[int] | None, read: Callable[[], Raw | Unreadable]) -> None:
        """Look at a stored object as at an image: at its pixels, or at its form or header alone."""
        outline = outline_of(dtype, shape)
        raw = read() if outline is None else outline
        nbytes = outline_patch(raw).array.nbytes
        if nbytes <= self._left:
            self._left -= nbytes
            read_patch(raw if outline is None else read())


def read_patch(raw: Raw | Unreadable) -> Reading:
    """Return one patch as an array of uint8, or of float in 0-1.

    Raises
    ------
    NotAnImageError
        With the reason.
    """
    return _read(raw, decode_bytes)


def outline_patch(raw: Raw | Unreadable) -> Reading:
    """Return one patch as `read_patch` does; zeros stand for the pixels of encoded ones, whose headers say enough.

    Raises
    ------
    NotAnImageError
        As `read_patch`, but for encoded bytes that are damaged behind their header.
    """
    return _read(raw, outline_of_bytes)


def _value(raw: Raw | Unreadable) -> NDArray[Any]:
    if isinstance(raw, Unreadable):
        raise NotAnImageError(raw)
    if raw.value is None:
        msg = "a group where an image is expected"
        raise NotAnImageError(msg)
    return raw.value


def _read(raw: Raw | Unreadable, of_bytes: Callable[[bytes], NDArray[Any]]) -> Reading:
    value = _value(raw)
    data = _encoded(value)
    if data is None:
        return with_axes(checked(value))
    read = with_axes(checked(of_bytes(data)), channels_last=True)
    return read._replace(stored=f"{sniff(data)} bytes")


def _encoded(value: NDArray[Any]) -> bytes | None:
    """Return the bytes of an encoded image, or None where `value` is an array of pixels."""
    if value.dtype.kind == "O" and value.size == 1:
        value = np.atleast_1d(_element_bytes(value.item()))
    if value.dtype.kind in "SV" and value.dtype.names is None and (value.ndim == 1 or value.size == 1):
        return value.tobytes()
    if value.dtype == np.uint8 and value.ndim == 1:
        return value.tobytes()
    return None


def _element_bytes(element: Any) -> Any:
    """Return the one element of a variable-length dataset in a form that numpy keeps whole."""
    if isinstance(element, bytes):
        return np.frombuffer(element, dtype=np.uint8)
    return element


def checked(array: NDArray[Any]) -> NDArray[Any]:
    """Return `array` in native byte order if it is uint8 or float in 0-1."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        msg = f"{array.dtype} pixels of shape {array.shape}; uint8, or float in 0-1, is expected"
        raise NotAnImageError(msg)
    # Written so that NaN fails too.
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        msg = f"{array.dtype} pixels from {array.min():.4g} to {array.max():.4g}, outside 0-1"
        raise NotAnImageError(msg)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def with_axes(array: NDArray[Any], *, channels_last: bool = False) -> Reading:
    """Return `array` as (H, W, C), or marked as ambiguous."""
    shape = array.shape
    if array.ndim == 2 and array.size:
        return Reading(array[:, :, None], GREY)
    last = array.ndim == 3 and shape[2] in _CHANNELS
    first = array.ndim == 3 and shape[0] in _CHANNELS and not channels_last
    if not array.size or not (last or first):
        msg = f"shape {shape} is not that of an image"
        raise NotAnImageError(msg)
    if last and first and (shape[0] == shape[1]) == (shape[1] == shape[2]):
        return Reading(array, CHANNELS_LAST, ambiguous=shape != (1, 1, 1))
    # Where both fit, a square one is taken: windows around a cell are.
    if last and not (first and shape[1] == shape[2]):
        return Reading(array, CHANNELS_LAST)
    return Reading(np.moveaxis(array, 0, -1), CHANNELS_FIRST)
