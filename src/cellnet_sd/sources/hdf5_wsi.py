"""Telling WSI images apart without decoding each: cells of one slide store the same image, linked or copied."""

import contextlib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from h5py import h5d, h5o
from numpy.typing import NDArray

from cellnet_sd.components.images.spelling import FirstLook
from cellnet_sd.sources.base import Raw
from cellnet_sd.sources.hdf5_objects import ObjectError, read_dataset

_PIECES = 16
_PIECE = 256
Signature = tuple[int, bytes]


@dataclass
class WsiImages:
    """Numbers for the distinct WSI images of a file, as they are met.

    Images are the same at equal addresses, else by equal stored length and a hash of 4 KiB of the stored bytes, spread
    over them (their beginnings are white). One pair per hash is compared in full at the end.
    """

    of_address: dict[int, int] = field(default_factory=dict)
    of_signature: dict[Signature, int] = field(default_factory=dict)
    first: dict[int, h5d.DatasetID] = field(default_factory=dict)
    last: dict[int, h5d.DatasetID] = field(default_factory=dict)

    def number(self, dataset: h5d.DatasetID) -> int:
        """Return the number of a stored object, which is still to be seen to be an image.

        Raises
        ------
        ObjectError
            If it cannot be read.
        """
        address = h5o.get_info(dataset).addr
        if address not in self.of_address:
            signature = sampled_signature(dataset)
            number = self.of_address[address] = self.of_signature.setdefault(signature, len(self.of_signature))
            self.first.setdefault(number, dataset)
            self.last[number] = dataset
        return self.of_address[address]

    @property
    def are_sure(self) -> bool:
        """Whether the first and the last image of each number are equal in full."""
        pairs = ((first, self.last[number]) for number, first in self.first.items())
        return all(first == last or digest_of_dataset(first) == digest_of_dataset(last) for first, last in pairs)


def numbered_in_full(datasets: Iterable[h5d.DatasetID]) -> NDArray[np.int32]:
    """Return the numbers of stored objects by all their bytes, as they are met."""
    of_content: dict[bytes, int] = {}
    of_address: dict[int, int] = {}
    numbers = []
    for dataset in datasets:
        address = h5o.get_info(dataset).addr
        if address not in of_address:
            of_address[address] = of_content.setdefault(digest_of_dataset(dataset), len(of_content))
        numbers.append(of_address[address])
    return np.array(numbers, dtype=np.int32)


def faults_of(datasets: Iterable[h5d.DatasetID]) -> list[str | None]:
    """Return why stored objects are no images, `None` for those that are for all that can be told."""
    look = FirstLook()
    return [look.fault(str(dataset.dtype), dataset.shape, partial(_raw, dataset)) for dataset in datasets]


def _raw(dataset: h5d.DatasetID) -> Raw:
    return Raw(read_dataset(dataset))


def sampled_signature(dataset: h5d.DatasetID) -> Signature:
    """Return the stored length of a dataset and a hash of up to 4 KiB spread over its stored bytes."""
    if dataset.get_create_plist().get_layout() == h5d.CHUNKED and (n_chunks := dataset.get_num_chunks()):
        chosen = np.unique(np.linspace(0, n_chunks - 1, min(n_chunks, _PIECES)).astype(int)).tolist()
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            # HDF5 2.0 names wrong offsets of chunks where a later axis is the unlimited one: then by what is decoded
            pieces = (dataset.read_direct_chunk(dataset.get_chunk_info(at).chunk_offset)[1] for at in chosen)
            stored = b"".join(map(_middle, pieces))
            return dataset.get_storage_size(), hashlib.blake2b(stored, digest_size=16).digest()
    content = _content(dataset)
    starts = np.linspace(0, max(0, len(content) - _PIECE), _PIECES).astype(int).tolist()
    stored = b"".join(content[start : start + _PIECE] for start in starts)
    return len(content), hashlib.blake2b(stored, digest_size=16).digest()


def _middle(chunk: bytes) -> bytes:
    start = max(0, (len(chunk) - _PIECE) // 2)
    return bytes(chunk[start : start + _PIECE])


def _content(dataset: h5d.DatasetID) -> bytes:
    """Return the decoded bytes of a dataset."""
    return content_of(read_dataset(dataset))


def content_of(array: NDArray[Any]) -> bytes:
    """Return all bytes of a decoded array, those that its elements point to among them."""
    if array.dtype == object:
        return b"".join(bytes(item) for item in array.reshape(-1))
    return np.ascontiguousarray(array).tobytes()


def digest_of(content: bytes) -> bytes:
    """Return a hash of the bytes of an image."""
    return hashlib.blake2b(content, digest_size=16).digest()


def digest_of_dataset(dataset: h5d.DatasetID) -> bytes:
    """Return a hash of the decoded bytes of a dataset, or of the reason why they cannot be read."""
    try:
        return digest_of(_content(dataset))
    except ObjectError as error:
        return digest_of(str(error).encode())
