"""The index beside a remote file: read column by column, and kept in the user's cache folder as far as it was read."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cellnet_sd.settings import settings
from cellnet_sd.sources.sparse_bytes import FolderBytes

if TYPE_CHECKING:
    from cellnet_sd.identity import Identity

_TAIL: Final = 2**16
"""Bytes at the end that are brought before it is known how long Parquet's footer is."""
_END: Final = 8
"""Bytes at the very end: how long the footer is, and a mark."""


@dataclass(frozen=True)
class RemoteIndex:
    """An index behind a URL.

    Parameters
    ----------
    url
        Where it is.
    stored
        Its bytes.
    """

    url: Path
    stored: FolderBytes

    def __str__(self) -> str:
        return str(self.url)

    @classmethod
    def of(cls, url: Path, identity: "Identity") -> "RemoteIndex":
        """Return one state of an index, with what it says of itself at hand."""
        found = cls(url, FolderBytes(url, identity, settings.cache_dir))
        size = len(found.stored.buf)
        found._bring([(size - _TAIL, _TAIL)])
        footer = _END + int.from_bytes(found.stored.buf[-_END:-4].tobytes(), "little")
        found._bring([(size - footer, footer)])
        return found

    def bring(self, columns: Iterable[str], groups: Iterable[int] | None) -> None:
        """Bring columns of some row groups, of all for `None`."""
        import pyarrow.parquet as pq

        metadata = pq.read_metadata(self.stored.local)
        here = range(metadata.num_row_groups) if groups is None else groups
        self._bring(_chunks(metadata, set(columns), here))

    def _bring(self, runs: Iterable[tuple[int, int]]) -> None:
        address, size = np.array([*runs, (0, 0)], np.int64).T
        self.stored.bring(np.maximum(address, 0), size)


def _chunks(metadata: Any, columns: set[str], groups: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield where the columns of some row groups are, and how long; columns that are in none are left out."""
    for number in groups:
        group = metadata.row_group(number)
        for at in range(group.num_columns):
            column = group.column(at)
            if _name(column.path_in_schema) in columns:
                first = column.dictionary_page_offset or column.data_page_offset
                yield min(first, column.data_page_offset), column.total_compressed_size


def _name(path: str) -> str:
    """Return the name of the column that a leaf belongs to: a list's values lie below it."""
    return path.removesuffix(".list.element")


Candidate = Path | RemoteIndex
"""A place that may hold an index."""


def at_hand(candidate: Candidate, columns: Collection[str] = (), groups: Iterable[int] | None = None) -> Path:
    """Return the local file of an index, with some of its columns at hand."""
    if isinstance(candidate, Path):
        return candidate
    if columns:
        candidate.bring(columns, groups)
    return candidate.stored.local
