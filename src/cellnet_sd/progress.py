"""One progress bar for everything that takes longer than a second."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, cast

from cellnet_sd.settings import settings

_DELAY: Final = 1.0
"""Seconds before a bar appears."""


def progress[T](iterable: Iterable[T], *, total: int | None, desc: str, unit: str = "cells") -> Iterable[T]:
    """Return `iterable`, with a progress bar on stderr once it has taken a second.

    There is no bar when stderr is not a terminal or `settings.progress` is false.

    Parameters
    ----------
    iterable
        What to go through; its items are passed on unchanged.
    total
        How many items it will give, or `None` if unknown.
    desc
        What is being done, in a word or two.
    unit
        What one item is.
    """
    from tqdm import tqdm

    # disable=None is tqdm's spelling of "off unless stderr is a terminal".
    disable = None if settings.progress else True
    bar = tqdm(iterable, total=total, desc=desc, unit=f" {unit}", delay=_DELAY, disable=disable)
    return cast("Iterable[T]", bar)


@contextmanager
def announced(what: str) -> Iterator[None]:
    """Say on a terminal what is being done, for as long as it takes, where nothing of it can be counted."""
    from tqdm import tqdm

    disable = None if settings.progress else True
    with tqdm(total=1, desc=what, bar_format="{desc} …", disable=disable, leave=False):
        yield


def say(words: str) -> None:
    """Print words above the bars, where bars are shown: on a terminal, unless `settings.progress` is false."""
    from tqdm import tqdm

    if settings.progress and sys.stderr.isatty():
        tqdm.write(words, file=sys.stderr)
