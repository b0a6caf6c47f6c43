"""What is done to the workers of a cluster: functions that are sent to them, so that something goes wrong there."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from cellnet_sd.conversion import matrix, pictures

real_save_part = matrix.save_part


def _first(once: Path) -> bool:
    """Whether this is the first process to come here."""
    try:
        once.open("x").close()
    except FileExistsError:
        return False
    return True


class _Dying:
    """An array in which one write stops half way, and the process with it."""

    def __init__(self, array: Any, once: Path) -> None:
        self.array, self.once = array, once
        self.shape = array.shape

    def __getitem__(self, key: Any) -> Any:
        return self.array[key]

    def __setitem__(self, key: Any, values: Any) -> None:
        if len(key) == 3 and _first(self.once):  # a slide's: stacks are written by cells alone
            channels, rows, columns = key
            half = slice(rows.start, (rows.start + min(rows.stop, self.shape[1])) // 2)
            self.array[channels, half, columns] = values[:, : half.stop - half.start]
            os.kill(os.getpid(), signal.SIGKILL)
        self.array[key] = values


def die_in_a_shard(once: Path) -> None:
    """Let the worker that first writes a block of the slide be killed when half of it is written."""
    real = pictures.open_array
    pictures.open_array = lambda path: _Dying(real(path), once)


def die_soon(once: Path) -> None:
    """Let the first worker to come here be killed while it computes."""
    if _first(once):
        threading.Thread(target=lambda: (time.sleep(0.05), os.kill(os.getpid(), signal.SIGKILL))).start()
        time.sleep(5)


def fail_once_to_stage(once: Path, error: Exception) -> None:
    """Let the first part that any worker stages end in an error."""

    def save_part(*args: Any) -> None:
        if _first(once):
            raise error
        real_save_part(*args)

    matrix.save_part = save_part


def stage_with(error: Exception | None) -> None:
    """Let every part that the worker stages end in an error, or in none any more."""

    def save_part(*args: Any) -> None:
        raise error

    matrix.save_part = real_save_part if error is None else save_part
