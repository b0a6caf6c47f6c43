"""Processor time that child processes take for a file: a limit for each order, and for all of them together."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

_BYTES_PER_SECOND: Final = 50 * 2**20
_CELLS_PER_SECOND: Final = 200
_CELL_BYTES_PER_SECOND: Final = 400_000
"""Bytes of the file for which cells are given a second: cells that are links to one group have none of their own."""
_PER_ORDER: Final = 0.1
"""Seconds that an order takes whatever it asks for."""
_FORGIVEN: Final = 0.05
"""Seconds per second by the clock: no file is given up for good."""
_Key = tuple[Path, int, int]


class _Debt(NamedTuple):
    seconds: float
    since: float


@dataclass(frozen=True)
class OrderTime:
    """The time of one order.

    Parameters
    ----------
    key
        The state of the file.
    allowed
        Seconds that an order of its size may take by itself.
    owed
        Seconds that earlier orders have taken beyond what was due to them.
    """

    key: _Key
    allowed: float
    owed: float

    @classmethod
    def of(cls, path: Path, n_cells: int) -> "OrderTime":
        """Return the time of an order about so many cells of a file."""
        stat = path.stat()
        by_cells = min(n_cells / _CELLS_PER_SECOND, stat.st_size / _CELL_BYTES_PER_SECOND)
        key = (path, stat.st_size, stat.st_mtime_ns)
        debt = _debts.get(key, _Debt(0, 0))
        owed = max(0, debt.seconds - _FORGIVEN * (time.monotonic() - debt.since))
        return cls(key, stat.st_size / _BYTES_PER_SECOND + by_cells, owed)

    def note(self, taken: float, done: float) -> None:
        """Note how long the order has taken, and which share of it is done: what is not, is owed."""
        owed = self.owed + taken - _PER_ORDER - done * self.allowed
        _debts.pop(self.key, None)
        if owed > 0:
            _debts[self.key] = _Debt(owed, time.monotonic())


_debts: Final[dict[_Key, _Debt]] = {}
