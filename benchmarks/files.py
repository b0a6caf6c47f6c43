"""The files that are read: synthetic cells in the forms in which HDF5 may store them.

A file takes seconds to make: 200 distinct profiles and patches are made and deflated once, and the stored bytes are
written as they are (`write_direct_chunk`), cell by cell in turn. Names, attributes, positions, captions and CCC are of
each cell's own. The root states µm per pixel and the scale of the slide image, so that indexing does not measure them:
that is a fixed cost, of a second or so per file.
"""

import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any, Final, Literal, Self

import h5py
import numpy as np

from benchmarks.content import POOL, Item, Links, Pool, Texts, cell_names, links, make_pool, texts
from cellnet_sd.layout import TISSUE_WINDOW_UM
from cellnet_sd.sources.hdf5_sink import Stored
from cellnet_sd.sources.hdf5_spelling import ObjectWriter

Storage = Literal["gzip", "contiguous"]
Libver = Literal["earliest", "latest"]

_WSI_SCALE: Final = 16.0
_WARM_CELLS: Final = 16
_PIECE: Final = 2**23


@dataclass(frozen=True, slots=True)
class FileSpec:
    """A file to make.

    Parameters
    ----------
    cells, genes
        How many.
    storage
        `"gzip"`: expression and images are one deflated chunk each; `"contiguous"`: nothing is compressed.
    libver
        `"earliest"`: groups are symbol tables, as h5py makes them by default; `"latest"`: the newest structures of the
        installed HDF5, with tracked creation order.
    cell_side, tissue_side
        Sides of the patches, pixels.
    """

    cells: int
    genes: int
    storage: Storage = "gzip"
    libver: Libver = "latest"
    cell_side: int = 64
    tissue_side: int = 94

    @property
    def form(self) -> str:
        """How the file stores its cells, in words."""
        return f"{self.storage}, {self.libver}"

    @property
    def file_name(self) -> str:
        """A name that tells every field."""
        size = f"{self.cells}x{self.genes}-{self.cell_side}-{self.tissue_side}px"
        return f"{size}-{self.storage}-{self.libver}.h5"

    def tiny(self) -> Self:
        """Return the same form with few cells, to warm up on."""
        return replace(self, cells=min(self.cells, _WARM_CELLS))


def made(spec: FileSpec, folder: Path) -> Path:
    """Return the file of `spec` in `folder`, made unless it is there, and in memory as a first read leaves it."""
    path = folder / spec.file_name
    if not path.exists():
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            _write(spec, partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    _read_anew(path)
    return path


def _read_anew(path: Path) -> None:
    """Have the system forget a file and read it again.

    What HDF5 has just written lies in memory in the small pieces that it wrote, which cost whoever maps them twice as
    much as those of a file that was copied, or read from disk: and such are the files that are indexed.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while file.read(_PIECE):
            pass


def _write(spec: FileSpec, path: Path) -> None:
    n = min(POOL, spec.cells)
    pool = make_pool(n, spec.genes, spec.cell_side, spec.tissue_side, deflate=spec.storage == "gzip")
    ordered = spec.libver == "latest"
    with h5py.File(path, "w", libver=spec.libver, track_order=ordered) as file:
        file.attrs.update({"mpp": TISSUE_WINDOW_UM / spec.tissue_side, "wsi_scale": _WSI_SCALE})
        file.create_dataset("gene_names", data=np.array([f"GENE{n}" for n in range(spec.genes)], dtype=object))
        _CellWriter(file, pool, ordered=ordered).write(
            zip(cell_names(spec.cells), texts(spec.cells), links(spec.cells), strict=True)
        )


class _CellWriter:
    """Writes cells with HDF5's low-level calls; `ordered` tracks the order in which groups' members are created."""

    def __init__(self, file: h5py.File, pool: Pool, *, ordered: bool) -> None:
        self._file = file.id
        self._objects = ObjectWriter()
        self._arrays = cycle(zip(pool.profiles, pool.cell_patches, pool.tissue_patches, strict=True))
        self._wsi = pool.wsi
        self._ordered = ordered
        self._home: Any = None

    def write(self, cells: Iterable[tuple[str, Texts, Links]]) -> None:
        for (name, words, ccc), arrays in zip(cells, self._arrays, strict=False):
            cell = self._objects.group(self._file, name, ordered=self._ordered)
            self._write_arrays(cell, *arrays)
            self._objects.text(cell, b"attributes.json", words.attributes)
            self._objects.text(cell, b"caption.txt", words.caption)
            self._objects.csr(cell, "CCC", ccc)  # type: ignore[arg-type]  # it has the fields that are asked for

    def _write_arrays(self, cell: Any, profile: Item, cell_patch: Item, tissue_patch: Item) -> None:
        images = self._objects.group(cell, "images", ordered=self._ordered)
        self._objects.array(cell, b"expression", Stored(*profile))
        self._objects.array(images, b"cell_patch", Stored(*cell_patch))
        self._objects.array(images, b"tissue_patch", Stored(*tissue_patch))
        if self._home is None:  # the slide is stored once
            self._objects.array(images, b"WSI_patch", Stored(*self._wsi))
            self._home = images
        else:
            images.links.create_hard(b"WSI_patch", self._home, b"WSI_patch")
