"""What a file is, in plain words: `info`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellnet_sd import indexfile
from cellnet_sd.cellindex import CellIndex
from cellnet_sd.components.ccc.layouts import CCCLayoutName
from cellnet_sd.components.expression import ExpressionKind
from cellnet_sd.errors import LayoutError
from cellnet_sd.findings import Choices, absolute
from cellnet_sd.layout import PATCHES, Component
from cellnet_sd.rows import WORDS, CellOrder
from cellnet_sd.sources.access import Engine
from cellnet_sd.sources.base import Source
from cellnet_sd.sources.facts import ScanFinding
from cellnet_sd.sources.opening import open_source

if TYPE_CHECKING:
    from upath import UPath

_SHOWN = 8
_TITLES = {
    Component.EXPRESSION: "expression",
    Component.ATTRIBUTES: "attributes",
    Component.CAPTION: "caption",
    Component.CELL_PATCH: "cell patch",
    Component.TISSUE_PATCH: "tissue patch",
    Component.WSI_PATCH: "WSI patch",
    Component.CCC: "CCC",
}


@dataclass(frozen=True)
class FileInfo:
    """What a Cell-NET file holds and what each part was taken to be; `print` it.

    Parameters
    ----------
    path
        The file.
    n_cells, n_genes
        Their numbers.
    slides
        Number of cells by slide.
    components
        By component: how many cells have it, and what it was taken to be.
    text
        All of it in plain words.
    """

    path: Path
    n_cells: int
    n_genes: int
    slides: dict[str, int]
    components: dict[str, tuple[int, str]]
    text: str

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text


def info(
    path: "str | Path | UPath",
    *,
    expression: ExpressionKind | None = None,
    ccc_layout: CCCLayoutName | None = None,
    gene_list: str | Path | None = None,
    slide_key: str | None = None,
    cell_order: CellOrder | None = None,
    mpp: float | None = None,
    wsi_scale: float | None = None,
    index: bool | None = None,
    engine: Engine | None = None,
    n_threads: int | None = None,
) -> FileInfo:
    """Say what a Cell-NET file holds, and what each component was taken to be.

    Parameters
    ----------
    path
        A Cell-NET HDF5 file, or its URL.
    expression, ccc_layout, gene_list, slide_key, cell_order, mpp, wsi_scale, index, engine, n_threads
        As in `read`.

    Returns
    -------
    FileInfo
        Its `str` is a page of plain words.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CellNetError
        If it is no Cell-NET file, or cannot be trusted.
    """
    choices = Choices(
        slide_key=slide_key,
        cell_order=cell_order,
        gene_list=absolute(gene_list),
        expression=expression,
        mpp=mpp,
        wsi_scale=wsi_scale,
        ccc_layout=ccc_layout,
    )
    source = open_source(path, choices, index=index, engine=engine, n_threads=n_threads)
    findings = source.index.findings
    components = {
        title: (int(source.index.has(component).sum()), _taken(source, component))
        for component, title in _TITLES.items()
    }
    slides = {slide.name: slide.n_cells for slide in findings.slides}
    text = "\n".join(_page(source, components))
    return FileInfo(source.path, len(source.index), findings.n_genes, slides, components, text)


def _taken(source: Source, component: Component) -> str:
    """Return in words what a component was taken to be."""
    findings = source.index.findings
    if component in findings.errors:
        return f"CANNOT BE TOLD: {findings.errors[component]}"
    forms = source.index.forms[component].counts()
    if not forms:
        return "no cell has one"
    stored = "; ".join(form.describe() for form, _ in forms.most_common(3))
    stored += f"; and {len(forms) - 3:,} other forms" if len(forms) > 3 else ""
    level = next((level for level, patch in PATCHES.items() if patch is component), None)
    if level in findings.frames:
        return findings.frames[level].describe()
    if component is Component.EXPRESSION:
        return f"{findings.expression_words}; stored as {stored}"
    if component is Component.CCC and findings.ccc is not None:
        return f"{findings.ccc.describe()}; stored as {stored}"
    return f"stored as {stored}"


def _page(source: Source, components: dict[str, tuple[int, str]]) -> Iterator[str]:
    index, findings = source.index, source.index.findings
    yield f"{source.path}"
    size = f"{len(index):,} cells × {findings.n_genes:,} genes on {_plural(len(findings.slides), 'slide')}"
    yield f"  {size}, {source.identity.size / 1e6:,.1f} MB"
    yield ""
    yield "Components (cells that have it; what it was taken to be)"
    for title, (n_cells, taken) in components.items():
        yield f"  {title:<13}{n_cells:>12,}  {taken}"
    yield ""
    yield f"Genes        {_genes(source)}"
    yield f"Attributes   {', '.join(attribute.name for attribute in index.spellings.attributes) or 'none'}"
    yield f"Row order    {WORDS[findings.order]}"
    yield f"CCC reach    {findings.reach_words}"
    yield f"Anchor       {findings.anchor_words}"
    yield ""
    yield f"{findings.slides_words[:1].upper()}{findings.slides_words[1:]}"
    yield from _slides(index)
    yield from _oddities(index)
    yield ""
    yield f"Indexed by   {engine_words(findings.scan)}"
    yield f"Index        {indexfile.saved_at(source.path, source.identity) or 'not saved'}"


def _genes(source: Source) -> str:
    try:
        genes = source.genes
    except LayoutError as error:
        return f"CANNOT BE TOLD: {error}"
    if genes is None:
        return "named nowhere: gene_0, gene_1, … (gene_list= names them)"
    return f"named by {genes.origin}: {', '.join(genes.names[:_SHOWN])}{', …' if len(genes) > _SHOWN else ''}"


def _slides(index: CellIndex) -> Iterator[str]:
    slides = index.findings.slides
    for slide in slides[:_SHOWN]:
        yield f"  {slide.name}: {slide.n_cells:,} cells"
        yield f"    µm per pixel  {slide.mpp_text} ({slide.mpp_words})"
        place = "" if slide.wsi_scale is None else f"{slide.wsi_scale:g} slide pixels per pixel ("
        yield f"    WSI image     {place}{slide.wsi_words}{')' if place else ''}"
    if len(slides) > _SHOWN:
        yield f"  … and {len(slides) - _SHOWN:,} more"


def _oddities(index: CellIndex) -> Iterator[str]:
    if index.defects:
        rows = np.unique([problem.row for problem in index.defects])
        first = index.defects[0]
        yield ""
        example = index.names.iloc[first.row]
        yield f"Defects      {_plural(len(rows), 'cell')} cannot be read in full, such as {example!r}"
        yield f"             ({first.component}: {first.reason}). `cellnet-sd validate` lists them."
    if index.unknown:
        yield ""
        yield f"Not read     objects that are no part of the layout: {index.unknown_words}"


def engine_words(scan: ScanFinding) -> str:
    """Return in words which engine scanned a file, and how much it left to h5py."""
    if scan.engine != "native":
        return f"h5py ({scan.why})" if scan.why else "h5py"
    left = sum(scan.through_h5py.values())
    if not left:
        return f"the native engine: all {scan.n_objects:,} objects"
    reasons = ", ".join(
        f"{reason}: {n:,}" for reason, n in sorted(scan.through_h5py.items(), key=lambda item: -item[1])
    )
    return f"the native engine; {left:,} of {scan.n_objects:,} objects go through h5py ({reasons})"


def _plural(n: int, word: str) -> str:
    return f"{n:,} {word}{'' if n == 1 else 's'}"
