"""Damaged files, made from sound ones by chance, through every verb: a program, for a process of its own.

`python hostile_mutants.py "[0, 1, 2]" FOLDER` damages the files of `hostile_files` with these seeds. Whatever is wrong
with one is written to standard output as a line of JSON, and the counts of the outcomes at the end; the seed that is
being read is kept in `FOLDER/seed`, for when this process does not survive it. The file is mapped between pages that
cannot be read: compiled code that leaves the file ends the process.
"""

import ctypes
import faulthandler
import gc
import json
import os
import resource
import sys
import time
import traceback
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hostile_forks import DiedError, Forks

SECONDS = 5
"""Of the processor: other work on the machine is no fault. What waits for ever is ended by `faulthandler`."""
MEMORY = 100 * 2**20
DECLARED = 4 * 7 * 16 * 2**20
"""Datasets of up to 16 MiB may be all fill value, whatever is stored: one per component of each cell."""
TRACED = 8
TABLES = 16
INDEXES = 32
"""Every how many mutants memory is traced, the table read, and the index saved and loaded."""
_REFERENCE_SECONDS = 6
_REPORTED = 50
"""Every how many mutants the counts are written beside the seed, for a run that is ended early."""
_SELDOM = 0.25
"""The share of files with much that is left to h5py: each such object takes a process of its own."""
_PAGE = resource.getpagesize()


# --- memory ----------------------------------------------------------------------------------------------------------


def fenced(path: Path) -> Any:
    """Return the bytes of a file between pages that cannot be read."""
    data = path.read_bytes()
    key = (str(path), hash(data))
    if key != _FENCED.get("key"):
        _FENCED.update(key=key, array=_between_fences(data))
    return _FENCED["array"]


_FENCED: dict[str, Any] = {}


def _between_fences(data: bytes) -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    inner = -(-len(data) // _PAGE) * _PAGE
    start = libc.mmap(None, inner + 2 * _PAGE, 3, 0x22, -1, 0)
    begin = start + _PAGE + inner - len(data)
    ctypes.memmove(begin, data, len(data))
    for page in (start, start + _PAGE + inner):
        assert libc.mprotect(page, _PAGE, 0) == 0
    array = np.ctypeslib.as_array((ctypes.c_uint8 * len(data)).from_address(begin)) if data else np.empty(0, np.uint8)
    array.flags.writeable = False
    return array


def _reset_peak() -> int:
    """Forget the most memory that was in use; return what is in use, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0]) * 1024


# --- mutants ---------------------------------------------------------------------------------------------------------


def mutated(sound: Any, places: list[tuple[int, int, int]], rng: np.random.Generator) -> Any:
    """Return a damaged copy: of structures mostly, or of any bytes, or cut off with an end that says so."""
    from native_mutants import mutate

    kind = rng.random()
    if kind < 0.8:
        return mutate(sound, places, rng)
    if kind < 0.9:
        data = sound.copy()
        for _ in range(rng.integers(1, 8)):
            data[rng.integers(data.size)] ^= 1 << rng.integers(8)
        return data
    if kind < 0.95:
        data, size = sound.copy(), int(rng.integers(1, 600))
        start, end = rng.integers(0, sound.size - size, 2)
        data[end : end + size] = sound[start : start + size]
        return data
    return _cut(sound, int(rng.integers(sound.size // 4, sound.size)))


def _cut(sound: Any, size: int) -> Any:
    """Return the beginning of a file, whose superblock says that it is all."""
    from cellnet_sd.sources.native.primitives import lookup3
    from native_mutants import _CTX

    data = sound[:size].copy()
    start = data.tobytes().find(b"\x89HDF\r\n\x1a\n")
    width = int(data[start + 9] if data[start + 8] >= 2 else data[start + 13])
    first = start + (12 if data[start + 8] >= 2 else 24 + 4 * int(data[start + 8] == 1))
    data[first + 2 * width : first + 3 * width] = np.frombuffer((size - start).to_bytes(width, "little"), np.uint8)
    if data[start + 8] >= 2:
        end = first + 4 * width
        data[end : end + 4] = np.frombuffer(
            int(lookup3(data, _CTX, start, end - start, -4)).to_bytes(4, "little"), "u1"
        )
    return data


# --- the run ---------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """The mutants of consecutive seeds, and how they went."""

    folder: Path
    forks: Forks
    files: list[Path]
    compared: float = 1.0
    outcomes: Counter[str] = field(default_factory=Counter)
    worst: dict[str, tuple[float, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from hostile_files import places_of

        self.sound = [np.fromfile(file, np.uint8) for file in self.files]
        self.places = [places_of(file) for file in self.files]
        weights = np.array([_SELDOM if file.name.startswith("odd") else 1 for file in self.files])
        self.weights = weights / weights.sum()

    def report(self) -> str:
        """Return the counts of the outcomes, and the most time and memory that one took, with its seed."""
        return json.dumps({"outcomes": self.outcomes, "worst": self.worst})

    def seed(self, seed: int) -> None:
        """Make and read one mutant."""
        rng = np.random.default_rng(seed)
        which = int(rng.choice(len(self.sound), p=self.weights))
        path = self.folder / "mutant.h5"
        mutated(self.sound[which], self.places[which], rng).tofile(path)
        (self.folder / "seed").write_text(f"{seed} {self.files[which].name}")
        try:
            own = self._own(path, seed)
        except Exception as error:  # noqa: BLE001  # anything that is not a CellNetError is what is looked for
            self._fault(seed, f"leaks {type(error).__name__}: {error}", traceback.format_exc())
            return
        self._compare(path, seed, own)

    def _is_compared(self, seed: int) -> bool:
        return bool(np.random.default_rng(seed + 2**32).random() < self.compared)

    def _own(self, path: Path, seed: int) -> Any:
        import cellnet_sd as cn
        from cellnet_sd.errors import CellNetError
        from hostile_answers import ask

        gc.collect(0)
        if seed % TRACED == 0:
            tracemalloc.start()
        before, began = _reset_peak(), time.process_time()
        faulthandler.dump_traceback_later(8 * SECONDS, exit=True)
        try:
            own = ask(path, "auto", raw=self._is_compared(seed), table=seed % TABLES == 0)
            took = time.process_time() - began
            if seed % INDEXES == 0:
                try:
                    cn.index(path)
                    ask(path, "auto", raw=True, table=False)
                except CellNetError:
                    pass
        finally:
            faulthandler.cancel_dump_traceback_later()
            traced = tracemalloc.get_traced_memory()[1] if seed % TRACED == 0 else 0
            tracemalloc.stop()
        for file in path.parent.glob(f"{path.name}.*"):
            file.unlink()
        self._measure(seed, took, max(_status("VmHWM") - before, traced), path.stat().st_size)
        return own

    def _measure(self, seed: int, took: float, memory: int, size: int) -> None:
        for name, value in (("seconds", took), ("bytes", memory)):
            self.worst[name] = max(self.worst.get(name, (0, 0)), (value, seed))
        if took > SECONDS:
            self._fault(seed, f"took {took:.1f} s", "")
        if memory > MEMORY + 2 * size:
            self._fault(seed, f"{'took' if memory > MEMORY + DECLARED else 'used'} {memory:,} bytes", "")

    def _compare(self, path: Path, seed: int, own: Any) -> None:
        from hostile_answers import Refused, differences

        if "open" in own:
            self.outcomes[f"refused: {own['open'].split(':')[0]}"] += 1
            return
        refused = {name for name, value in own.items() if isinstance(value, Refused)}
        if not self._is_compared(seed):
            self.outcomes["not compared"] += 1
            return
        arguments = (path, "h5py")
        try:
            theirs = self.forks.call(_asked, *arguments, seed % TABLES == 0, seconds=_REFERENCE_SECONDS)
        except DiedError as error:
            self.outcomes[f"not comparable: h5py {str(error).split(' ')[0]} ({error.code})"] += 1
            return
        if isinstance(theirs, str):
            self.outcomes[f"not comparable: h5py engine leaks {theirs.split(':')[0]}"] += 1
            self._fault(seed, f"h5py engine leaks {theirs}", "")
            return
        found = differences(own, theirs)
        if found and not differences(own, theirs, frozenset(own["left"])):  # it reads memory that it has not written
            self.outcomes["not comparable: h5py contradicts itself"] += 1
        elif found:
            self._fault(seed, f"differs: {'; '.join(found)}", f"refused {sorted(refused)}")
            self.outcomes["differs"] += 1
        elif "open" in theirs:
            self.outcomes["an answer where h5py refuses the file"] += 1
        else:
            what = "equal" if not refused and not own["defects"] else "equal, but for what is refused"
            self.outcomes[what] += 1

    def _fault(self, seed: int, what: str, more: str) -> None:
        self.outcomes["faults"] += 1
        name = (self.folder / "seed").read_text().split()[1]
        sys.stdout.write(json.dumps({"seed": seed, "file": name, "what": what, "more": more}) + "\n")
        sys.stdout.flush()


def _asked(path: Path, engine: str, table: bool) -> Any:
    """Return the answers of an engine, or in words what it raises that is no `CellNetError`."""
    from hostile_answers import ask

    try:
        return ask(path, engine, raw=True, table=table)
    except Exception as error:  # noqa: BLE001  # it is named
        return f"{type(error).__name__}: {error} {traceback.format_exc()[-600:]}"


def _prepare(file: Path) -> None:
    """Import what the forks need, by using it."""
    from hostile_answers import ask

    ask(file, "h5py", raw=True, table=True)


def main(seeds: Sequence[int], folder: Path, compared: float = 1.0) -> None:
    """Read the mutants of some seeds."""
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("error", RuntimeWarning)
    from cellnet_sd.sources import guarded, native_fetch, native_values
    from cellnet_sd.sources.native import scan
    from hostile_answers import ask
    from hostile_files import sound_files

    files = sound_files(folder / "sound")
    forks = Forks(partial(_prepare, files[0]))
    run = Run(folder, forks, files, compared)
    guarded.in_child("walk", files[0], [])
    for file in files:  # what is slow the first time: imports, and compilation
        ask(file, "auto", raw=True, table=True)
    scan._mapped = native_values.mapped = native_fetch.mapped = fenced
    for n_done, seed in enumerate(seeds, 1):
        run.seed(seed)
        if n_done % _REPORTED == 0:
            (folder / f"so_far_{seeds[0]}").write_text(run.report())
    sys.stdout.write(run.report() + "\n")


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main(json.loads(sys.argv[1]), Path(sys.argv[2]), *map(float, sys.argv[3:]))
