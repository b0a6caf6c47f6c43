"""Draw Cell-NET files: what they hold (`FileTruth`) and how it is written (`Spelling`), by plain h5py.

This module knows the contract and nothing of the implementation.
"""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from spell_arrays import (
    ExpressionSpelling,
    GeneSpelling,
    ImageSpelling,
    expression_spellings,
    expression_values,
    gene_names,
    gene_spellings,
    image_spellings,
)
from spell_ccc import CccSpelling, CccTruth, communication
from spell_places import Places, places
from spell_text import NAN2, PUBLISHED, TEXT_FORMS, AttributeSchema, as_json, attributes, schemas, texts, write_text

LEVELS = {"cell": "cell_patch", "tissue": "tissue_patch", "wsi": "WSI_patch"}
EVERYTHING = frozenset({"expression", "genes", "attributes", "captions", "images", "ccc", "slides", "names"})
SLIDE_KEYS = ("slide", "slide_id", "slide_name", "sample", "sample_id", "section", "section_id", "wsi_id")


@dataclass(repr=False)
class CellTruth:
    """One cell as it must be read; None or NaN is what the file does not hold."""

    name: str
    container: str = ""
    slide: int = 0
    expression: NDArray[Any] = field(default_factory=lambda: np.zeros(0))
    attributes: dict[str, Any] = field(default_factory=dict)
    position: tuple[float, float] = NAN2
    position_in_tissue: tuple[float, float] = NAN2
    diameter: float = math.nan
    caption: str | None = None
    patches: dict[str, NDArray[np.uint8]] = field(default_factory=dict, repr=False)
    stored_patches: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        """Return what tells a failure: hypothesis refuses to print whole files."""
        shapes = {level: pixels.shape for level, pixels in self.patches.items()}
        return f"<{self.path!r} slide={self.slide} {self.attributes} caption={self.caption!r} {shapes}>"[:600]

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))

    @property
    def path(self) -> str:
        """Path of the cell's group."""
        return f"{self.container}/{self.name}".removeprefix("/")


@dataclass
class FileTruth:
    """A file as it must be read; `cells` are in the order of the rows.

    `slide_names` holds a name per slide number, or None where the contract leaves the names open.
    """

    stem: str
    cells: list[CellTruth]
    genes: list[str] | None
    gene_ids: list[str] = field(default_factory=list)
    feature_types: list[str] = field(default_factory=list)
    slide_names: list[str] | None = None
    ccc: CccTruth | None = None

    @property
    def expression(self) -> NDArray[np.float32]:
        """Return the matrix that must be read."""
        return np.stack([cell.expression.astype(np.float32) for cell in self.cells])

    @property
    def lognorm(self) -> bool:
        """Whether any stored value is not a whole number."""
        return any((np.mod(cell.expression.astype(float), 1) != 0).any() for cell in self.cells)

    @property
    def slides(self) -> list[int]:
        """Return the slide of each cell."""
        return [cell.slide for cell in self.cells]

    @property
    def attribute_names(self) -> list[str]:
        """Return every attribute that any cell has, in order of first appearance."""
        return list(dict.fromkeys(name for cell in self.cells for name in cell.attributes))


@dataclass
class Spelling:
    """How a file is written."""

    libver: Any = "latest"
    tracked: str = "all"
    creation: list[int] = field(default_factory=list)
    order_key: str | None = None
    expression: list[ExpressionSpelling] = field(default_factory=list)
    genes: GeneSpelling = field(default_factory=GeneSpelling)
    text: list[tuple[str, str]] = field(default_factory=list)
    json_ascii: bool = False
    json_indent: int | None = None
    images: dict[str, ImageSpelling] = field(default_factory=dict)
    wsi_linked: bool = False
    ccc: CccSpelling | None = None


def write(path: Path, truth: FileTruth, spelling: Spelling) -> dict[str, Any]:
    """Write `truth` to `path` in `spelling`, with plain h5py; return the keyword arguments its reader needs."""
    names = truth.genes or []
    with h5py.File(path, "w", libver=spelling.libver, track_order=spelling.tracked == "all") as root:
        if truth.genes is not None:
            spelling.genes.write_root(root, names, truth.gene_ids, truth.feature_types)
        groups = _write_cells(root, truth, spelling)
        _write_order(root, truth, spelling)
        if truth.ccc is not None and spelling.ccc is not None:
            containers = {cell.container: group.parent for cell, group in zip(truth.cells, groups, strict=True)}
            spelling.ccc.write_shared(root, list(containers.values()), truth.ccc)
    if truth.genes is None:
        return {}
    gene_file = spelling.genes.write_file(path.parent, path.stem, names, truth.gene_ids, truth.feature_types)
    return {"gene_list": gene_file} if spelling.genes.place == "argument" else {}


def _write_cells(root: h5py.File, truth: FileTruth, spelling: Spelling) -> list[h5py.Group]:
    groups: dict[int, h5py.Group] = {}
    first_wsi: dict[int, h5py.Dataset] = {}
    for row in spelling.creation:
        cell = truth.cells[row]
        parent = _container(root, cell.container, spelling.tracked)
        groups[row] = group = parent.create_group(cell.name)
        spelling.expression[row].write(group, cell.expression)
        if truth.genes is not None:
            spelling.genes.write_cell(group, truth.genes)
        caption_form, json_form = spelling.text[row]
        text = as_json(cell.attributes, ascii_only=spelling.json_ascii, indent=spelling.json_indent)
        write_text(group, "attributes.json", text, json_form)
        if cell.caption is not None:
            write_text(group, "caption.txt", cell.caption, caption_form)
        _write_images(group, cell, spelling, first_wsi)
        if truth.ccc is not None and spelling.ccc is not None:
            spelling.ccc.write(group, row, truth.ccc, [c.name for c in truth.cells], truth.slides)
    return [groups[row] for row in range(len(truth.cells))]


def _container(root: h5py.File, path: str, tracked: str) -> h5py.Group:
    """Return the group that holds the cells of a container; under "containers" only that one tracks its order."""
    group, parts = root, [part for part in path.split("/") if part]
    for depth, part in enumerate(parts, 1):
        tracks = tracked == "all" or (tracked == "containers" and depth == len(parts))
        group = group[part] if part in group else group.create_group(part, track_order=tracks)
    return group


def _write_images(group: h5py.Group, cell: CellTruth, spelling: Spelling, first_wsi: dict[int, h5py.Dataset]) -> None:
    for level, stored in cell.stored_patches.items():
        images = group.require_group("images")
        if level == "wsi" and spelling.wsi_linked and cell.slide in first_wsi:
            images[LEVELS[level]] = first_wsi[cell.slide]
            continue
        spelling.images[level].write(images, LEVELS[level], stored)
        if level == "wsi":
            first_wsi[cell.slide] = images[LEVELS[level]]


def _write_order(root: h5py.File, truth: FileTruth, spelling: Spelling) -> None:
    if spelling.order_key is None:
        return
    for container in dict.fromkeys(cell.container for cell in truth.cells):
        names = [cell.name for cell in truth.cells if cell.container == container]
        group = root[container] if container else root
        group.create_dataset(spelling.order_key, data=np.array(names, dtype=h5py.string_dtype()))


# --- files -----------------------------------------------------------------------------------------------------------


@st.composite
def cell_files(draw: st.DrawFn, vary: frozenset[str] = EVERYTHING) -> tuple[FileTruth, Spelling]:
    """Draw a file in which the components named in `vary` are drawn in full and the others are plain."""
    n = draw(st.integers(1, 12))
    where = draw(places(n, vary="names" in vary or "slides" in vary))
    stem = draw(st.sampled_from(["cells", "her2st-1", "Lung.b", "net_2"]))
    cells = [CellTruth(*each) for each in zip(where.names, where.containers, where.slides, strict=True)]
    names = None if where.slide_names is None else [name.format(stem=stem) for name in where.slide_names]
    truth = FileTruth(stem, cells, None, slide_names=names)
    spelling = Spelling(tracked=where.tracked, creation=where.creation, order_key=where.order_key)
    spelling.libver = draw(st.sampled_from(["latest", "earliest", ("earliest", "v110")]))
    _draw_genes_and_expression(draw, truth, spelling, vary)
    _draw_attributes(draw, truth, spelling, vary, where.slide_values)
    _draw_captions(draw, truth, spelling, varied="captions" in vary)
    levels = {level for level in LEVELS if "images" in vary and draw(st.booleans())}
    levels |= {"wsi"} if _needs_wsi(where) else set()
    _draw_images(draw, truth, spelling, levels, wsi=where.wsi, varied="images" in vary)
    if "ccc" in vary:
        drawn = draw(communication(truth.slides, unique_names=len(set(where.names)) == n))
        truth.ccc, spelling.ccc = drawn or (None, None)
    return truth, spelling


def _needs_wsi(where: Places) -> bool:
    return where.slide_names is not None and where.slide_names[0].startswith("{stem}_")


def _draw_genes_and_expression(draw: st.DrawFn, truth: FileTruth, spelling: Spelling, vary: frozenset[str]) -> None:
    n_genes = draw(st.integers(1, 20))
    if "genes" in vary:
        spelling.genes = draw(gene_spellings())
    if spelling.genes.place != "none":
        truth.genes = draw(gene_names(n_genes)) if "genes" in vary else [f"G{i}" for i in range(n_genes)]
    truth.gene_ids = [f"ENSG{i:05d}" for i in range(n_genes)]
    truth.feature_types = ["Gene Expression"] * n_genes
    lognorm = draw(st.booleans())
    drawn = expression_spellings(lognorm=lognorm, genes_named=truth.genes is not None)
    plain = ExpressionSpelling()
    one = draw(drawn) if "expression" in vary else plain
    each = "expression" in vary and draw(st.integers(0, 2)) == 0
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    for cell in truth.cells:
        form = draw(drawn) if each else one
        spelling.expression.append(form)
        cell.expression = expression_values(rng, n_genes, form, lognorm=lognorm)


def _draw_attributes(
    draw: st.DrawFn, truth: FileTruth, spelling: Spelling, vary: frozenset[str], slide_values: list[Any] | None
) -> None:
    schema = draw(schemas()) if "attributes" in vary else AttributeSchema()
    slide_key = draw(st.sampled_from(SLIDE_KEYS))
    form = draw(st.sampled_from(TEXT_FORMS)) if "attributes" in vary else "vlen"
    each = "attributes" in vary and draw(st.integers(0, 2)) == 0
    spelling.json_ascii = draw(st.booleans())
    spelling.json_indent = draw(st.sampled_from([None, 2]))
    for row, cell in enumerate(truth.cells):
        drawn = draw(attributes(schema))
        cell.attributes = drawn.stored or {}
        cell.position, cell.position_in_tissue = drawn.position, drawn.position_in_tissue
        cell.diameter = drawn.diameter
        if slide_values is not None:
            cell.attributes[slide_key] = slide_values[row]
        spelling.text.append(("vlen", draw(st.sampled_from(TEXT_FORMS)) if each else form))


def _draw_captions(draw: st.DrawFn, truth: FileTruth, spelling: Spelling, *, varied: bool) -> None:
    form = draw(st.sampled_from(TEXT_FORMS)) if varied else "vlen"
    each = varied and draw(st.integers(0, 2)) == 0
    for row, cell in enumerate(truth.cells):
        if varied:
            cell.caption = draw(st.one_of(st.none(), texts, texts))
        its = draw(st.sampled_from(TEXT_FORMS)) if each else form
        spelling.text[row] = (its, spelling.text[row][1])


def _draw_images(
    draw: st.DrawFn, truth: FileTruth, spelling: Spelling, levels: set[str], *, wsi: str, varied: bool
) -> None:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spelling.wsi_linked = varied and draw(st.booleans())
    whole: dict[int, tuple[NDArray[Any], NDArray[np.uint8]]] = {}
    for level in sorted(levels):
        form = spelling.images[level] = draw(image_spellings()) if varied else ImageSpelling()
        shape = (draw(st.integers(5, 16)), draw(st.integers(5, 16)), form.channels)
        all_have = level == "wsi" or draw(st.booleans())
        for row, cell in enumerate(truth.cells):
            if not all_have and rng.random() < 0.3:
                continue
            number = (cell.slide if wsi == "per slide" else 0) if level == "wsi" else row
            made = form.store(rng.integers(0, 256, shape, dtype=np.uint8), number)
            if level == "wsi":
                made = whole.setdefault(number, made)
            cell.stored_patches[level], cell.patches[level] = made


# --- canonical files -------------------------------------------------------------------------------------------------


@st.composite
def canonical_files(draw: st.DrawFn) -> tuple[FileTruth, Spelling]:
    """Draw a file in the one spelling that `cn.write` uses."""
    truth, spelling = draw(cell_files(EVERYTHING - {"expression", "genes", "images", "ccc", "slides", "names"}))
    n = len(truth.cells)
    n_genes = len(truth.cells[0].expression)
    truth.genes = [f"G{i}" for i in range(n_genes)]
    spelling.genes = GeneSpelling("canonical" if draw(st.booleans()) else "root dataset")
    spelling.libver, spelling.json_ascii, spelling.json_indent = "latest", False, None
    spelling.text = [("vlen", "vlen")] * n
    container = draw(st.sampled_from(["", "NCBI858"]))
    order = list(dict.fromkeys([*PUBLISHED, *truth.attribute_names]))
    for cell in truth.cells:
        cell.container = container
        cell.attributes = dict(sorted(cell.attributes.items(), key=lambda item: order.index(item[0])))
    truth.slide_names = [container or truth.stem]
    _draw_images(draw, truth, spelling, {level for level in LEVELS if draw(st.booleans())}, wsi="one", varied=False)
    if n > 1 and draw(st.booleans()):
        _draw_canonical_ccc(draw, truth, spelling)
    return truth, spelling


def _draw_canonical_ccc(draw: st.DrawFn, truth: FileTruth, spelling: Spelling) -> None:
    n = len(truth.cells)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pairs = [f"L{i}-R{i}" for i in range(n + 2)] if draw(st.booleans()) else None
    shape = (len(pairs) if pairs else 1, n, n)
    links = (rng.integers(1, 64, shape) * (rng.random(shape) < 0.4) / 8).astype(np.float32)
    truth.ccc = CccTruth(links=links, pairs=pairs, present=np.ones(n, bool))
    spelling.ccc = CccSpelling("pair" if pairs else "cell", pair_place="root dataset")


# --- plain files -----------------------------------------------------------------------------------------------------


def plain_file(n: int = 4, n_genes: int = 3, stem: str = "plain", **fields: Any) -> tuple[FileTruth, Spelling]:
    """Return a plain file of `n` cells; `fields` set a field of every cell, by row."""
    cells = []
    for row in range(n):
        cell = CellTruth(f"Cell_{row + 1}", expression=np.arange(n_genes, dtype="f4") + row + 0.5)
        for name, values in fields.items():
            setattr(cell, name, values[row])
        cells.append(cell)
    spelling = Spelling(creation=list(range(n)), expression=[ExpressionSpelling()] * n, text=[("vlen", "vlen")] * n)
    return FileTruth(stem, cells, [f"G{i}" for i in range(n_genes)], slide_names=[stem]), spelling


@contextmanager
def written(file: tuple[FileTruth, Spelling]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Write a drawn file; give its path and the keyword arguments to read it with."""
    truth, spelling = file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{truth.stem}.h5"
        yield path, write(path, truth, spelling)
