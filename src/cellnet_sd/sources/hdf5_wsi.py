"""Telling WSI images apart without decoding each: cells of one slide store the same image, linked or copied."""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5g, h5o, h5t
from numpy.typing import NDArray

from cellnet_sd.components.images.spelling import FirstLook
from cellnet_sd.errors import MissingDependencyError
from cellnet_sd.layout import Component
from cellnet_sd.sources.base import Raw
from cellnet_sd.sources.hdf5_objects import check_dataset, open_member, read_dataset

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
    look: FirstLook = field(default_factory=FirstLook)

    def number(self, dataset: h5d.DatasetID) -> int:
        """Return the number of a stored image.

        Raises
        ------
        ValueError
            If it is no image: that is no sign of another slide.
        """
        address = h5o.get_info(dataset).addr
        if address not in self.of_address:
            signature = sampled_signature(dataset)
            if signature not in self.of_signature:
                _check_image(dataset, self.look)
                number = self.of_signature.setdefault(signature, len(self.of_signature))
                self.first[number] = dataset
            number = self.of_address[address] = self.of_signature[signature]
            self.last[number] = dataset
        return self.of_address[address]

    @property
    def are_sure(self) -> bool:
        """Whether the first and the last image of each number are equal in full."""
        pairs = ((first, self.last[number]) for number, first in self.first.items())
        return all(first == last or _content(first) == _content(last) for first, last in pairs)


def numbered_in_full(file: h5py.File, cells: Sequence[str]) -> NDArray[np.int32]:
    """Return the numbers of the WSI images of `cells` (paths of groups) by all their bytes."""
    of_content: dict[bytes, int] = {}
    of_address: dict[int, int] = {}
    numbers = []
    for cell in cells:
        dataset = open_member(h5g.open(file.id, b"/"), f"{cell}/{Component.WSI_PATCH}")
        address = h5o.get_info(dataset).addr
        if address not in of_address:
            digest = hashlib.blake2b(_content(dataset), digest_size=16).digest()
            of_address[address] = of_content.setdefault(digest, len(of_content))
        numbers.append(of_address[address])
    return np.array(numbers, dtype=np.int32)


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


def _check_image(dataset: h5d.DatasetID, look: FirstLook) -> None:
    check_dataset(dataset)
    is_array = dataset.get_type().get_class() == h5t.INTEGER
    outline = look.outline(str(dataset.dtype), dataset.shape) if is_array else None
    with contextlib.suppress(MissingDependencyError):  # an image all the same, for all that can be told
        look.check(outline or Raw(read_dataset(dataset)))
