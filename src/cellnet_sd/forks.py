"""What a fork of this process, such as a worker of PyTorch's `DataLoader`, needs to read lazy parts."""

import os
import sys


def forget_threads_of_dask() -> None:
    """Let dask make its threads anew.

    A fork inherits dask's pools but none of their threads: it would wait for them forever. Zarr mends itself likewise;
    dask does not.
    """
    if (threaded := sys.modules.get("dask.threaded")) is not None:
        threaded.default_pool = None  # type: ignore[attr-defined]  # dask's own, and the only place where it is kept
        threaded.pools.clear()


if hasattr(os, "register_at_fork"):  # where there are forks
    os.register_at_fork(after_in_child=forget_threads_of_dask)
