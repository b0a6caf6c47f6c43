"""The folder of an unfinished conversion: who works on it, what is done, and how it becomes the output."""

import errno
import fcntl
import json
import os
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from cellnet_sd.conversion.frugal import give_back
from cellnet_sd.errors import (
    CellNetError,
    CellNetWarning,
    ConversionError,
    CorruptFileError,
    LayoutError,
    MalformedCellError,
    SelectionError,
)
from cellnet_sd.progress import progress, say
from cellnet_sd.workers import Workers

_PLAN, _LOCK, _DONE = "plan.json", "lock", "done"
_FINISHED: Final = "finished"
"""There from just before the output takes its place: what is done without an output is then done for good."""
_LEFT_BY_ZARR: Final = "*.partial"
"""What a killed zarr leaves of a file: it writes under another name, then renames."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, none left to the user, or none to the file."""
_AT_FAULT: Final = (LayoutError, CorruptFileError, MalformedCellError, SelectionError)
"""The file, or what is asked of it, has to change: there is nothing to go on with. All else may pass."""


class Job(NamedTuple):
    """A part of a conversion: its name, which is the same in every run, and what does it, which can be pickled."""

    name: str
    run: Callable[[], None]


@dataclass(frozen=True)
class Workspace:
    """The folder of one unfinished conversion.

    Parameters
    ----------
    folder
        Beside the output, which it is called after.
    target
        The output.
    """

    folder: Path
    target: Path

    @property
    def output(self) -> Path:
        """The output while it is made."""
        return self.folder / f"output{self.target.suffix}"

    def staged(self, name: str) -> Path:
        """Return where a file that is needed until the output is done is kept."""
        folder = self.folder / "staged"
        folder.mkdir(exist_ok=True)
        return folder / name

    def is_done(self, name: str) -> bool:
        """Whether a job was finished, in this run or an earlier one."""
        return (self.folder / _DONE / name).exists()

    def done(self, prefix: str) -> list[str]:
        """Return the names of the jobs that are finished, of those whose names begin so."""
        return sorted(marker.name for marker in (self.folder / _DONE).glob(f"{prefix}*"))

    def mark(self, name: str) -> None:
        """Note that a job is finished."""
        (self.folder / _DONE).mkdir(exist_ok=True)
        (self.folder / _DONE / name).touch()

    def run(self, jobs: Sequence[Job], desc: str, workers: Workers) -> None:
        """Do the jobs that are not done, several at a time, with a progress bar."""
        rest = [job for job in jobs if not self.is_done(job.name)]
        if not rest:
            return
        if len(rest) < len(jobs):
            say(f"{desc}: going on from {len(jobs) - len(rest):,} of {len(jobs):,} parts.")
        done = workers.run([partial(self._do, job) for job in rest])
        for _ in progress(done, total=len(rest), desc=desc, unit="parts"):
            pass

    def _do(self, job: Job) -> None:
        job.run()
        give_back()
        self.mark(job.name)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Remove, when a conversion fails, what another could not go on with, and say of the rest that it is kept."""
        try:
            yield
        except _AT_FAULT:
            shutil.rmtree(self.folder)
            raise
        except KeyboardInterrupt:
            say(f"Interrupted. {self._kept}.")
            raise
        except CellNetError as error:
            if self.n_done == 0:
                shutil.rmtree(self.folder)
            else:
                error.add_note(f"{self._kept}.")
            raise
        except OSError as error:
            if error.errno not in _FULL:
                raise
            msg = f"{self.target}: the disk is full ({os.strerror(error.errno)}). {self._kept}, once there is room."
            raise ConversionError(msg) from error

    @property
    def n_done(self) -> int:
        """How many jobs are finished."""
        return len(self.done(""))

    @property
    def _kept(self) -> str:
        return (
            f"{self.n_done:,} finished parts are kept in {self.folder}: delete it, or run the same conversion again to "
            "go on"
        )

    def finish(self) -> None:
        """Let the output appear under its name, in the place of what was there, and remove the folder."""
        _sweep(self.output)  # of workers that were killed
        (self.folder / _FINISHED).touch()
        if self.target.exists():
            remove(self._old)
            self.target.rename(self._old)
        self.appear()

    def appear(self) -> None:
        """Give the output its name, which nothing has, and remove the folder."""
        try:
            self.output.rename(self.target)
        except BaseException:
            if self._old.exists() and not self.target.exists():
                self._old.rename(self.target)
            raise
        self.clear()

    @property
    def _old(self) -> Path:
        """What was there before, until the output is in its place."""
        return self.folder / f"replaced{self.target.suffix}"

    def clear(self) -> None:
        """Remove the folder; last of all, what says that it may be removed."""
        _empty(self.folder, (_LOCK, _FINISHED))
        shutil.rmtree(self.folder)


def settle(target: Path) -> None:
    """End what a process that was killed while a finished output took its place had left to do.

    Another, which is still at it, is not disturbed.
    """
    space = Workspace(folder_of(target), target)
    if not (space.folder / _FINISHED).exists():
        return
    with suppress(BlockingIOError, FileNotFoundError), _locked(space.folder):
        if not (space.folder / _FINISHED).exists():
            return
        if not space.output.exists():
            space.clear()
        elif not target.exists():
            space.appear()


def folder_of(target: Path) -> Path:
    """Return the folder of an unfinished conversion to `target`."""
    return target.with_name(f".{target.name}.converting")


@contextmanager
def workspace(target: Path, plan: Mapping[str, Any]) -> Iterator[Workspace]:
    """Give the folder of a conversion to `target`: that of an interrupted one if it was the same, else a new one.

    Parameters
    ----------
    target
        The output.
    plan
        All that the output depends on, as JSON takes it.

    Raises
    ------
    ConversionError
        If another process converts to `target`, or the disk is full: what is finished stays.
    """
    folder = folder_of(target)
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(_locked(folder))
        except BlockingIOError as error:
            msg = f"{target}: another process is converting to it. Wait for it, or choose another name."
            raise ConversionError(msg) from error
        if not (folder / _LOCK).exists():  # the other process was done just now, and has removed the folder
            msg = f"{target}: another process has just converted to it."
            raise ConversionError(msg)
        space = Workspace(folder, target)
        with space.ending():
            _begin(space, json.loads(json.dumps(plan, default=str)))
            yield space


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes off a folder; raises `BlockingIOError` if one is at it."""
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _begin(space: Workspace, plan: Mapping[str, Any]) -> None:
    """Empty the folder, unless it is that of the same conversion; what is lost is said."""
    known = space.folder / _PLAN
    before = json.loads(known.read_text()) if known.exists() else {}
    if before == plan:
        _sweep(space.folder)
        return
    if n_done := space.n_done:
        names = ", ".join(sorted(name for name in {*before, *plan} if before.get(name) != plan.get(name)))
        msg = (
            f"{space.target}: {n_done:,} finished parts of another conversion to it are removed, as it differs in "
            f"{names}, and this one begins anew."
        )
        warnings.warn(msg, CellNetWarning, stacklevel=5)
    _empty(space.folder, (_LOCK,))
    partial = space.folder / f"{_PLAN}.new"
    partial.write_text(json.dumps(plan, indent=1, sort_keys=True))
    partial.rename(known)


def _empty(folder: Path, kept: Collection[str]) -> None:
    """Remove all in a folder but what has one of the names."""
    for item in folder.iterdir():
        if item.name not in kept:
            remove(item)


def _sweep(folder: Path) -> None:
    """Remove what killed writers left of files."""
    for left in folder.rglob(_LEFT_BY_ZARR):
        left.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
