"""Patches of several places in one array: the frame that holds all of them, and what is said of it."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cellnet_sd.components.images import Frame
from cellnet_sd.errors import CellNetWarning, LayoutError


def common_frame(frames: Sequence[Frame]) -> Frame:
    """Return the frame that holds all of `frames`.

    Raises
    ------
    LayoutError
        If they differ in dtype.
    """
    if len({frame.dtype for frame in frames}) > 1:
        msg = (
            f"The files' patches are {' and '.join(sorted({frame.dtype for frame in frames}))}: take them file by file."
        )
        raise LayoutError(msg)
    height, width, channels = np.max([frame.shape for frame in frames], axis=0).tolist()
    padded = any(frame.shape[:2] != (height, width) or frame.padded for frame in frames)
    widened = any(frame.channels != channels or frame.widened for frame in frames)
    return replace(frames[0], height=height, width=width, channels=channels, padded=padded, widened=widened)


def warn_of_padding(frames: Mapping[str, Frame], level: str, stacklevel: int) -> None:
    """Warn where patches of one place are smaller than those of another, by the names of the places.

    What differs within a file is known to its index, which says so, or is warned of when it is read.
    """
    named: dict[tuple[int, int], list[str]] = {}
    for name, frame in frames.items():
        named.setdefault((frame.height, frame.width), []).append(name)
    if len(named) > 1:
        height, width = np.max(list(named), axis=0).tolist()
        sizes = [
            f"{size[0]} by {size[1]} px in {names[0]}{f' and {len(names) - 1:,} more' if names[1:] else ''}"
            for size, names in named.items()
        ]
        at = "at the bottom and right" if level == "wsi" else "all round"
        msg = (
            f"{level} patches are {', '.join(sizes)}: padded {at} with white to {height} by {width} px. For those of "
            "one size, take cells by obs['source_file'] and obs['slide']."
        )
        warnings.warn(msg, CellNetWarning, stacklevel=stacklevel + 1)
