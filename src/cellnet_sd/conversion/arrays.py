"""The arrays of a Zarr store: made empty, with chunks and shards of sensible sizes, then filled region by region."""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

SHARD_BYTES: Final = 16 * 2**20
"""About what a shard holds before compression: few files, yet little to rewrite and to fetch."""
VALUE_CHUNK: Final = 2**16
"""Values of a sparse matrix per chunk: what is decompressed at least to read a row."""
VALUE_SHARD: Final = 2**22
_COMPRESSION_LEVEL: Final = 3


def make_array(
    path: Path,
    shape: Sequence[int],
    dtype: Any,
    *,
    chunks: Sequence[int],
    shards: Sequence[int] | None = None,
    fill: float = 0,
    like: dict[str, Any] | None = None,
) -> None:
    """Make an array that holds nothing but its fill value, in the place of one that is there.

    Parameters
    ----------
    path
        Its folder.
    shape, dtype, chunks, shards
        As Zarr has them, `str` for texts; shards are made of whole chunks, and parts of a shard must be written by one
        writer.
    fill
        What is not stored: chunks that hold nothing else are left out. Of texts, the empty one.
    like
        Attributes, and `dimension_names`, of the array that was there.
    """
    import zarr
    from zarr.codecs import ZstdCodec

    about = like or {}
    zarr.create_array(
        zarr.storage.LocalStore(path),
        shape=tuple(shape),
        dtype=dtype,
        chunks=tuple(chunks),
        shards=None if shards is None else tuple(shards),
        fill_value="" if dtype is str else np.dtype(dtype).type(fill).item(),
        compressors=[ZstdCodec(level=_COMPRESSION_LEVEL)],
        dimension_names=about.get("dimension_names"),
        attributes=about.get("attributes", {}),
        overwrite=True,
    )


def open_array(path: Path) -> Any:
    """Return an array of a store that is being filled."""
    import zarr

    return zarr.open_array(zarr.storage.LocalStore(path), mode="r+")


def about(path: Path) -> dict[str, Any]:
    """Return what `make_array` takes over from an array."""
    import zarr

    array = zarr.open_array(zarr.storage.LocalStore(path), mode="r")
    return {"attributes": dict(array.attrs), "dimension_names": getattr(array.metadata, "dimension_names", None)}


def fitting(length: int, most: int, multiple: int) -> int:
    """Return the largest multiple of `multiple` that is at most `most`, and no more than `length` needs."""
    needed = -(-length // multiple) * multiple
    return max(multiple, min(needed, most // multiple * multiple))


def items_per_shard(item_shape: Sequence[int], itemsize: int, chunk: int, length: int) -> int:
    """Return how many items of a stack go into a shard: whole chunks of them, of about `SHARD_BYTES`."""
    return fitting(length, max(chunk, SHARD_BYTES // max(1, prod(item_shape) * itemsize)), chunk)
