"""How a file is read: by which engine, and on how many threads."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Literal, cast, get_args

import msgspec

from cellnet_sd.settings import settings

Engine = Literal["auto", "native", "h5py"]
"""`native` reads the file's own structures; `h5py` is libhdf5; `auto` is native, and h5py where that cannot."""


class Access(msgspec.Struct, frozen=True):
    """By which engine a file is read, and on how many threads."""

    engine: Engine
    n_threads: int

    @classmethod
    def of(cls, engine: Engine | None, n_threads: int | None) -> "Access":
        """Return the caller's choice; `None` leaves it to the settings.

        Raises
        ------
        ValueError
            If there is no such engine, or the number of threads is not positive.
        """
        chosen = settings.engine if engine is None else engine
        n_threads = settings.n_threads if n_threads is None else n_threads
        if chosen not in get_args(Engine):
            msg = f"engine={chosen!r} is not one of {', '.join(map(repr, get_args(Engine)))}."
            raise ValueError(msg)
        if not isinstance(n_threads, int) or isinstance(n_threads, bool) or n_threads < 1:
            msg = f"n_threads={n_threads!r} is not a positive whole number."
            raise ValueError(msg)
        return cls(cast("Engine", chosen), n_threads)


def pool(n_threads: int) -> ThreadPoolExecutor:
    """Return this process's pool of so many threads, made when it is first asked for."""
    return _pool(n_threads, os.getpid())


@cache
def _pool(n_threads: int, process: int) -> ThreadPoolExecutor:
    """Return a pool; one for each process, as a fork does not take threads along."""
    del process
    return ThreadPoolExecutor(n_threads, thread_name_prefix="cellnet_sd")
