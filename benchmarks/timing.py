"""Timing contenders side by side: warmed up, then in turns."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import numpy as np
import psutil

MOST_RUNS: Final = 100
"""Of one contender, unless more are asked for. A processor that others share may be its own for tenths of a second."""
_SPARE: Final = 2**30
"""Bytes of memory that are at hand when the clock starts, if the machine has four times as much."""


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do the work.

    Parameters
    ----------
    name
        Who.
    cells
        How many cells one run is of.
    run
        Does the work; returns its answer.
    before
        What comes before every run, untimed.
    may_fail
        Whether a failure is a result: the contender cannot read the file.
    """

    name: str
    cells: int
    run: Callable[[], Any]
    before: Callable[[], None] = _nothing
    may_fail: bool = False

    def answer(self) -> Any:
        """Do the work once."""
        self.before()
        return self.run()


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a contender took: seconds of each run, each of so many cells."""

    cells: int
    runs: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """The best run."""
        return min(self.runs)

    @property
    def per_cell(self) -> float:
        """Seconds per cell in the best run."""
        return self.seconds / self.cells

    def as_dict(self) -> dict[str, Any]:
        """Return the timing as JSON holds it."""
        return {
            "cells": self.cells,
            "seconds": self.seconds,
            "us_per_cell": 1e6 * self.per_cell,
            "median_seconds": median(self.runs),
            "runs": list(self.runs),
        }


class Spare:
    """Memory that has been written to, for whoever runs next.

    The host of a virtual machine takes back what lies idle for seconds, and gives it again ten times slower than a
    machine clears its own memory (free page reporting): whoever runs after a slow one would pay for that.
    """

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self.memory: np.ndarray | None = self._taken()

    def _taken(self) -> np.ndarray:
        return np.ones(self._nbytes, np.uint8)

    @contextmanager
    def given(self) -> Iterator[None]:
        """Give the memory to the system for the length of a block."""
        self.memory = None
        try:
            yield
        finally:
            self.memory = self._taken()


def race(contenders: Sequence[Contender], repeats: int, seconds: float) -> dict[str, Timing]:
    """Run contenders, each already warm, in turns; return the timings by name.

    Everyone runs `repeats` times at least. Who is quick goes on, up to `MOST_RUNS`, until its runs took `seconds`:
    the best of few short runs is mostly the machine's luck. What is in memory beforehand is hidden from the garbage
    collector: it would cost those most that make most objects.
    """
    runs: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    spare = Spare(min(_SPARE, psutil.virtual_memory().available // 4))
    gc.collect()
    gc.freeze()
    try:
        for _ in range(max(repeats, MOST_RUNS)):
            for contender in contenders:
                own = runs[contender.name]
                if len(own) < repeats or sum(own) < seconds:
                    own.append(_timed(contender, spare))
    finally:
        gc.unfreeze()
    return {contender.name: Timing(contender.cells, tuple(runs[contender.name])) for contender in contenders}


def _timed(contender: Contender, spare: Spare) -> float:
    contender.before()
    gc.collect()
    with spare.given():
        start = time.perf_counter()
        answer = contender.run()
        seconds = time.perf_counter() - start
        del answer
    return seconds
