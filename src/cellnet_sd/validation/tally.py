"""Findings in the making: like reasons of one component count as one, in memory that defects do not fill."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final, get_args

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.cellindex import CellIndex, Rows
from cellnet_sd.layout import Component
from cellnet_sd.problems import GROUP, Problem
from cellnet_sd.validation.report import Finding, Severity

if TYPE_CHECKING:
    import pandas as pd

_EXAMPLES: Final = 5
_VARIES: Final = re.compile(r"'[^']*'|\"[^\"]*\"|0x[0-9a-f]+|[+-]?\d[\d,.]*")
"""What differs between the reasons of one kind: names and numbers."""


@dataclass
class _Kind:
    """One finding so far."""

    reason: str
    advice: str
    rows: list[int] = field(default_factory=list)
    n_cells: int = 0
    varied: bool = False

    def add(self, reason: str, rows: Rows) -> None:
        self.varied |= reason != self.reason
        self.rows.extend(rows[: _EXAMPLES - len(self.rows)].tolist())
        self.n_cells += len(rows)


class Tally:
    """Counts what is found in the cells of a file.

    Parameters
    ----------
    index
        The index of the file.
    """

    def __init__(self, index: CellIndex) -> None:
        self._index = index
        self._kinds: dict[tuple[Severity, str, str], _Kind] = {}
        self._spoilt: dict[str, NDArray[np.bool_]] = {}

    def add(self, severity: Severity, component: str, reason: str, rows: Rows, advice: str = "") -> None:
        """Count one reason in the cells at `rows`, if there are any; an error spoils their component."""
        if not len(rows):
            return
        self._kind(severity, component, reason, advice).add(reason, rows)
        if severity == "error":
            self._spoil(str(component), rows)

    def add_problems(self, problems: Iterable[Problem], advice: str) -> None:
        """Count each malformed cell as an error."""
        for problem in problems:
            self.add("error", problem.component, problem.reason, np.array([problem.row]), advice)

    def note(self, severity: Severity, component: str, sentence: str, advice: str = "") -> None:
        """Add a finding about the file as a whole."""
        self._kind(severity, component, sentence, advice)

    def _spoil(self, component: str, rows: Rows) -> None:
        if component not in self._spoilt:
            self._spoilt[component] = np.zeros(len(self._index), dtype=bool)
        self._spoilt[component][rows] = True

    def spoilt(self, component: str) -> NDArray[np.bool_]:
        """Return in which cells an error was found about `component`, or about the whole cell; (n_cells,)."""
        nothing = np.zeros(len(self._index), dtype=bool)
        return self._spoilt.get(str(component), nothing) | self._spoilt.get(GROUP, nothing)

    def sound(self, component: Component) -> Rows:
        """Return the rows that have `component` and no error about it."""
        return np.flatnonzero(self._index.has(component) & ~self.spoilt(component)).astype(np.int64)

    def findings(self) -> tuple[Finding, ...]:
        """Return what was found: errors first, then warnings, then infos, each in the order they were met."""
        by_severity = sorted(self._kinds.items(), key=lambda item: get_args(Severity).index(item[0][0]))
        return tuple(self._finding(severity, component, kind) for (severity, component, _), kind in by_severity)

    def _kind(self, severity: Severity, component: str, reason: str, advice: str) -> _Kind:
        alike = reason if severity == "info" else _VARIES.sub("…", reason)
        return self._kinds.setdefault((severity, str(component), alike), _Kind(reason, advice))

    def _finding(self, severity: Severity, component: str, kind: _Kind) -> Finding:
        problem = f"{kind.reason}, and the like" if kind.varied else kind.reason
        examples = tuple(str(self._names[row]) for row in kind.rows)
        return Finding(severity, component, problem, kind.n_cells, examples, kind.advice)

    @cached_property
    def _names(self) -> "pd.Index":
        return self._index.obs_names()
