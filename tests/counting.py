"""Count what is read of a file: at the source, and apart from it where HDF5 objects are opened and read."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from h5py import h5i

from cellnet_sd.layout import Component
from cellnet_sd.sources import hdf5_objects, hdf5_scan, hdf5_walk, native_fetch, opening
from cellnet_sd.sources.hdf5 import Hdf5Source


@dataclass
class Reads:
    """What was read while counting.

    `fetched` holds (component, row) as asked of the source; `datasets` the paths of the datasets whose bytes were read,
    in the order asked; `opened` how often a file was opened, by h5py or to be mapped or read; `scans` how often a file
    was scanned for cells.
    """

    fetched: list[tuple[Component, int]] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    opened: int = 0
    scans: int = 0

    def rows(self, component: Component) -> list[int]:
        """Return the rows of which a component was fetched."""
        return [row for what, row in self.fetched if what is component]

    def datasets_of(self, component: Component) -> list[str]:
        """Return the cells of which datasets of a component were read, each as often as it was."""
        marker = f"/{component}"
        return [path.partition(marker)[0].strip("/") for path in self.datasets if marker in path]

    @property
    def components(self) -> Counter[Component]:
        """Return how many values of each component were fetched."""
        return Counter(what for what, _ in self.fetched)

    @property
    def nothing(self) -> bool:
        """Whether no file was opened at all."""
        return not (self.fetched or self.datasets or self.opened or self.scans)


def _counting_source(reads: Reads) -> dict[str, Any]:
    """Return the fetching methods of a source, counting."""
    fetch, arrays, packed = Hdf5Source.fetch, Hdf5Source.fetch_arrays, Hdf5Source.fetch_packed
    compressed = Hdf5Source.fetch_compressed

    def count(self: Hdf5Source, component: Component, rows: Any, done: Any) -> None:
        chosen = np.asarray(rows, np.int64)[done]
        reads.fetched += [(component, int(row)) for row in chosen]
        if self.access.engine != "h5py":
            there = chosen[self.index.has(component, chosen)]
            reads.datasets += [f"{group}/{component}" for group in self.index.group_paths(there)]

    def counting_fetch(self: Hdf5Source, component: Component, rows: Any) -> Any:
        count(self, component, rows, slice(None))
        return fetch(self, component, rows)

    def counting_arrays(self: Hdf5Source, component: Component, rows: Any, shape: Any, out: Any) -> Any:
        done = arrays(self, component, rows, shape, out)
        count(self, component, rows, done)
        return done

    def counting_packed(self: Hdf5Source, component: Component, rows: Any, length: int) -> Any:
        found = packed(self, component, rows, length)
        count(self, component, rows, found.counts >= 0)
        return found

    def counting_compressed(self: Hdf5Source, component: Component, rows: Any) -> Any:
        found = compressed(self, component, rows)
        count(self, component, rows, found.at)
        return found

    return {
        "fetch": counting_fetch,
        "fetch_arrays": counting_arrays,
        "fetch_packed": counting_packed,
        "fetch_compressed": counting_compressed,
    }


def _counting_opens(reads: Reads, opens: Any) -> Any:
    """Return a function that opens a file, counting."""

    def counting(*args: Any, **kwargs: Any) -> Any:
        reads.opened += 1
        return opens(*args, **kwargs)

    return counting


@contextmanager
def counted() -> Iterator[Reads]:
    """Count reads for the length of a block, in this process."""
    reads = Reads()
    read_dataset, scan = hdf5_objects.read_dataset, opening._scanned

    def counting_read(dataset: Any) -> Any:
        reads.datasets.append(h5i.get_name(dataset).decode())
        return read_dataset(dataset)

    def counting_scan(*args: Any, **kwargs: Any) -> Any:
        reads.scans += 1
        return scan(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for name, method in _counting_source(reads).items():
            patch.setattr(Hdf5Source, name, method)
        opening_names = [(h5py, "File"), *((native_fetch, name) for name in ("mapped", "runs_of", "rows_of"))]
        for module, name in opening_names:
            patch.setattr(module, name, _counting_opens(reads, getattr(module, name)))
        patch.setattr(opening, "_scanned", counting_scan)
        for module in (hdf5_objects, hdf5_scan, hdf5_walk):
            patch.setattr(module, "read_dataset", counting_read)
        yield reads


@contextmanager
def store_reads() -> Iterator[list[tuple[str, int]]]:
    """Record each read of a Zarr store for the length of a block: the path of the file, and the bytes read."""
    found: list[tuple[str, int]] = []
    get = zarr.storage._local._get

    def counting(path: Path, *args: Any) -> Any:
        value = get(path, *args)
        found.append((path.as_posix(), len(value)))
        return value

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zarr.storage._local, "_get", counting)
        yield found
