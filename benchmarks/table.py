"""The results as a Markdown table."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from benchmarks.peers import LOW_LEVEL, PLAIN, PYFIVE
from benchmarks.rows import Row
from benchmarks.timing import Timing

PEERS: Final = (PLAIN, LOW_LEVEL, PYFIVE)
_NONE: Final = "–"
_LEGEND: Final = (
    "Times are per cell, in µs; in brackets, how many times faster cellnet_sd is, and how many times slower than the "
    "floor. A peer that was run on fewer cells says on how many."
)


def markdown(rows: Sequence[Row], machine: dict[str, Any]) -> str:
    """Return the table, with a line on the machine below it."""
    header = ["Work", "File", "Cells", "cellnet_sd", *PEERS, "Floor", "Peak memory"]
    lines = [_line(header), _line(["---", "---", *["---:"] * (len(header) - 2)])]
    lines += [_line(_cells_of(row)) for row in rows]
    return "\n".join([*lines, "", _LEGEND, "", _machine_words(machine)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells_of(row: Row) -> Iterator[str]:
    yield row.work
    yield row.form
    yield f"{row.cells:,}"
    yield f"{_number(1e6 * row.ours.per_cell)} ({_seconds(row.ours.seconds)})"
    for peer in PEERS:
        yield _peer(row, peer)
    yield _floor(row)
    yield _memory(row.memory)


def _peer(row: Row, peer: str) -> str:
    if peer in row.fails:
        return f"fails ({row.fails[peer]})"
    if peer not in row.peers:
        return _NONE
    timing = row.peers[peer]
    return f"{_number(1e6 * timing.per_cell)} (**{_number(row.ratio(peer) or 0)}×**{_subset(row.ours, timing)})"


def _subset(ours: Timing, other: Timing) -> str:
    return "" if other.cells >= ours.cells else f", on {other.cells:,}"


def _floor(row: Row) -> str:
    if row.floor is None:
        return _NONE
    words = f"{row.floor_words}{_subset(row.ours, row.floor)}"
    return f"{_number(1e6 * row.floor.per_cell)} (**{row.floor_ratio:.2f}×**, {words})"


def _memory(memory: dict[str, float]) -> str:
    return f"+{memory['added_mib']:,.0f} MiB" if memory else _NONE


def _seconds(seconds: float) -> str:
    return f"{_number(seconds)} s" if seconds >= 1 else f"{_number(1e3 * seconds)} ms"


def _number(value: float) -> str:
    """Return a number to three digits or so."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _machine_words(machine: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['ram_gib']} GiB; Python {machine['python']}, "
        f"HDF5 {machine['hdf5']}, {packages}."
    )
