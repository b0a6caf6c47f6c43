"""Peak memory of a work: it is run once more in a process of its own, after its modules are imported and compiled."""

import contextlib
import json
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from benchmarks import works
from benchmarks.ours import Ours
from benchmarks.works import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT: Final = Path(__file__).resolve().parent.parent
_STATUS: Final = Path("/proc/self/status")
_CLEAR: Final = Path("/proc/self/clear_refs")
MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Errand:
    """What the other process does: one work on a file, after the same on a tiny one."""

    work: str
    path: Path
    tiny: Path
    ours: Ours
    limits: Limits

    def to_json(self) -> str:
        """Return the errand as text."""
        return json.dumps({**asdict(self), "limits": list(self.limits)}, default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the errand that `to_json` told."""
        told = json.loads(text)
        return cls(told["work"], Path(told["path"]), Path(told["tiny"]), Ours(**told["ours"]), Limits(*told["limits"]))


def peak_of(errand: Errand) -> dict[str, float]:
    """Return the peak memory of an errand in MiB: of the process, and what the work added to it.

    Raises
    ------
    RuntimeError
        If the other process fails.
    """
    return in_child("--child", errand.to_json(), "measures memory")


def in_child(option: str, text: str, does: str) -> dict[str, Any]:
    """Return what another process of the benchmark finds, which is given `text` by an option.

    Raises
    ------
    RuntimeError
        If that process fails; `does` is what it was to do.
    """
    command = [sys.executable, "-m", "benchmarks", option, text]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"The process that {does} failed: {done.stderr.strip()[-2000:]}"
        raise RuntimeError(msg)
    return json.loads(done.stdout)


def run_child(text: str) -> str:
    """Run an errand in this process and return its peak memory, as JSON."""
    errand = Errand.from_json(text)
    run(errand, errand.tiny)
    before = forget_peak()
    run(errand, errand.path)
    highest = peak()
    return json.dumps({"peak_mib": highest / MIB, "added_mib": max(0, highest - before) / MIB})


def run(errand: Errand, path: Path) -> Any:
    """Do the work of an errand once, on `path`."""
    ours = errand.ours
    if errand.work in (works.INDEX, works.INDEX_ONE_THREAD, works.SCALING, works.SCALING_ONE_THREAD):
        ours.forget(path)
        return ours.index(path)
    file = ours.open(path)
    tasks: dict[str, Callable[[], Any]] = {
        works.REOPEN: lambda: len(file),
        works.CONVERT: lambda: ours.convert(path),
        works.EXPRESSION: lambda: ours.expression(file),
        works.PATCHES: lambda: ours.patches(file),
        works.BATCH: lambda: ours.batches(file, works.draw_batches(len(file), errand.limits)),
    }
    return tasks[errand.work]()


def forget_peak() -> int:
    """Forget the peak so far, where the system can; return what the peak starts from."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")
    return peak()


def peak() -> int:
    """Return the peak memory of this process since it was forgotten, in bytes.

    `ru_maxrss` cannot be forgotten, and on Linux begins at the peak of the process that started this one.
    """
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
