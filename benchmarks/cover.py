"""The cover of large slides, from the positions of cells alone: how fast it is chosen, and how thin it is.

Nothing is read: the cells of a synthetic tissue, one per 100 µm², are placed, and windows of 200 µm laid around them.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from benchmarks.targets import Verdict
from cellnet_sd import placement
from cellnet_sd.components.images import Block, Frame, Mosaic
from cellnet_sd.layout import TISSUE_WINDOW_UM
from cellnet_sd.synthetic.cells import place_cells
from cellnet_sd.synthetic.geometry import make_tissue

if TYPE_CHECKING:
    from cellnet_sd.sources.base import Source

_MPP: Final = 2.0
_CELL_AREA_UM2: Final = 100.0
_MOST_OVERDRAW: Final = 3.0
_MOST_PATCHES: Final = 0.03
_MOST_OF_LEAST: Final = 1.25
"""Where no cover is thin: at the ragged border of a small tissue, much is shown by one window alone."""
_MOST_US: Final = 50.0


@dataclass(frozen=True, slots=True)
class Cover:
    """What the slides of some cells are made from.

    Parameters
    ----------
    cells
        How many cells.
    seconds
        How long choosing took.
    patches
        Share of the tissue patches that are decoded.
    overdraw
        Pixels decoded per pixel covered.
    least
        No cover has a lower overdraw: windows that alone show a pixel of a block must be in it, and others enough to
        show the area that these leave.
    """

    cells: int
    seconds: float
    patches: float
    overdraw: float
    least: float

    @property
    def us_per_cell(self) -> float:
        """How long choosing took for a cell, in µs."""
        return 1e6 * self.seconds / self.cells

    def verdicts(self) -> Iterator[Verdict]:
        """Yield whether little is decoded that is not shown, and soon known."""
        words, us = f"slides of {self.cells:,} cells", self.us_per_cell
        near = self.overdraw / self.least
        than = f"{near:.2f}× the least"
        is_near = near <= _MOST_OF_LEAST
        yield Verdict(
            f"{words}: overdraw ≤ {_MOST_OVERDRAW:g}×, or ≤ {_MOST_OF_LEAST}× the least that any cover has",
            f"{self.overdraw:.2f}×, {than}",
            self.overdraw <= _MOST_OVERDRAW or is_near,
        )
        yield Verdict(
            f"{words}: ≤ {_MOST_PATCHES:.0%} of the tissue patches decoded, or ≤ {_MOST_OF_LEAST}× the fewest",
            f"{self.patches:.2%}, {than}",
            self.patches <= _MOST_PATCHES or is_near,
        )
        yield Verdict(f"{words}: cover chosen in ≤ {_MOST_US:g} µs per cell", f"{us:.1f} µs", us <= _MOST_US)


def of_mosaics(mosaics: Iterable[Mosaic]) -> Cover:
    """Choose the covers of all blocks of some slides, and return what they are like."""
    cells = patches = window = covered = 0
    needed = seconds = 0.0
    for mosaic in mosaics:
        cells += len(mosaic.rows)
        window = mosaic.windows.height * mosaic.windows.width
        start = time.perf_counter()
        blocks = [mosaic.block(number) for number in range(mosaic.grid[0] * mosaic.grid[1])]
        patches += sum(len(block.cover()) for block in blocks)
        seconds += time.perf_counter() - start
        for n_covered, n_needed in map(_shown, blocks):
            covered, needed = covered + n_covered, needed + n_needed
    return Cover(cells, seconds, patches / cells, patches * window / covered, needed * window / covered)


def _shown(block: Block) -> tuple[int, float]:
    """Return how many pixels of a block any window shows, and how many windows that takes at least."""
    windows = block.windows
    times, alone = np.zeros(block.shape, np.int32), np.zeros(block.shape, bool)
    seen = [
        (slice(max(0, top), max(0, top + windows.height)), slice(max(0, left), max(0, left + windows.width)))
        for top, left in zip(windows.top.tolist(), windows.left.tolist(), strict=True)
    ]
    for part in seen:
        times[part] += 1
    needed = [part for part in seen if (times[part] == 1).any()]
    for part in needed:
        alone[part] = True
    left = int(((times > 0) & ~alone).sum())
    return int((times > 0).sum()), len(needed) + left / (windows.height * windows.width)


def measured(cells: int) -> Cover:
    """Return the cover of a slide of so many cells."""
    rng = np.random.default_rng(0)
    tissue = make_tissue(rng, cells, _CELL_AREA_UM2, _MPP)
    centres = place_cells(rng, tissue, cells, _MPP).xy.astype(np.float64)
    side = round(TISSUE_WINDOW_UM / _MPP)
    frame = Frame(side, side, 3, "uint8", ())
    corners = placement.corners(centres, side, side)
    return of_mosaics([Mosaic.of(cast("Source", None), frame, np.arange(cells), *corners)])  # no pixel is asked for


def markdown(found: Sequence[Cover]) -> str:
    """Return covers as a Markdown table."""
    lines = [
        "| Cells of a slide | Cover chosen, per cell | Patches decoded | Overdraw | of any cover |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {each.cells:,} | {each.us_per_cell:.1f} µs | {each.patches:.2%} "
        f"| {each.overdraw:.2f}× | ≥ {each.least:.2f}× |"
        for each in found
    ]
    return "\n".join(lines)
