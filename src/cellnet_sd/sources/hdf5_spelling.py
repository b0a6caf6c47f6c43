"""How the parts of a canonical Cell-NET record are spelt in HDF5: arrays, texts and sparse matrices.

Property lists, types and spaces are made once and reused: that, and not the bytes, is what an object of a few hundred
bytes costs.
"""

import zlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5p, h5s, h5t
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse

DEFLATE_LEVEL: Final = 1
_INT32: Final = np.iinfo(np.int32)


class Stored(NamedTuple):
    """An array as it goes into the file: `deflated` is its one chunk, or `None` for contiguous storage."""

    array: NDArray[Any]
    deflated: bytes | None


def store(value: NDArray[Any], *, deflate: bool) -> Stored:
    """Return `value` ready to be written; deflated unless it is empty or a scalar, which no chunk can hold."""
    array = np.asarray(value, order="C")
    return Stored(array, zlib.compress(array, DEFLATE_LEVEL) if deflate and array.size and array.ndim else None)


class ObjectWriter:
    """Creates groups and datasets below an open group; `group` arguments and results are `h5py.h5g.GroupID`."""

    def __init__(self) -> None:
        self._text = h5t.py_create(h5py.string_dtype(), logical=True)
        self._text_in_memory = h5t.py_create(h5py.string_dtype())
        self._scalar = h5s.create(h5s.SCALAR)
        self._plain_group = _untimed(h5p.GROUP_CREATE)
        self._ordered_group = _untimed(h5p.GROUP_CREATE)
        self._ordered_group.set_link_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
        self._text_properties = _untimed(h5p.DATASET_CREATE)
        self._contiguous = _untimed(h5p.DATASET_CREATE)
        self._contiguous.set_fill_time(h5d.FILL_TIME_NEVER)
        self._utf8_link = h5p.create(h5p.LINK_CREATE)
        self._utf8_link.set_char_encoding(h5t.CSET_UTF8)
        self._chunked: dict[tuple[int, ...], Any] = {}
        self._spaces: dict[tuple[int, ...], Any] = {(): self._scalar}
        self._types: dict[np.dtype[Any], Any] = {}
        self._csr_texts = {
            b"encoding-type": np.array("csr_matrix", dtype=object),
            b"encoding-version": np.array("0.1.0", dtype=object),
        }

    def group(self, parent: Any, name: str, *, ordered: bool) -> Any:
        """Create a group; `ordered` tracks the order in which its members are created.

        Raises
        ------
        ValueError
            `name` is taken, or no legal name of a link.
        """
        if name in ("", ".") or "/" in name:
            msg = f"{name!r} is no legal name: it must not be empty, '.', or hold a '/'."
            raise ValueError(msg)
        properties = self._ordered_group if ordered else self._plain_group
        return h5g.create(parent, name.encode(), self._utf8_link, properties)

    def array(self, group: Any, name: bytes, stored: Stored) -> None:
        """Create a dataset: one deflated chunk, or contiguous."""
        array, deflated = stored
        kind, space = self._type_of(array.dtype), self._space(array.shape)
        if deflated is not None:
            dataset = h5d.create(group, name, kind, space, self._one_chunk(array.shape))
            dataset.write_direct_chunk((0,) * array.ndim, deflated)
            return
        dataset = h5d.create(group, name, kind, space, self._contiguous)
        if array.size:
            dataset.write(h5s.ALL, h5s.ALL, array, kind)

    def text(self, group: Any, name: bytes, text: str) -> None:
        """Create a scalar UTF-8 string of variable length."""
        dataset = h5d.create(group, name, self._text, self._scalar, self._text_properties)
        dataset.write(h5s.ALL, h5s.ALL, np.array(text, dtype=object), self._text_in_memory)

    def csr(self, parent: Any, name: str, matrix: "sparse.csr_matrix | sparse.csr_array") -> None:
        """Create a group that holds a CSR matrix in AnnData's spelling, contiguous, its entries in the order given.

        Raises
        ------
        ValueError
            `matrix` is not CSR.
        """
        if getattr(matrix, "format", None) != "csr":
            msg = f"{name} must be a scipy CSR matrix, not {type(matrix).__name__}."
            raise ValueError(msg)
        group = self.group(parent, name, ordered=False)
        for key, value in self._csr_texts.items():
            h5a.create(group, key, self._text, self._scalar).write(value, self._text_in_memory)
        shape = np.array(matrix.shape, dtype=np.int64)
        h5a.create(group, b"shape", self._type_of(shape.dtype), self._space((2,))).write(shape)
        self.array(group, b"data", Stored(_as_float32(matrix.data), None))
        self.array(group, b"indices", Stored(_as_int32(matrix.indices, matrix.shape[1]), None))
        self.array(group, b"indptr", Stored(_as_int32(matrix.indptr, matrix.nnz), None))

    def _one_chunk(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._chunked:
            properties = self._contiguous.copy()
            properties.set_chunk(shape)
            properties.set_deflate(DEFLATE_LEVEL)
            self._chunked[shape] = properties
        return self._chunked[shape]

    def _space(self, shape: tuple[int, ...]) -> Any:
        if len(shape) == 1:  # lengths of sparse vectors: too many to keep
            return h5s.create_simple(shape)
        if shape not in self._spaces:
            self._spaces[shape] = h5s.create_simple(shape)
        return self._spaces[shape]

    def _type_of(self, dtype: np.dtype[Any]) -> Any:
        if dtype.hasobject:
            msg = f"an array of dtype {dtype} has no numeric type to be stored as."
            raise TypeError(msg)
        if dtype not in self._types:
            self._types[dtype] = h5t.py_create(dtype, logical=True)
        return self._types[dtype]


def _untimed(kind: Any) -> Any:
    """Return creation properties that store no time stamps: equal content gives equal objects."""
    properties = h5p.create(kind)
    properties.set_obj_track_times(False)
    return properties


def _as_float32(data: NDArray[Any]) -> NDArray[Any]:
    """Return `data` as float32, unless its dtype has values that float32 has not."""
    return data.astype(np.float32, copy=False) if np.can_cast(data.dtype, np.float32) else data


def _as_int32(indices: NDArray[Any], largest: int) -> NDArray[Any]:
    return indices.astype(np.int32 if largest <= _INT32.max else np.int64, copy=False)
