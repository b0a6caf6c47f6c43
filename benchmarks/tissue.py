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
from typing import Final

import cellnet_sd as cn
from benchmarks.cover import Cover, of_mosaics
from benchmarks.memory import MIB, forget_peak, in_child, peak
from benchmarks.targets import Verdict
from cellnet_sd.components.images import Mosaic
from cellnet_sd.elements import slide_mosaic
from cellnet_sd.notes import Notes
from cellnet_sd.sources.opening import open_source

MEMORY: Final = "500MB"
_MPP: Final = 2.0
_TINY: Final = 200
_MOST_GROWTH: Final = 1.2


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion to SpatialData Zarr took.

    Parameters
    ----------
    cells, seconds
        How many cells, and how long it took, without indexing.
    peak_mib
        Peak memory of the process, in anonymous pages and mapped files.
    cover
        What the slides were made from.
    size
        Bytes of the store per byte of the source.
    """

    cells: int
    seconds: float
    peak_mib: float
    cover: Cover
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
    found = in_child("--child-tissue", json.dumps(paths), "converts")
    return Conversion(**{**found, "cover": Cover(**found["cover"])})


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
    cover = of_mosaics(_mosaics(path))
    return json.dumps(asdict(Conversion(cover.cells, seconds, peak_bytes / MIB, cover, size)))


def _converted(path: Path) -> Path:
    return cn.convert(path, path.with_suffix(".zarr"), memory=MEMORY, overwrite=True)


def _mosaics(path: Path) -> Iterator[Mosaic]:
    """Yield how each slide of a file is rebuilt."""
    source = open_source(path)
    for slide, rows in zip(source.index.findings.slides, source.index.rows_of_slides(), strict=True):
        mosaic = slide_mosaic(source, slide, rows, Notes(str(path)))
        assert mosaic is not None  # it has positions and patches
        yield mosaic


def markdown(found: Sequence[Conversion]) -> str:
    """Return the conversions as a Markdown table."""
    lines = [
        "| Cells | Convert | Per cell | Peak memory | Patches decoded | Overdraw | of any cover | Store / source |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {each.cells:,} | {each.seconds:.1f} s | {1e6 * each.seconds / each.cells:.0f} µs "
        f"| {each.peak_mib:,.0f} MiB | {each.cover.patches:.2%} | {each.cover.overdraw:.2f}× "
        f"| ≥ {each.cover.least:.2f}× | {each.size:.2f} |"
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
        yield from each.cover.verdicts()
