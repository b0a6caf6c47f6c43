"""Captions in parts: a table is written with empty ones, which are then replaced, some rows at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellnet_sd import keys
from cellnet_sd.cellindex import Rows
from cellnet_sd.conversion.arrays import about, make_array, open_array
from cellnet_sd.conversion.workspace import Job
from cellnet_sd.sources.base import Source
from cellnet_sd.sources.hdf5_disk import Output

_COLUMN: Final = f"obs/{keys.CAPTION}"
_VALUES: Final = f"{_COLUMN}/values"
"""Where AnnData keeps the texts of a column, and beside them which are missing. Under
`anndata.settings.allow_write_nullable_strings = False`, the column is the texts themselves."""
_ROWS: Final = 2**14
"""Rows of a chunk, some MB of text: what is in memory at once."""


class Part(NamedTuple):
    """Cells of one file."""

    source: Source
    rows: Rows


@dataclass(frozen=True)
class Captions:
    """The captions of a table.

    Parameters
    ----------
    parts
        Its cells, file after file.
    """

    parts: Sequence[Part]

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self.parts)

    def slabs(self) -> Iterator[tuple[int, list[Part]]]:
        """Yield the first row of each chunk, and its cells."""
        for start in range(0, len(self), _ROWS):
            yield start, list(self._between(start, start + _ROWS))

    def _between(self, start: int, stop: int) -> Iterator[Part]:
        first = 0
        for source, rows in self.parts:
            taken = rows[max(0, start - first) : max(0, stop - first)]
            first += len(rows)
            if len(taken):
                yield Part(source, taken)

    # --- in Zarr -----------------------------------------------------------------------------------------------------

    def make(self, table: Path) -> None:
        """Make the array of the texts of a table in a Zarr store, in the place of empty ones."""
        path = _place(table)
        make_array(path, (len(self),), str, chunks=(_ROWS,), like=about(path))

    def jobs(self, table: Path) -> list[Job]:
        """Return the jobs that fill it."""
        path = _place(table)
        return [Job(f"captions-{start:012d}", partial(_fill, path, start, parts)) for start, parts in self.slabs()]

    # --- in HDF5 -----------------------------------------------------------------------------------------------------

    def pack_hdf5(self, output: Output) -> None:
        """Put the texts in the place of the empty ones of an `.h5ad` file."""
        file = output.file
        name = _VALUES if _VALUES in file else _COLUMN
        attributes, dtype = dict(file[name].attrs), file[name].dtype
        del file[name]
        chunks = (min(_ROWS, len(self)),)
        texts = file.create_dataset(name, (len(self),), dtype, chunks=chunks, compression="gzip")
        texts.attrs.update(attributes)
        for start, parts in self.slabs():
            texts[start : start + _ROWS] = _texts(parts)
            output.disk.check()


def _place(table: Path) -> Path:
    """Return the folder of the array of the texts."""
    return table / (_VALUES if (table / _VALUES).exists() else _COLUMN)


def _fill(path: Path, start: int, parts: Sequence[Part]) -> None:
    texts = _texts(parts)
    open_array(path)[start : start + len(texts)] = texts


def _texts(parts: Sequence[Part]) -> NDArray[Any]:
    """Return captions as objects, empty where a cell has none."""
    return np.concatenate(
        [source.index.captions_of(rows).to_numpy(dtype=object, na_value="") for source, rows in parts]
    )
