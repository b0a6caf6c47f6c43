"""What the numbers must reach, and whether they do."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from benchmarks import works
from benchmarks.peers import PLAIN
from benchmarks.rows import Row

_LINEAR: Final = 1.25
_ONE_CORE: Final = 20
"""Microseconds per cell."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target, what was reached, and whether that is enough."""

    target: str
    reached: str
    met: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON holds it."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{'met   ' if self.met else 'MISSED'}  {self.target}: {self.reached}"


class _Target(NamedTuple):
    work: str
    storage: str
    measure: Callable[[Row], float | None]
    least: float | None = None
    most: float | None = None
    unit: str = "×"
    words: str = "faster than the h5py loop"


def _than_loop(row: Row) -> float | None:
    return row.ratio(PLAIN)


def _than_floor(row: Row) -> float | None:
    return row.floor_ratio


def _us(row: Row) -> float | None:
    return 1e6 * row.ours.per_cell


def _seconds(row: Row) -> float | None:
    return row.ours.seconds


def _gib(row: Row) -> float | None:
    return row.memory["peak_mib"] / 1024 if row.memory else None


_TARGETS: Final = (
    _Target(works.INDEX, "", _than_loop, least=50),
    _Target(works.INDEX_ONE_THREAD, "", _us, most=_ONE_CORE, unit=" µs", words="per cell"),
    _Target(works.EXPRESSION, "gzip", _than_loop, least=8),
    _Target(works.EXPRESSION, "gzip", _than_floor, most=1.5, words="the time of pure inflate on all cores"),
    _Target(works.PATCHES, "gzip", _than_loop, least=8),
    _Target(works.PATCHES, "contiguous", _than_loop, least=20),
    _Target(works.BATCH, "", _than_loop, least=8),
    _Target(works.CONVERT, "", _than_loop, least=4, words="faster than a script with an h5py loop"),
)
_LARGE: Final = (
    _Target(works.REOPEN, "index of", _seconds, most=3, unit=" s", words="in all"),
    _Target(works.REOPEN, "index of", _gib, most=4, unit=" GiB", words="at the peak"),
)


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Return one verdict per target and row it is of."""
    found = [verdict for target in (*_TARGETS, *_LARGE) for verdict in _of_target(target, rows)]
    return found + list(_linear(rows))


def _of_target(target: _Target, rows: Sequence[Row]) -> Iterator[Verdict]:
    bound = f"≥ {target.least:g}" if target.least is not None else f"≤ {target.most:g}"
    for row in rows:
        if row.work != target.work or not row.form.startswith(target.storage):
            continue
        value = target.measure(row)
        if value is None:
            continue
        met = value >= target.least if target.least is not None else value <= (target.most or 0)
        words = f"{row.work}, {row.form}: {bound}{target.unit} {target.words}"
        yield Verdict(words, f"{value:.3g}{target.unit}" if value < 100 else f"{value:,.0f}{target.unit}", met)


def _linear(rows: Sequence[Row]) -> Iterator[Verdict]:
    """Yield whether a cell costs no more in the largest file than in the one before it, and on one core too much."""
    scaling = [row for row in rows if row.work in (works.SCALING, works.SCALING_ONE_THREAD)]
    for work, form in dict.fromkeys((row.work, row.form) for row in scaling):
        found = sorted((row for row in scaling if (row.work, row.form) == (work, form)), key=lambda row: row.cells)
        if len(found) == 1:
            continue
        before, last = found[-2:]
        growth = last.ours.per_cell / before.ours.per_cell
        more = 1e6 * (last.ours.seconds - before.ours.seconds) / (last.cells - before.cells)
        each = ", ".join(f"{1e6 * row.ours.per_cell:.3g} µs at {row.cells:,}" for row in found)
        yield Verdict(
            f"{work}, {form}: linear, ≤ {_LINEAR}× per cell from {before.cells:,} to {last.cells:,} cells",
            f"{growth:.2f}× ({each}; each further cell {more:.3g} µs)",
            growth <= _LINEAR,
        )
        if work == works.SCALING_ONE_THREAD:  # without what a file costs once, however few its cells
            yield Verdict(
                f"{work}, {form}: ≤ {_ONE_CORE} µs for each further cell", f"{more:.3g} µs", more <= _ONE_CORE
            )
