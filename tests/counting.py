"""Count what is read of a file: at the source, and apart from it where HDF5 objects are opened and read."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
import pytest
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


@contextmanager
def counted() -> Iterator[Reads]:
    """Count reads for the length of a block, in this process."""
    reads = Reads()
    fetch, file, read_dataset, scan = Hdf5Source.fetch, h5py.File, hdf5_objects.read_dataset, opening._scanned
    arrays, packed = Hdf5Source.fetch_arrays, Hdf5Source.fetch_packed
    mapped, runs_of = native_fetch.mapped, native_fetch.runs_of

    def counting_fetch(self: Hdf5Source, component: Component, rows: Any) -> Any:
        reads.fetched += [(component, int(row)) for row in rows]
        if self.access.engine != "h5py":
            there = np.asarray(rows, np.int64)[self.index.has(component, np.asarray(rows, np.int64))]
            reads.datasets += [f"{group}/{component}" for group in self.index.group_paths(there)]
        return fetch(self, component, rows)

    def count_plain(self: Hdf5Source, component: Component, rows: Any, done: Any) -> None:
        chosen = np.asarray(rows, np.int64)[done]
        reads.fetched += [(component, int(row)) for row in chosen]
        reads.datasets += [f"{group}/{component}" for group in self.index.group_paths(chosen)]

    def counting_arrays(self: Hdf5Source, component: Component, rows: Any, shape: Any, out: Any) -> Any:
        done = arrays(self, component, rows, shape, out)
        count_plain(self, component, rows, done)
        return done

    def counting_packed(self: Hdf5Source, component: Component, rows: Any, length: int) -> Any:
        found = packed(self, component, rows, length)
        count_plain(self, component, rows, found.counts >= 0)
        return found

    def counting_mapped(path: Any) -> Any:
        reads.opened += 1
        return mapped(path)

    def counting_runs(path: Any, address: Any, size: Any) -> Any:
        reads.opened += 1
        return runs_of(path, address, size)

    def counting_file(*args: Any, **kwargs: Any) -> h5py.File:
        reads.opened += 1
        return file(*args, **kwargs)

    def counting_read(dataset: Any) -> Any:
        reads.datasets.append(h5i.get_name(dataset).decode())
        return read_dataset(dataset)

    def counting_scan(*args: Any, **kwargs: Any) -> Any:
        reads.scans += 1
        return scan(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hdf5Source, "fetch", counting_fetch)
        patch.setattr(h5py, "File", counting_file)
        patch.setattr(opening, "_scanned", counting_scan)
        patch.setattr(Hdf5Source, "fetch_arrays", counting_arrays)
        patch.setattr(Hdf5Source, "fetch_packed", counting_packed)
        patch.setattr(native_fetch, "mapped", counting_mapped)
        patch.setattr(native_fetch, "runs_of", counting_runs)
        for module in (hdf5_objects, hdf5_scan, hdf5_walk):
            patch.setattr(module, "read_dataset", counting_read)
        yield reads
