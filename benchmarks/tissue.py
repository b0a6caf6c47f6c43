"""Converting a tissue whose patches overlap, at several sizes: time, peak memory, what is decoded, what is stored.

The tissue is a synthetic one, whose patches are truly cropped from a slide: that is rebuilt, and stored once. Each
conversion runs in a process of its own, after one of a tiny tissue.
"""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

import cellnet_sd as cn
from benchmarks.memory import MIB, forget_peak, in_child, peak
from benchmarks.targets import Verdict
from cellnet_sd.components.images import Block

MEMORY: Final = "500MB"
_MPP: Final = 2.0
_TINY: Final = 200
_MOST_GROWTH: Final = 1.2
_MOST_OVERDRAW: Final = 3.0
_MOST_PATCHES: Final = 0.03


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion to SpatialData Zarr took.

    Parameters
    ----------
    cells, seconds
        How many cells, and how long it took, without indexing.
    peak_mib
        Peak memory of the process, in anonymous pages and mapped files.
    patches, overdraw
        Share of the tissue patches that were decoded for the slides, and pixels decoded per pixel covered.
    least
        The overdraw of the patches that alone show a pixel of a block, which no cover can do without.
    size
        Bytes of the store per byte of the source.
    """

    cells: int
    seconds: float
    peak_mib: float
    patches: float
    overdraw: float
    least: float
    size: float


def made_tissue(cells: int, folder: Path) -> Path:
    """Return the file of a synthetic tissue in `folder`, made unless it is there, with its index."""
    path = folder / f"tissue-{cells}.h5"
    if not path.exists():
        partial = path.with_name(f"partial-{path.name}")
        cn.datasets.synthetic(partial, n_cells=cells, mpp=_MPP, progress=False, overwrite=True)
        partial.replace(path)
    cn.index(path)
    return path


def measured(cells: int, folder: Path) -> Conversion:
    """Convert a tissue in another process, and return what that took.

    Raises
    ------
    RuntimeError
        If that process fails.
    """
    paths = [str(made_tissue(n, folder)) for n in (_TINY, cells)]
    return Conversion(**in_child("--child-tissue", json.dumps(paths), "converts"))


def run_child(text: str) -> str:
    """Convert in this process, and return what that took, as JSON."""
    tiny, path = map(Path, json.loads(text))
    _converted(tiny)
    forget_peak()
    start = time.perf_counter()
    store = _converted(path)
    seconds, peak_bytes = time.perf_counter() - start, peak()
    size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file()) / path.stat().st_size
    shutil.rmtree(store)
    return json.dumps(asdict(Conversion(seconds=seconds, peak_mib=peak_bytes / MIB, size=size, **_decoded(path))))


def _converted(path: Path) -> Path:
    return cn.convert(path, path.with_suffix(".zarr"), memory=MEMORY, overwrite=True)


def _decoded(path: Path) -> dict[str, Any]:
    """Return the number of cells, the share of tissue patches that the slides need, and the overdraw."""
    from cellnet_sd.elements import slide_mosaic
    from cellnet_sd.notes import Notes
    from cellnet_sd.sources.opening import open_source

    source = open_source(path)
    index = source.index
    patches = needed = window = covered = 0
    for slide, rows in zip(index.findings.slides, index.rows_of_slides(), strict=True):
        mosaic = slide_mosaic(source, slide, rows, Notes(str(path)))
        assert mosaic is not None  # it has positions and patches
        window = mosaic.windows.height * mosaic.windows.width
        for number in range(mosaic.grid[0] * mosaic.grid[1]):
            block = mosaic.block(number)
            patches += len(block.cover())
            n_covered, n_needed = _shown(block)
            covered, needed = covered + n_covered, needed + n_needed
    ratios = {"overdraw": patches * window / covered, "least": needed * window / covered}
    return {"cells": len(index), "patches": patches / len(index), **ratios}


def _shown(block: Block) -> tuple[int, int]:
    """Return how many pixels of a block any window shows, and how many windows alone show one, window by window."""
    times, windows = np.zeros(block.shape, np.int32), block.windows
    seen = [
        (slice(max(0, top), max(0, top + windows.height)), slice(max(0, left), max(0, left + windows.width)))
        for top, left in zip(windows.top.tolist(), windows.left.tolist(), strict=True)
    ]
    for part in seen:
        times[part] += 1
    return int((times > 0).sum()), sum(bool((times[part] == 1).any()) for part in seen)


def markdown(found: Sequence[Conversion]) -> str:
    """Return the conversions as a Markdown table."""
    lines = [
        "| Cells | Convert | Per cell | Peak memory | Patches decoded | Overdraw | of any cover | Store / source |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {each.cells:,} | {each.seconds:.1f} s | {1e6 * each.seconds / each.cells:.0f} µs "
        f"| {each.peak_mib:,.0f} MiB | {each.patches:.2%} | {each.overdraw:.2f}× "
        f"| ≥ {each.least:.2f}× | {each.size:.2f} |"
        for each in found
    ]
    return "\n".join(lines)


def verdicts(found: Sequence[Conversion]) -> Iterator[Verdict]:
    """Yield whether memory is flat, and little is decoded that is not shown."""
    if len(found) > 1:
        first, last = found[0], found[-1]
        growth = last.peak_mib / first.peak_mib
        words = f"convert: peak memory from {first.cells:,} to {last.cells:,} cells, ≤ {_MOST_GROWTH}×"
        yield Verdict(
            words, f"{growth:.2f}× ({first.peak_mib:,.0f} to {last.peak_mib:,.0f} MiB)", growth <= _MOST_GROWTH
        )
    for each in found:
        words = f"slides of {each.cells:,} cells: overdraw ≤ {_MOST_OVERDRAW:g}×"
        found_words = f"{each.overdraw:.2f}×, no cover has less than {each.least:.2f}×"
        yield Verdict(words, found_words, each.overdraw <= _MOST_OVERDRAW)
        words = f"slides of {each.cells:,} cells: ≤ {_MOST_PATCHES:.0%} of the tissue patches decoded"
        yield Verdict(words, f"{each.patches:.2%}", each.patches <= _MOST_PATCHES)
