"""Draw the array parts of a record: the ways expression, gene names and images are stored."""

import gzip
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
from hypothesis import strategies as st
from numpy.typing import NDArray

# --- storage of one dataset ------------------------------------------------------------------------------------------

STORAGE: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "gzip": {"compression": "gzip", "compression_opts": 4},
    "gzip shuffle": {"compression": "gzip", "shuffle": True},
    "lzf": {"compression": "lzf"},
    "lzf shuffle": {"compression": "lzf", "shuffle": True},
    "fletcher32": {"fletcher32": True},
    "gzip shuffle fletcher32": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "chunked": {"chunks": True},
    "small chunks": {"chunks": 3},
    "small chunks gzip": {"chunks": 3, "compression": "gzip"},
    "resizable": {"maxshape": True},
    "resizable gzip": {"maxshape": True, "compression": "gzip"},
    "unwritten zeros": {},
}


def write_array(group: h5py.Group, key: str, values: NDArray[Any], storage: str) -> None:
    """Store `values` below `key`; empty and scalar arrays are stored without filters."""
    options = dict(STORAGE[storage]) if values.ndim and values.size else {}
    if options.get("chunks") == 3:
        options["chunks"] = tuple(min(3, n) for n in values.shape)
    if options.get("maxshape"):
        options["maxshape"] = (None,) * values.ndim
    if storage == "unwritten zeros" and not values.any():
        group.create_dataset(key, shape=values.shape, dtype=values.dtype, **options)
    else:
        group.create_dataset(key, data=values, **options)


# --- expression ------------------------------------------------------------------------------------------------------

EXPRESSION_FORMS = ("1d", "1d", "1d", "row", "vector", "csr", "csc", "10x", "bare csr", "bare csc")
NEED_GENES = ("vector", "bare csr", "bare csc")
"""Forms that do not state how many genes there are."""
COUNT_DTYPES = ("u1", "i1", "u2", "i2", "<i4", ">i4", "u4", "i8", "f2", "f4", "f8", ">f4")
FLOAT_DTYPES = ("f2", "f4", "f8", ">f4", ">f8")


@dataclass(frozen=True)
class ExpressionSpelling:
    """How one cell's expression is stored."""

    form: str = "1d"
    dtype: str = "f4"
    storage: str = "contiguous"
    index_dtype: str = "i4"
    shuffled: bool = False

    def write(self, cell: h5py.Group, values: NDArray[Any]) -> None:
        """Store `values` as `expression` of `cell`."""
        values = values.astype(self.dtype)
        if self.form == "1d":
            write_array(cell, "expression", values, self.storage)
        elif self.form == "row":
            write_array(cell, "expression", values[None], self.storage)
        else:
            self._write_sparse(cell.create_group("expression"), values)

    def _write_sparse(self, group: h5py.Group, values: NDArray[Any]) -> None:
        indices = np.flatnonzero(values)
        if self.shuffled and self.form not in ("csc", "bare csc"):
            indices = indices[::-1]
        data, n_genes = values[indices], len(values)
        indptr = np.array([0, len(indices)])
        if self.form in ("csc", "bare csc"):
            indptr = np.concatenate([[0], np.cumsum(values != 0)])
            indices = np.zeros_like(indices)
        write_array(group, "data", data, self.storage)
        write_array(group, "indices", indices.astype(self.index_dtype), self.storage)
        if self.form != "vector":
            write_array(group, "indptr", indptr.astype(self.index_dtype), "contiguous")
        if self.form in ("csr", "csc"):
            group.attrs["encoding-type"] = f"{self.form}_matrix"
            group.attrs["encoding-version"] = "0.1.0"
            group.attrs["shape"] = np.array([1, n_genes])
        if self.form == "10x":
            group.create_dataset("shape", data=np.array([n_genes, 1], dtype="i4"))


@st.composite
def expression_spellings(draw: st.DrawFn, *, lognorm: bool, genes_named: bool) -> ExpressionSpelling:
    """Draw how one cell's expression is stored."""
    forms = [form for form in EXPRESSION_FORMS if genes_named or form not in NEED_GENES]
    return ExpressionSpelling(
        draw(st.sampled_from(forms)),
        draw(st.sampled_from(FLOAT_DTYPES if lognorm else COUNT_DTYPES)),
        draw(st.sampled_from(sorted(STORAGE))),
        draw(st.sampled_from(["i4", "i8", "u4"])),
        draw(st.booleans()),
    )


def expression_values(rng: np.random.Generator, n_genes: int, spelling: ExpressionSpelling, *, lognorm: bool) -> Any:
    """Return values that `spelling` holds exactly: whole numbers, or at least one that is not (or all zero)."""
    if rng.random() < 0.1:
        return np.zeros(n_genes, spelling.dtype)
    values = rng.integers(0, 100, n_genes) * (rng.random(n_genes) < 0.6)
    if not lognorm:
        return values.astype(spelling.dtype)
    fractions = rng.random(n_genes) if spelling.dtype.endswith("f8") else rng.integers(1, 8, n_genes) / 8
    values = np.where(values > 0, values // 10 + fractions, 0)
    if not values.any():
        values[rng.integers(n_genes)] = 1.125
    return values.astype(spelling.dtype)


# --- gene names ------------------------------------------------------------------------------------------------------

GENE_KEYS = ("genes", "gene_names", "gene_list", "var_names", "features")
BESIDE = ("{stem}.genes", "{stem}_genes", "genes", "gene_list", "features")
_HARD_GENES = ("NA", "nan", "null", "7SK", "1-Mar", "HLA-DRA", "True", "12", "1e5", "AC000001.1", "β2M")


@dataclass(frozen=True)
class GeneSpelling:
    """Where the gene names are and in which form."""

    place: str = "root dataset"
    key: str = "gene_names"
    form: str = "vlen"
    file: str = ""

    @property
    def has_ids(self) -> bool:
        """Whether gene ids and feature types are stored along with the names."""
        return self.form.startswith("10x") or self.place == "canonical"

    def write_root(self, root: h5py.File, names: list[str], ids: list[str], types: list[str]) -> None:
        """Store what belongs in the root group."""
        if self.place == "canonical":
            for key, values in {"gene_names": names, "gene_ids": ids, "feature_types": types}.items():
                root.create_dataset(key, data=np.array(values, dtype=object), dtype=h5py.string_dtype())
        elif self.place == "root dataset":
            root.create_dataset(self.key, data=self._array(names))
        elif self.place == "root attribute":
            root.attrs[self.key] = self._array(names)

    def write_cell(self, cell: h5py.Group, names: list[str]) -> None:
        """Store what belongs in each cell."""
        if self.place == "cell":
            cell.create_dataset("gene_names", data=self._array(names))

    def _array(self, names: list[str]) -> NDArray[Any]:
        if self.form == "fixed":
            raw = [name.encode() for name in names]
            return np.array(raw, dtype=h5py.string_dtype("utf-8", max(map(len, raw))))
        return np.array(names, dtype=h5py.string_dtype())

    def write_file(self, folder: Path, stem: str, names: list[str], ids: list[str], types: list[str]) -> Path | None:
        """Store the gene-list file, if there is one, and return its path."""
        if self.place not in ("beside", "argument"):
            return None
        path = folder / self.file.format(stem=stem)
        path.parent.mkdir(exist_ok=True)
        rows = ["\t".join(row) for row in zip(ids, names, types, strict=True)] if self.has_ids else names
        text = json.dumps(names) if ".json" in path.name else "\n".join(rows) + "\n"
        if self.form == "header":
            text = "gene_name\n" + text
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
        return path


_FILE_FORMS = (
    ("lines", ".txt"),
    ("lines", ".csv"),
    ("header", ".csv"),
    ("lines", ".tsv"),
    ("json", ".json"),
    ("10x", ".tsv"),
    ("10x", ".tsv.gz"),
    ("lines", ".txt.gz"),
)


@st.composite
def gene_spellings(draw: st.DrawFn) -> GeneSpelling:
    """Draw where the gene names are."""
    place = draw(st.sampled_from(["root dataset", "root attribute", "cell", "beside", "argument", "none"]))
    if place in ("beside", "argument"):
        form, suffix = draw(st.sampled_from(_FILE_FORMS))
        base = draw(st.sampled_from(BESIDE))
        if base == "features":
            form, suffix = "10x", draw(st.sampled_from([".tsv", ".tsv.gz"]))
        folder = "elsewhere/" if place == "argument" else ""
        return GeneSpelling(place, "", form, folder + base + suffix)
    return GeneSpelling(place, draw(st.sampled_from(GENE_KEYS)), draw(st.sampled_from(["vlen", "fixed"])))


@st.composite
def gene_names(draw: st.DrawFn, n_genes: int) -> list[str]:
    """Draw gene names, some of them hard to keep, some of them twice."""
    names = [f"GENE{i}" for i in range(n_genes)]
    for i in draw(st.lists(st.integers(0, n_genes - 1), max_size=3, unique=True)):
        names[i] = draw(st.sampled_from(_HARD_GENES))
    return names


# --- images ----------------------------------------------------------------------------------------------------------

IMAGE_FORMS = ("rgb", "rgb", "rgba", "grey", "chw", "float rgb", "float grey", "encoded")


@dataclass(frozen=True)
class ImageSpelling:
    """How the patches of one level are stored."""

    form: str = "rgb"
    storage: str = "contiguous"
    container: str = "uint8"
    float_dtype: str = "f4"
    formats: tuple[str, ...] = ("PNG",)

    @property
    def channels(self) -> int:
        """Number of channels of the true image."""
        return {"rgba": 4, "grey": 1, "float grey": 1}.get(self.form, 3)

    @property
    def is_float(self) -> bool:
        """Whether pixels are stored as floats in 0-1."""
        return self.form.startswith("float")

    def store(self, pixels: NDArray[np.uint8], number: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Return the array or bytes to store for `pixels`, and the pixels that these hold."""
        if self.form == "encoded":
            return encode_image(pixels, self.formats[number % len(self.formats)])
        stored: NDArray[Any] = pixels[..., 0] if self.channels == 1 else pixels
        if self.form == "chw":
            stored = np.moveaxis(stored, -1, 0)
        if self.is_float:
            stored = (stored / 255).astype(self.float_dtype)
        return np.ascontiguousarray(stored), pixels

    def write(self, group: h5py.Group, key: str, stored: NDArray[Any]) -> None:
        """Store what `store` returned below `key`."""
        if self.form != "encoded" or self.container == "uint8":
            write_array(group, key, stored, self.storage)
        elif self.container == "opaque":
            group.create_dataset(key, data=np.void(stored.tobytes()))
        else:
            shape = (1,) if self.container == "vlen (1,)" else ()
            group.create_dataset(key, shape=shape, dtype=h5py.vlen_dtype(np.uint8))
            group[key][0 if shape else ()] = stored


def encode_image(pixels: NDArray[np.uint8], image_format: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the bytes of `pixels` in `image_format`, and the pixels Pillow reads from them."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format)
    raw = np.frombuffer(buffer.getvalue(), np.uint8)
    return raw, np.asarray(Image.open(buffer))


@st.composite
def image_spellings(draw: st.DrawFn) -> ImageSpelling:
    """Draw how the patches of one level are stored."""
    return ImageSpelling(
        draw(st.sampled_from(IMAGE_FORMS)),
        draw(st.sampled_from(sorted(STORAGE))),
        draw(st.sampled_from(["uint8", "opaque", "vlen", "vlen (1,)"])),
        draw(st.sampled_from(["f2", "f4", "f8"])),
        tuple(draw(st.lists(st.sampled_from(["PNG", "TIFF", "JPEG"]), min_size=1, max_size=3))),
    )


# --- matrices --------------------------------------------------------------------------------------------------------


def write_matrix(parent: h5py.Group, key: str, matrix: NDArray[Any], encoding: str, *, dtype: str = "f4") -> Any:
    """Store a 2-D `matrix` below `key` in one of the encodings of CCC; return the group or dataset."""
    matrix = matrix.astype(dtype)
    if encoding == "dense":
        return parent.create_dataset(key, data=matrix)
    if encoding == "vector":
        return parent.create_dataset(key, data=matrix[0])
    group = parent.create_group(key)
    if encoding == "data+indices":
        indices = np.flatnonzero(matrix[0])
        parts = {"data": matrix[0][indices], "indices": indices.astype("i4")}
    elif encoding == "coo":
        row, col = np.nonzero(matrix)
        parts = {"row": row.astype("i4"), "col": col.astype("i4"), "data": matrix[row, col]}
    else:
        made = sp.csr_matrix(matrix) if encoding == "csr" else sp.csc_matrix(matrix)
        parts = {"data": made.data, "indices": made.indices.astype("i4"), "indptr": made.indptr.astype("i4")}
    for name, values in parts.items():
        group.create_dataset(name, data=values)
    if encoding in ("csr", "csc"):
        group.attrs["encoding-type"] = f"{encoding}_matrix"
        group.attrs["encoding-version"] = "0.1.0"
    if encoding == "10x":
        group.create_dataset("shape", data=np.array(matrix.shape, dtype="i4"))
    else:
        group.attrs["shape"] = np.array(matrix.shape)
    return group
