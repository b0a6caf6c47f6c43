"""Who does independent pieces of work: threads of this process, or the workers of a dask cluster.

A piece of work for a cluster is pickled, so it carries paths and the few rows it is about, never an index or an open
file. It may be done more than once: a worker that was lost may have done it, or may still be at it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from cellnet_sd.errors import CellNetError, ClusterError

if TYPE_CHECKING:
    from distributed import Client

_RETRIES: Final = 2
"""Times a piece is tried again after an error that may pass: of the file system, or of the network."""


class Workers(Protocol):
    """Something that does pieces of work, several at a time."""

    @property
    def n_sharing(self) -> int:
        """How many pieces are worked on at a time in the memory of one process."""
        ...

    @property
    def are_remote(self) -> bool:
        """Whether what a piece returns has to be sent."""
        ...

    def run[T](self, pieces: Sequence[Callable[[], T]]) -> Iterator[T]:
        """Yield what the pieces return as they are done, in any order; the first error ends it."""
        ...


@dataclass(frozen=True)
class Threads:
    """Threads of this process.

    Parameters
    ----------
    n_sharing
        How many.
    """

    n_sharing: int
    are_remote: bool = False

    def run[T](self, pieces: Sequence[Callable[[], T]]) -> Iterator[T]:
        """Yield what the pieces return as they are done; see `Workers`."""
        with ThreadPoolExecutor(self.n_sharing) as pool:
            futures = [pool.submit(piece) for piece in pieces]
            try:
                yield from map(Future.result, _as_they_end(futures))
            finally:
                while futures:  # an error's traceback would keep them, and they it
                    futures.pop().cancel()


def _as_they_end[T](futures: Sequence[Future[T]]) -> Iterator[Future[T]]:
    """Yield futures as they end; the first that failed ends the wait for the others."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, return_when=FIRST_EXCEPTION, timeout=0.2)
        yield from done


@dataclass(frozen=True)
class Cluster:
    """The workers of a dask cluster, which see the same files as this process under the same paths."""

    client: "Client"
    are_remote: bool = True

    @property
    def n_sharing(self) -> int:
        """Threads of a worker, of that which has most; 1 while there is none."""
        return max(self.client.nthreads().values(), default=1)

    def run[T](self, pieces: Sequence[Callable[[], T]]) -> Iterator[T]:
        """Yield what the pieces return as they are done; see `Workers`.

        Raises
        ------
        ClusterError
            If workers die of a piece again and again, or the cluster is closed.
        """
        from distributed import KilledWorker, as_completed

        futures = [self.client.submit(_attempt, piece, pure=False, retries=_RETRIES) for piece in pieces]
        try:
            for future in as_completed(futures, loop=self.client.loop):
                found = future.result()
                if isinstance(found, CellNetError):
                    raise found
                yield found
        except KilledWorker as error:
            msg = (
                f"{error.allowed_failures + 1} workers of the cluster were killed over the same piece of work, as they "
                "are when memory runs out. What is finished is kept: give workers more memory, or fewer threads, and "
                "run the same again."
            )
            raise ClusterError(msg) from error
        except CancelledError as error:
            msg = "The cluster was closed, or has cancelled the work. What is finished is kept: run the same again."
            raise ClusterError(msg) from error
        finally:
            self.client.cancel(futures)


def _attempt[T](piece: Callable[[], T]) -> T | CellNetError:
    """Do a piece of work on a worker; what a file is at fault for is returned, as trying again is of no use."""
    try:
        return piece()
    except CellNetError as error:
        return error


@contextmanager
def workers_of(client: "Client | str | None", n_threads: int) -> Iterator[Workers]:
    """Give the workers of a cluster, or threads of this process where there is none.

    Parameters
    ----------
    client
        A client, or the address of a scheduler, to which a client is opened and closed again.
    n_threads
        Threads without a cluster.

    Raises
    ------
    ValueError
        If the client is an asynchronous one, or the address is none.
    OSError
        If there is no scheduler at the address.
    """
    if client is None:
        yield Threads(n_threads)
        return
    if isinstance(client, str):
        from distributed import Client

        _check_address(client)
        with Client(client, set_as_default=False) as opened:
            yield Cluster(opened)
        return
    if client.asynchronous:
        msg = "client= is an asynchronous Client. Pass one that was made without asynchronous=True, or an address."
        raise ValueError(msg)
    yield Cluster(client)


def _check_address(client: str) -> None:
    """See that there is a place to ask: distributed would ask for half a minute."""
    from distributed.comm.addressing import parse_address, parse_host_port

    scheme, place = parse_address(client)
    try:
        if scheme != "inproc":
            parse_host_port(place)
    except ValueError as error:
        msg = f"client={client!r} is no address of a scheduler. Pass one such as 'tcp://192.168.0.1:8786'."
        raise ValueError(msg) from error
