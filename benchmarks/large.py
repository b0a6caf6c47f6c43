"""The index of a file as large as all of Cell-NET, without the file."""

from collections.abc import Callable
from pathlib import Path

LargeIndex = Callable[[Path, int, Path], Path]
"""Takes an indexed file, a number of rows and a folder; repeats the index to so many rows, and returns the path of a
file that `cellnet_sd.open` opens by that index."""

large_index: LargeIndex | None = None
"""The function that does; `None` as long as there is none."""
