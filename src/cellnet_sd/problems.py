"""The error policy: what happens to a cell that cannot be read as what it should be."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.errors import CellNetWarning, MalformedCellError

OnError = Literal["raise", "warn", "skip"]
_SHOWN = 5
GROUP: Final = "group"
"""What a defect of a whole cell is about."""


class Problem(NamedTuple):
    """One cell that cannot be read: its row in the file, the component at fault and why."""

    row: int
    component: str
    reason: str


@dataclass
class Problems:
    """The malformed cells met so far, and what to do about the next.

    Parameters
    ----------
    file
        Name of the file, for messages.
    name_of
        Gives the name of the cell at a row.
    policy
        `"raise"` stops at the first malformed cell; `"warn"` and `"skip"` leave the cell out.
    advice
        The way out, as errors name it.
    """

    file: str
    name_of: Callable[[int], str]
    policy: OnError = "raise"
    advice: str = "Pass on_error='skip' to leave such cells out."
    found: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.policy not in get_args(OnError):
            msg = f"on_error={self.policy!r} is not one of {', '.join(map(repr, get_args(OnError)))}."
            raise ValueError(msg)

    def report(self, row: int, component: str, reason: str) -> None:
        """Note that `component` of the cell at `row` is malformed; raise at once if that is the policy.

        Raises
        ------
        MalformedCellError
            Under `on_error="raise"`.
        """
        problem = Problem(int(row), str(component), reason)
        if self.policy == "raise":
            msg = f"{self.describe(problem).rstrip('.')}. {self.advice}"
            raise MalformedCellError(msg)
        self.found.append(problem)

    def report_all(self, problems: Iterable[Problem]) -> None:
        """Report each of `problems`."""
        for problem in problems:
            self.report(*problem)

    def describe(self, problem: Problem) -> str:
        """Return one sentence that names file, cell, component and reason."""
        return f"{self.file}: cell {self.name_of(problem.row)!r}, {problem.component}: {problem.reason}"

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the cells that are left out, each once, ascending."""
        return np.unique(np.array([problem.row for problem in self.found], dtype=np.int64))

    def summary(self) -> dict[str, str]:
        """Return the reason for each cell left out, by `name`; the cell's first problem counts."""
        return {self.name_of(p.row): f"{p.component}: {p.reason}" for p in reversed(self.found)}

    def warn(self) -> None:
        """Warn once, with examples, about the cells left out; silent under `"skip"` and when there are none."""
        if self.policy != "warn" or not self.found:
            return
        examples = "\n  ".join(self.describe(problem) for problem in self.found[:_SHOWN])
        msg = f"{self.file}: {len(self.rows):,} malformed cells were left out:\n  {examples}"
        warnings.warn(msg, CellNetWarning, stacklevel=3)
