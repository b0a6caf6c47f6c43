"""Looking at a sample of a file to tell what its numbers mean: counts or logarithms, µm per pixel, WSI scale, CCC.

Every finding is put in words, for `info` and for the provenance of what is read. What cannot be told is kept as an
error, which only reading that component raises.
"""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from cellnet_sd import placement
from cellnet_sd.cellindex import CellIndex, Rows
from cellnet_sd.communication import ccc_context, links_of_batch
from cellnet_sd.components import ccc, expression, images
from cellnet_sd.components.ccc import CCCLinks
from cellnet_sd.errors import CellNetWarning, LayoutError
from cellnet_sd.findings import Findings
from cellnet_sd.keys import SPATIAL
from cellnet_sd.layout import (
    CCC_REACH_UM,
    GENE_KEYS,
    PATCHES,
    Component,
)
from cellnet_sd.rows import CellOrder, row_order
from cellnet_sd.samples import decoded, lenient, looked_at, one_per_wsi, sample_rows
from cellnet_sd.slide_scales import BY_CALLER, find_scales
from cellnet_sd.sources.base import Source
from cellnet_sd.sources.genelist import listed_beside, read_gene_list
from cellnet_sd.sources.sampling import Sampled

WINDOWS = ("cell", "tissue")
"""The levels of the patches that each cell has of its own."""
_WITHIN = 0.9


def detect(source: Source) -> CellIndex:
    """Return the index of `source` with its findings.

    Parameters
    ----------
    source
        A source whose index has its rows in order and its slides told apart. What the caller chose is taken as it is.
    """
    source, findings = Sampled(source), source.index.findings
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CellNetWarning)
        for step in (_expression, _frames, _slide_frames, _anchor, find_scales, _ccc, _reach):
            findings = step(source, findings)
    said = tuple(str(warning.message) for warning in caught if issubclass(warning.category, CellNetWarning))
    for warning in caught:
        if not issubclass(warning.category, CellNetWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return replace(source.index, findings=msgspec.structs.replace(findings, notes=(*findings.notes, *said)))


# --- expression ------------------------------------------------------------------------------------------------------


def _expression(source: Source, findings: Findings) -> Findings:
    index = source.index
    lengths = expression.gene_counts(index.forms[Component.EXPRESSION])
    rows = sample_rows(index, Component.EXPRESSION)
    if not len(rows):
        return msgspec.structs.replace(findings, expression=source.choices.expression)
    try:
        n_genes = lengths.most_common(1)[0][0] if lengths else _shown_length(source, rows)
    except LayoutError as error:
        return msgspec.structs.replace(findings, errors={**findings.errors, Component.EXPRESSION: str(error)})
    findings = msgspec.structs.replace(findings, n_genes=n_genes)
    problems = lenient(source)
    matrix = expression.read(source, rows, n_genes, problems).matrix
    matrix = matrix[~np.isin(rows, problems.rows)]
    kind, whole = expression.kind_of(matrix)
    findings = msgspec.structs.replace(findings, nnz_per_cell=matrix.nnz / max(1, matrix.shape[0]))
    if source.choices.expression is not None:
        return msgspec.structs.replace(
            findings,
            expression=source.choices.expression,
            expression_words=f"{source.choices.expression}, {BY_CALLER}",
        )
    if kind is None and matrix.nnz:
        msg = (
            f"{source.path}: {Component.EXPRESSION} of {int(whole.sum())} of {len(whole)} sampled cells holds whole "
            "numbers, of the others it does not: counts and log-normalised values are mixed. Say which it is with "
            "expression=."
        )
        errors = {**findings.errors, Component.EXPRESSION: msg}
        return msgspec.structs.replace(findings, errors=errors, expression_words="counts and logarithms mixed")
    found = {"counts": "counts: whole numbers", "lognorm": "log-normalised: values have fractions"}
    if kind == "lognorm" and matrix.nnz and matrix.data.min() < 0:
        found["lognorm"] += ", some negative: perhaps scaled"
    words = f"{found.get(str(kind), 'all zero: neither counts nor logarithms')} ({matrix.shape[0]} cells looked at)"
    return msgspec.structs.replace(findings, expression=kind, expression_words=words)


def _shown_length(source: Source, rows: Rows) -> int:
    """Return the length of profiles whose stored form does not state it: as named, as sampled, or as listed beside.

    Raises
    ------
    LayoutError
        If it shows nowhere.
    """
    if source.choices.gene_list is not None:
        return len(read_gene_list(source.choices.gene_list))
    stated = source.index.stated[""].values
    named = [value for key in GENE_KEYS if isinstance(value := stated.get(key), list)]
    length = len(named[0]) if named else len(source.index.gene_names or ())
    length = length or expression.sampled_length(source.fetch(Component.EXPRESSION, rows))
    length = length or listed_beside(source.path)
    if not length:
        msg = f"{source.path}: its sparse profiles do not say how many genes there are. Pass gene_list=."
        raise LayoutError(msg)
    return length


# --- images ----------------------------------------------------------------------------------------------------------


def _frames(source: Source, findings: Findings) -> Findings:
    frames, errors = dict(findings.frames), dict(findings.errors)
    for level, component in PATCHES.items():
        rows = one_per_wsi(source.index) if level == "wsi" else sample_rows(source.index, component)
        try:
            frame = images.detect_frame(looked_at(source, component, rows), component, str(source.path))
        except LayoutError as error:
            errors[component] = str(error)
            continue
        if frame is not None:
            frames[level] = frame
    return msgspec.structs.replace(findings, frames=frames, errors=errors)


def _slide_frames(source: Source, findings: Findings) -> Findings:
    """Find the frames of each slide's own patches, if those of the file differ: it may be made of several."""
    frames = {level: frame for level, frame in findings.frames.items() if level in WINDOWS}
    unlike = [level for level, frame in frames.items() if frame.padded or frame.widened]
    if not unlike or len(findings.slides) == 1:
        return findings
    slides = [
        msgspec.structs.replace(
            slide, frames={level: own for level in unlike if (own := _own_frame(source, level, rows))}
        )
        for slide, rows in zip(findings.slides, source.index.rows_of_slides(), strict=True)
    ]
    return msgspec.structs.replace(findings, slides=tuple(slides))


def _own_frame(source: Source, level: str, rows: Rows) -> images.Frame | None:
    """Return the frame of the patches of some cells; `None` if it is to be told from those of the whole file only."""
    component = PATCHES[level]
    raws = looked_at(source, component, sample_rows(source.index, component, among=rows))
    try:
        return images.detect_frame(raws, component, str(source.path))
    except LayoutError:
        return None


def _anchor(source: Source, findings: Findings) -> Findings:
    if not {"cell", "tissue"} <= findings.frames.keys():
        return findings
    index = source.index
    both = np.flatnonzero(index.has(Component.CELL_PATCH) & index.has(Component.TISSUE_PATCH))
    rows = sample_rows(index, Component.CELL_PATCH, among=both)
    n_agreeing = 0
    for frames, here in rows_by_frames(index, findings, rows):
        cell, tissue = (decoded(source, frames[level], level, here) for level in WINDOWS)
        n_agreeing += int(placement.anchor_agrees(cell, tissue).sum())
    words = f"the cell patch is the centre of the tissue patch in {n_agreeing} of {len(rows)} cells looked at"
    return msgspec.structs.replace(findings, anchor_words=words, anchored=(n_agreeing, len(rows)))


def rows_by_frames(index: CellIndex, findings: Findings, rows: Rows) -> Iterator[tuple[dict[str, images.Frame], Rows]]:
    """Yield some rows by the frames of the cell and tissue patches of their slides, which come by level."""
    per_slide = [
        {level: frame for level in WINDOWS if (frame := findings.frame_of(slide, level)) is not None}
        for slide in findings.slides
    ]
    for number, frames in enumerate(per_slide):
        if per_slide.index(frames) == number:
            alike = [slide for slide, others in enumerate(per_slide) if others == frames]
            if len(here := rows[np.isin(index.slides[rows], alike)]):
                yield frames, here


# --- cell-cell communication -----------------------------------------------------------------------------------------


def _ccc(source: Source, findings: Findings) -> Findings:
    """Tell the layout of CCC from a sample that touches every slide."""
    index = source.index
    per_slide = [sample_rows(index, Component.CCC, 8, among=rows) for rows in index.rows_of_slides()]
    rows = np.union1d(sample_rows(index, Component.CCC), np.concatenate(per_slide)) if per_slide else np.empty(0)
    rows = rows.astype(np.int64)
    try:
        layout = ccc.detect(source.fetch(Component.CCC, rows), rows, ccc_context(source)) if len(rows) else None
    except LayoutError as error:
        return msgspec.structs.replace(findings, errors={**findings.errors, Component.CCC: str(error)})
    return msgspec.structs.replace(findings, ccc=layout)


def _reach(source: Source, findings: Findings) -> Findings:
    """Check on a sample that links are within reach; links that are not show rows in another order than CCC's."""
    positions = source.index.obsm.get(SPATIAL)
    rows = sample_rows(source.index, Component.CCC)
    if findings.ccc is None or positions is None or not len(rows):
        return findings
    links = links_of_batch(source, rows, findings.ccc, ccc_context(source), lenient(source))
    words, well = reach_in_words(source.index, findings, links)
    notes = findings.notes if well else (*findings.notes, f"CCC: {words}")
    return msgspec.structs.replace(findings, reach_words=words, notes=notes)


def reach_in_words(index: CellIndex, findings: Findings, links: CCCLinks) -> tuple[str, bool]:
    """Return in words how many links are within 200 µm, or in which order of rows they would; and if all is well."""
    mpp = np.array([np.nan if slide.mpp is None else slide.mpp for slide in findings.slides])
    um = index.obsm[SPATIAL] * mpp[index.slides][:, None]
    found = ccc.reach(links, um, index.slides)
    if np.isnan(found.share):
        return "not checked: µm per pixel unknown, or no links between cells with positions", True
    words = f"{found.share:.1%} of {found.n_links:,} links looked at are within {CCC_REACH_UM:.0f} µm"
    if found.share >= _WITHIN:
        return words, True
    better = [order for order in get_args(CellOrder) if _in_order(index, links, um, order) >= _WITHIN]
    advice = f"; in cell_order={better[0]!r} they would be" if better else ""
    return f"only {words}{advice}", False


def _in_order(index: CellIndex, links: CCCLinks, um: NDArray[np.float64], order: CellOrder) -> float:
    """Return the share of links within reach if CCC counted the rows in another order."""
    try:
        rows, _ = row_order(index.path, index.names, index.containers, index.stated, order)
    except LayoutError:
        return 0.0
    receiver = np.where(links.receiver >= 0, rows[links.receiver], links.receiver)
    return ccc.reach(replace(links, receiver=receiver), um, index.slides).share
