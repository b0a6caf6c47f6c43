"""Files in many forms of HDF5 storage, for the structure reader: small ones by chance, large ones by design."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5f, h5p
from hypothesis import strategies as st

LIBVERS = ("earliest", "v108", "v110", "v112", "v114", "v200", "latest")
LOWEST = dict(
    zip(
        LIBVERS,
        (
            h5f.LIBVER_EARLIEST,
            h5f.LIBVER_V18,
            h5f.LIBVER_V110,
            h5f.LIBVER_V112,
            h5f.LIBVER_V114,
            h5f.LIBVER_V200,
            h5f.LIBVER_LATEST,
        ),
        strict=True,
    )
)
DTYPES = ("<f4", ">f4", ">f8", "<f2", ">f2", "u1", "i1", "<i8", ">i2", ">u8", "<u4", "bool", "V5", "S7")
FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"compression": "gzip", "compression_opts": 1},
    {"compression": "gzip", "shuffle": True},
    {"compression": "lzf"},
    {"fletcher32": True},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    {"scaleoffset": 0},
)
TEXTS = ("vlen", "vlen ascii", "fixed", "fixed utf-8", "one vlen", "several vlen", "bytes", "opaque", "vlen bytes")
LAYOUTS = ("contiguous", "whole", "pieces", "extendible", "two extendible", "limited", "early", "compact", "unwritten")


@dataclass(frozen=True)
class Form:
    """How one file is written."""

    libver: str
    track_order: bool
    userblock: int
    n_cells: int
    layout: str
    filters: dict[str, Any]
    dtype: str
    text: str
    n_attributes: int
    n_containers: int
    resized: bool
    seed: int
    width: int = 8
    """Bytes of an address and of a length."""


forms = st.builds(
    Form,
    libver=st.sampled_from(LIBVERS),
    track_order=st.booleans(),
    userblock=st.sampled_from((0, 0, 512, 2048)),
    n_cells=st.integers(1, 40),
    layout=st.sampled_from(LAYOUTS),
    filters=st.sampled_from(FILTERS),
    dtype=st.sampled_from(DTYPES),
    text=st.sampled_from(TEXTS),
    n_attributes=st.sampled_from((0, 2, 12)),
    n_containers=st.integers(1, 3),
    resized=st.booleans(),
    seed=st.integers(0, 2**16),
    width=st.sampled_from((8, 8, 4)),
)


def make(path: Path, form: Form) -> None:
    """Write a file in a form."""
    rng = np.random.default_rng(form.seed)
    with created(
        path, form.libver, form.width, form.width, userblock=form.userblock, track_order=form.track_order
    ) as root:
        containers = [
            root,
            *(root.create_group(f"slide_{i}", track_order=form.track_order) for i in range(1, form.n_containers)),
        ]
        names = rng.permutation(form.n_cells)
        first = None
        for number in names.tolist():
            home = containers[number % len(containers)]
            cell = home.create_group(f"Cell_{number}", track_order=form.track_order)
            first = _cell(cell, number, form, rng, first)


def created(path: Path, libver: str, *widths: int, userblock: int = 0, track_order: bool = False) -> h5py.File:
    """Return a new file; `widths` are the bytes of an address and of a length."""
    creation, access = h5p.create(h5p.FILE_CREATE), h5p.create(h5p.FILE_ACCESS)
    creation.set_sizes(*widths)
    creation.set_userblock(userblock)
    if track_order:
        creation.set_link_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
        creation.set_attr_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
    access.set_libver_bounds(LOWEST[libver], h5f.LIBVER_LATEST)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    return h5py.File(h5f.create(str(path).encode(), h5f.ACC_TRUNC, creation, access))


def _cell(cell: h5py.Group, number: int, form: Form, rng: np.random.Generator, first: Any) -> Any:
    store(cell, "expression", values(rng, (50 + number % 3,), form.dtype), form)
    images = cell.create_group("images")
    if number % 4:
        store(images, "cell_patch", values(rng, (8, 8, 3), "u1"), form)
    store(images, "tissue_patch", values(rng, (9, 7, 3), form.dtype), form)
    if first is None:
        first = store(images, "WSI_patch", values(rng, (6, 6, 3), "u1"), form)
    else:
        images["WSI_patch"] = first
    text(cell, "attributes.json", json.dumps({"source": "x" * (number % 50), "é": number}), form)
    text(cell, "caption.txt", f"a cell µ {number}" * (number % 5), form)
    matrix = cell.create_group("CCC")
    for name in ("data", "indices", "indptr"):
        store(matrix, name, values(rng, (number % 7,), "<i4"), form)
    matrix.attrs["encoding-type"] = "csr_matrix"
    matrix.attrs["shape"] = np.array([1, form.n_cells])
    for k in range(form.n_attributes):
        cell.attrs[f"note_{k}"] = k * 1.5 if k % 2 else "word" * k
    if number % 5 == 0:
        cell["extra"] = np.arange(3)
    return first


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    kind = np.dtype(dtype)
    if kind.kind in "VS":
        letters = rng.integers(65, 90, kind.itemsize * int(np.prod(shape))).astype("u1")
        return letters.view(kind).reshape(shape)
    return rng.integers(0, 100, shape).astype(kind)


def store(group: h5py.Group, name: str, array: np.ndarray[Any, Any], form: Form) -> h5py.Dataset:
    """Write an array in the layout of a form."""
    layout = form.layout if array.size else "contiguous"
    if form.width < 8 and "extendible" in layout:  # libhdf5 itself does not read back axes without a limit
        layout = "limited"
    half = tuple(max(1, n // 2) for n in array.shape)
    last = None if layout == "extendible" else 2 * array.shape[-1]
    options: dict[str, Any] = {}
    if layout in ("contiguous", "compact", "unwritten"):
        return _plain(group, name, array, layout)
    if layout == "whole":
        options = {"chunks": array.shape}
    elif layout in ("pieces", "early"):
        options = {"chunks": half}
    elif layout == "extendible":
        options = {"chunks": half, "maxshape": (*array.shape[:-1], last)}
    elif layout == "two extendible":
        options = {"chunks": half, "maxshape": (None,) * array.ndim}
    elif layout == "limited":
        options = {"chunks": half, "maxshape": tuple(3 * n for n in array.shape)}
    if layout == "early":
        return _early(group, name, array, half)
    whole = array.dtype.kind in "iu"  # what scaleoffset keeps without loss
    filters = {key: value for key, value in form.filters.items() if whole or key != "scaleoffset"}
    dataset = group.create_dataset(name, data=array, **options, **filters)
    if form.resized and "maxshape" in options and layout != "early":
        dataset.resize((*array.shape[:-1], array.shape[-1] * 2))
    return dataset


def _plain(group: h5py.Group, name: str, array: np.ndarray[Any, Any], layout: str) -> h5py.Dataset:
    if layout == "contiguous":
        return group.create_dataset(name, data=array)
    if layout == "unwritten":
        filled = array.dtype.kind in "iuf"
        return group.create_dataset(name, array.shape, array.dtype, fillvalue=7 if filled else None)
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    return _create(group, name, array, plist)


def _early(group: h5py.Group, name: str, array: np.ndarray[Any, Any], chunk: tuple[int, ...]) -> h5py.Dataset:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(chunk)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    return _create(group, name, array, plist)


def _create(group: h5py.Group, name: str, array: np.ndarray[Any, Any], plist: Any) -> h5py.Dataset:
    space, kind = h5py.h5s.create_simple(array.shape), h5py.h5t.py_create(array.dtype, logical=True)
    dataset = h5py.Dataset(h5py.h5d.create(group.id, name.encode(), kind, space, plist))
    dataset[...] = array
    return dataset


def text(group: h5py.Group, name: str, value: str, form: Form) -> None:
    """Write text in the spelling of a form."""
    raw = value.encode()
    match form.text:
        case "vlen":
            group.create_dataset(name, data=value, dtype=h5py.string_dtype())
        case "vlen ascii":
            group.create_dataset(name, data=raw, dtype=h5py.string_dtype("ascii"))
        case "fixed":
            group.create_dataset(name, data=np.bytes_(raw or b" "))
        case "fixed utf-8":
            group.create_dataset(name, data=raw or b" ", dtype=h5py.string_dtype("utf-8", len(raw) + 1))
        case "one vlen":
            group.create_dataset(name, data=[value], dtype=h5py.string_dtype())
        case "several vlen":
            group.create_dataset(name, data=[value, "", value[:7]], dtype=h5py.string_dtype())
        case "bytes":
            group.create_dataset(name, data=np.frombuffer(raw, "u1"))
        case "opaque":
            group.create_dataset(name, data=np.void(raw or b" "))
        case "vlen bytes":
            dataset = group.create_dataset(name, (1,), h5py.vlen_dtype(np.uint8))
            dataset[0] = np.frombuffer(raw, "u1")
