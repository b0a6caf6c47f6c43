"""A look at every stored value, batch by batch: text, expression and CCC."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.cellindex import Rows
from cellnet_sd.communication import ccc_context
from cellnet_sd.components import ccc, expression
from cellnet_sd.components.ccc import CCCContext, CCCLinks
from cellnet_sd.components.ccc.links import NO_RECEIVER, REACH_LIMIT_UM
from cellnet_sd.components.text import is_utf8, raw_bytes
from cellnet_sd.detection import reach_in_words
from cellnet_sd.errors import LayoutError
from cellnet_sd.keys import SPATIAL
from cellnet_sd.layout import Component
from cellnet_sd.matrix import batches
from cellnet_sd.samples import lenient
from cellnet_sd.sources.base import Raw, Source, Unreadable
from cellnet_sd.validation.indexed import SKIP
from cellnet_sd.validation.tally import Tally

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_TEXT_BYTES: Final = 2**14
_LINK_BYTES: Final = 2**14
"""Bytes of one cell's text, or of its CCC, taken for batches; dense CCC counts in full."""
_FLOAT_BYTES: Final = 4
_WIDEST_BYTES: Final = 8


# --- text ------------------------------------------------------------------------------------------------------------


def check_text(source: Source, tally: Tally) -> None:
    """Count the attributes and captions that are not UTF-8; that they can be read at all, the index tells."""
    for component in (Component.ATTRIBUTES, Component.CAPTION):
        for batch in batches(tally.sound(component), _TEXT_BYTES, f"Checking {component}"):
            raws = source.fetch(component, batch)
            odd = np.array([isinstance(raw, Raw) and not is_utf8(raw_bytes(raw)) for raw in raws], dtype=bool)
            advice = "It is read as latin-1; see whether that is what it is."
            tally.add("warning", component, "the text is not UTF-8", batch[odd], advice)


# --- expression ------------------------------------------------------------------------------------------------------


@dataclass
class _Profiles:
    """Which profiles are whole numbers, which have fractions, and which are rounded; (n_cells,) each."""

    whole: NDArray[np.bool_]
    fractional: NDArray[np.bool_]
    rounded: NDArray[np.bool_]
    n_rounded: int = 0

    @classmethod
    def none(cls, n_cells: int) -> "_Profiles":
        return cls(np.zeros(n_cells, dtype=bool), np.zeros(n_cells, dtype=bool), np.zeros(n_cells, dtype=bool))

    def add(self, batch: Rows, matrix: "csr_matrix", rounded: NDArray[np.int64]) -> None:
        _, whole = expression.kind_of(matrix)
        filled = np.diff(matrix.indptr) > 0
        self.whole[batch] = filled & whole
        self.fractional[batch] = ~whole
        self.rounded[batch] = rounded > 0
        self.n_rounded += int(rounded.sum())


def check_expression(source: Source, tally: Tally) -> None:
    """Count the profiles that are malformed, of the other kind than most, or rounded when read."""
    n_genes = source.index.findings.n_genes
    seen = _Profiles.none(len(source.index))
    for batch in batches(tally.sound(Component.EXPRESSION), n_genes * _FLOAT_BYTES, "Checking expression"):
        problems = lenient(source)
        raws = source.fetch(Component.EXPRESSION, batch)
        profiles = expression.decode(raws, batch, n_genes, problems)
        tally.add_problems(problems.found, SKIP)
        good = ~np.isin(batch, problems.rows)
        rounded = _rounded(raws, n_genes, source) if profiles.n_inexact else np.zeros(len(batch), dtype=np.int64)
        seen.add(batch[good], profiles.matrix[good], rounded[good])
    _check_kinds(source, tally, seen)
    reason = f"{seen.n_rounded:,} values are rounded when read: float32 cannot hold them exactly"
    tally.add("warning", Component.EXPRESSION, reason, np.flatnonzero(seen.rounded))


def _rounded(raws: list[Raw | Unreadable | None], n_genes: int, source: Source) -> NDArray[np.int64]:
    """Return for each profile how many of its values float32 cannot hold exactly."""
    counts = [expression.decode([raw], [0], n_genes, lenient(source)).n_inexact for raw in raws]
    return np.array(counts, dtype=np.int64)


def _check_kinds(source: Source, tally: Tally, seen: _Profiles) -> None:
    """Count the profiles of the other kind than the file's (or, if that cannot be told, than most), as `read` does."""
    if source.choices.expression is not None or not (seen.whole.any() and seen.fractional.any()):
        return
    kind = source.index.findings.expression
    whole_are_odd = seen.whole.sum() <= seen.fractional.sum() if kind is None else kind == "lognorm"
    odd, words = (seen.whole, "counts") if whole_are_odd else (seen.fractional, "log-normalised values")
    others = "log-normalised values" if whole_are_odd else "counts"
    reason = f"{words}, while other cells hold {others}"
    tally.add("error", Component.EXPRESSION, reason, np.flatnonzero(odd), "Say which it is with expression=.")


# --- cell-cell communication -----------------------------------------------------------------------------------------


@dataclass
class _Reach:
    """How far the links seen so far reach."""

    um: NDArray[np.float64] | None
    slides: NDArray[np.int32]
    far: NDArray[np.bool_]
    across: NDArray[np.bool_]
    n_links: int = 0
    n_far: int = 0
    n_across: int = 0
    odd: list[CCCLinks] = field(default_factory=list)
    """The first batch with links out of reach, to try other orders of the rows on."""

    @classmethod
    def of(cls, source: Source) -> "_Reach":
        index = source.index
        mpp = np.array([np.nan if slide.mpp is None else slide.mpp for slide in index.findings.slides])
        positions = index.obsm.get(SPATIAL)
        um = None if positions is None else positions * mpp[index.slides][:, None]
        far, across = np.zeros((2, len(index)), dtype=bool)
        return cls(um, index.slides, far, across)

    def add(self, links: CCCLinks) -> None:
        linked = links.receiver != NO_RECEIVER
        sender, receiver = links.sender[linked], links.receiver[linked]
        across = self.slides[sender] != self.slides[receiver]
        far = ~across & (self._distance(sender, receiver) > REACH_LIMIT_UM)
        self.far[sender[far]] = True
        self.across[sender[across]] = True
        self.n_links += len(sender)
        self.n_far += int(far.sum())
        self.n_across += int(across.sum())
        if not self.odd and (far.any() or across.any()):
            self.odd.append(links)

    def _distance(self, sender: Rows, receiver: Rows) -> Any:
        return np.nan if self.um is None else np.linalg.norm(self.um[sender] - self.um[receiver], axis=1)


def check_ccc(source: Source, tally: Tally) -> None:
    """Count the cells whose CCC is malformed, reaches too far or to another slide."""
    rows = tally.sound(Component.CCC)
    if not len(rows):
        return
    context, seen, n_inexact = ccc_context(source), _Reach.of(source), 0
    for batch in batches(rows, _link_bytes(source), "Checking CCC"):
        links = _links(source, batch, context, tally)
        if links is not None:
            seen.add(links)
            n_inexact += links.n_inexact
    _report_reach(source, tally, seen)
    if n_inexact:
        tally.note("warning", Component.CCC, f"{n_inexact:,} values are rounded when read: stored with more digits")
    layout = source.index.findings.ccc
    if layout is not None and (layout.n_pairs or 0) > 1 and not layout.named:
        tally.note("warning", Component.CCC, f"its {layout.n_pairs:,} ligand-receptor pairs are not named: pair_0, …")


def _link_bytes(source: Source) -> int:
    """Return how many bytes the CCC of one cell may take in memory."""
    shapes = [form.shape for form in source.index.forms[Component.CCC].forms if form.kind == "dataset" and form.shape]
    return max([_LINK_BYTES, *(int(np.prod(shape)) * _WIDEST_BYTES for shape in shapes)])


def _links(source: Source, batch: Rows, context: CCCContext, tally: Tally) -> CCCLinks | None:
    problems = lenient(source)
    try:
        links = ccc.decode(source.fetch(Component.CCC, batch), batch, source.index.findings.ccc, context, problems)
    except LayoutError as error:  # no cell of the sample could be read, so the layout is not known
        tally.add("error", Component.CCC, str(error).removeprefix(f"{source.path}: "), batch)
        return None
    tally.add_problems(problems.found, SKIP)
    return links


def _report_reach(source: Source, tally: Tally, seen: _Reach) -> None:
    if not seen.odd:
        return
    advice = "See whether cell_order= is the order that CCC counts by."
    words, well = ("", True) if seen.um is None else reach_in_words(source.index, source.index.findings, seen.odd[0])
    if not well:
        advice = f"{advice} In the rows at hand, {words}."
    far = f"{seen.n_far:,} of {seen.n_links:,} links reach further than {REACH_LIMIT_UM:.0f} µm"
    tally.add("warning", Component.CCC, far, np.flatnonzero(seen.far), advice)
    across = f"{seen.n_across:,} of {seen.n_links:,} links lead to another slide"
    tally.add("warning", Component.CCC, across, np.flatnonzero(seen.across), advice)
