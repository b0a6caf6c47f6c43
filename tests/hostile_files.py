"""Small sound files that together have every structure and spelling, to be damaged by chance; and where to damage them.

A mutant takes as long as its file has cells and chunks: there are few of each.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5o, h5t

from native_files import Form, make
from native_mutants import structures
from sound_file import full_file
from spell_arrays import ExpressionSpelling, GeneSpelling, ImageSpelling
from spellings import write

Place = tuple[int, int, int]


@dataclass(frozen=True)
class Look:
    """How one sound file with every component is written."""

    libver: Any
    tracked: str
    expression: ExpressionSpelling
    images: str
    caption: str
    attributes: str
    genes: GeneSpelling = field(default_factory=GeneSpelling)


_LOOKS = {
    "plain": Look("latest", "all", ExpressionSpelling(), "contiguous", "vlen", "vlen"),
    "early": Look(
        "earliest",
        "none",
        ExpressionSpelling(storage="gzip shuffle"),
        "gzip",
        "fixed",
        "vlen",
        GeneSpelling("root dataset", "genes", "fixed"),
    ),
    "sparse": Look(
        ("earliest", "v110"),
        "all",
        ExpressionSpelling("csr", "f8", "gzip"),
        "small chunks gzip",
        "vlen (1,)",
        "fixed",
        GeneSpelling("root attribute", "gene_names"),
    ),
    "tenx": Look(
        "latest",
        "none",
        ExpressionSpelling("10x", "f4", "resizable gzip", "i8"),
        "resizable",
        "uint8",
        "attribute",
        GeneSpelling("cell"),
    ),
    "chunked": Look(
        ("v110", "v110"),
        "containers",
        ExpressionSpelling(storage="gzip shuffle fletcher32", dtype=">f4"),
        "small chunks",
        "attribute",
        "latin-1 fixed",
    ),
    "pieces": Look(
        "earliest", "all", ExpressionSpelling("csc", "f4", "small chunks"), "small chunks", "attribute fixed", "uint8"
    ),
}
_FORMS = {
    "trees": Form("v108", True, 0, 3, "two extendible", {"compression": "gzip"}, "<f4", "vlen", 12, 1, False, 1),
    "arrays": Form("latest", False, 0, 3, "extendible", {"fletcher32": True}, "<f8", "several vlen", 2, 2, True, 2),
    "fixed": Form("v110", True, 512, 3, "limited", {"compression": "gzip"}, ">f4", "opaque", 0, 1, False, 3),
    "early": Form("earliest", False, 2048, 3, "early", {}, "<f4", "vlen bytes", 12, 2, False, 4),
    "narrow": Form("v108", False, 0, 3, "pieces", {"compression": "gzip"}, "u1", "fixed utf-8", 2, 1, False, 5, 4),
    "filters": Form("latest", True, 0, 2, "whole", {"compression": "lzf"}, "<f4", "vlen", 0, 1, False, 6),
}


def sound_files(folder: Path) -> list[Path]:
    """Write the files; return where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.h5" for name in _LOOKS]
    for path, look in zip(paths, _LOOKS.values(), strict=True):
        write_sound(path, look)
    for name, form in _FORMS.items():
        paths.append(folder / f"form_{name}.h5")
        make(paths[-1], form)
    for libver in ("earliest", "latest"):
        paths.append(folder / f"odd_{libver}.h5")
        write_odd(paths[-1], libver)
    return paths


def write_sound(path: Path, look: Look | None = None) -> None:
    """Write a file of four cells with every component."""
    look = look or _LOOKS["plain"]
    truth, spelling = full_file()
    spelling.libver, spelling.tracked, spelling.genes = look.libver, look.tracked, look.genes
    spelling.expression = [look.expression] * len(truth.cells)
    spelling.text = [(look.caption, look.attributes)] * len(truth.cells)
    spelling.images = dict.fromkeys(spelling.images, ImageSpelling(storage=look.images))
    for cell in truth.cells:
        cell.container = "slide_a" if look.tracked == "containers" else ""
    write(path, truth, spelling)


def write_odd(path: Path, libver: str) -> None:
    """Write a file whose cells hold what leads out of the file, or what only libhdf5 reads."""
    write_sound(path, Look(libver, "none", ExpressionSpelling(), "gzip", "vlen", "vlen"))
    with h5py.File(path, "a", libver=libver) as root:
        root["float"] = np.dtype("f4")
        root["float_lists"] = np.dtype("f8")
        one, two, three, four = (root[f"Cell_{number}"] for number in range(1, 5))
        one["images/tissue_patch"] = h5py.SoftLink("/Cell_2/images/cell_patch")
        two["images/tissue_patch"] = h5py.ExternalLink("elsewhere.h5", "/Cell_1/images/cell_patch")
        del three["expression"], four["CCC"], two["caption.txt"]
        three.create_dataset("expression", data=np.arange(3, dtype="f4"), dtype=root["float"])
        four.create_dataset(
            "images/tissue_patch", shape=(2, 2, 3), dtype="u1", external=[("elsewhere.bin", 0, h5py.h5f.UNLIMITED)]
        )
        four["CCC"] = h5py.SoftLink("/Cell_1/CCC")
        two.create_dataset("caption.txt", data=h5py.Empty("S5"))
        layout = h5py.VirtualLayout((3,), "f4")
        layout[:] = h5py.VirtualSource("elsewhere.h5", "/Cell_1/expression", (3,))
        three.create_virtual_dataset("images/tissue_patch", layout)
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5a.create(three.id, b"committed", h5t.open(root.id, b"float"), space).write(np.array(1.5, "f4"))
        one["again"] = one
        root["box/top"] = root["/"]


def places_of(path: Path) -> list[Place]:
    """Return where the structures of a file are: those with a signature, and the object headers, which may lack one."""
    data = np.fromfile(path, np.uint8)
    found = structures(data)
    with h5py.File(path) as root:
        base = root.userblock_size
        headers: set[int] = set()

        def note(name: bytes, info: Any) -> None:
            headers.add(info.addr + base)

        h5o.visit(root.id, note, info=True)
    known = {start for start, _, _ in found}
    return [*found, *((at, at, -4) for at in sorted(headers - known) if at < data.size)]
