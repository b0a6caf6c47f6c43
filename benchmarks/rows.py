"""A row of the table: a job that was run, with all that was measured."""

import traceback
from dataclasses import dataclass, field
from typing import Any

from benchmarks.answers import DisagreementError
from benchmarks.floors import Floor
from benchmarks.memory import Errand, peak_of
from benchmarks.timing import Contender, Timing, race
from benchmarks.works import FLOOR, Job


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one work on one file.

    Parameters
    ----------
    work, form, cells
        The work, how the file is stored, and the file's cells.
    ours, peers, floor
        The timings.
    fails
        Why a peer has no timing, by its name.
    floor_words
        What the floor does.
    memory
        Peak memory of ours in MiB: `peak_mib` of the process, `added_mib` by the work.
    """

    work: str
    form: str
    cells: int
    ours: Timing
    peers: dict[str, Timing]
    fails: dict[str, str]
    floor: Timing | None = None
    floor_words: str | None = None
    memory: dict[str, float] = field(default_factory=dict)

    def ratio(self, peer: str) -> float | None:
        """How many times faster ours is than a peer, per cell."""
        return self.peers[peer].per_cell / self.ours.per_cell if peer in self.peers else None

    @property
    def floor_ratio(self) -> float | None:
        """How many times slower ours is than the floor, per cell."""
        return None if self.floor is None else self.ours.per_cell / self.floor.per_cell

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON holds it."""
        timed = {name: {**timing.as_dict(), "ratio": self.ratio(name)} for name, timing in self.peers.items()}
        floor = None
        if self.floor is not None:
            floor = {"what": self.floor_words, **self.floor.as_dict(), "ratio": self.floor_ratio}
        return {
            "work": self.work,
            "form": self.form,
            "cells": self.cells,
            "ours": self.ours.as_dict(),
            "peers": timed | {name: {"fails": reason} for name, reason in self.fails.items()},
            "floor": floor,
            "memory": self.memory or None,
        }


def measured(job: Job, repeats: int, seconds: float, errand: Errand | None = None) -> Row:
    """Run a job: warm everyone up, compare the answers, time in turns, and measure the memory of `errand`.

    Raises
    ------
    DisagreementError
        If h5py's answer is not ours.
    """
    sound, fails = _compared(job)
    floor = None if job.floor is None else job.floor()
    contenders = [job.contender, *sound, *_floor_contender(floor)]
    timings = race(contenders, repeats, seconds)
    return Row(
        work=job.work,
        form=job.spec.form,
        cells=job.spec.cells,
        ours=timings[job.contender.name],
        peers={peer.name: timings[peer.name] for peer in sound},
        fails=fails,
        floor=timings.get(FLOOR),
        floor_words=None if floor is None else floor.words,
        memory={} if errand is None else peak_of(errand),
    )


def _floor_contender(floor: Floor | None) -> list[Contender]:
    if floor is None:
        return []
    floor.run()
    return [Contender(FLOOR, floor.cells, floor.run)]


def _compared(job: Job) -> tuple[list[Contender], dict[str, str]]:
    """Return the peers that answer what we answer, and why the others do not."""
    ours = job.contender.answer()
    first: Any = None
    sound, fails = [], {}
    for peer in job.peers:
        try:
            answer = peer.answer()
            _compare(job, ours, first, answer)
        except Exception as error:  # a peer may fail in any way
            if not peer.may_fail:
                raise
            fails[peer.name] = _reason(error)
            continue
        first = answer if first is None else first
        sound.append(peer)
    return sound, fails


def _compare(job: Job, ours: Any, first: Any, answer: Any) -> None:
    if job.compare is not None:
        job.compare(ours, answer)
    if first is not None and job.compare_peers is not None:
        job.compare_peers(first, answer)


def _reason(error: Exception) -> str:
    """Return why a peer fails, in a few words and without paths."""
    if isinstance(error, DisagreementError):
        return str(error)
    words = str(error).strip().splitlines()
    short = f": {words[0][:60]}" if words and "/" not in words[0] else ""
    return f"{type(error).__name__} in {_where(error)}{short}"


def _where(error: Exception) -> str:
    """Return the name of the function that raised an error."""
    return traceback.extract_tb(error.__traceback__)[-1].name
