"""The parts of an index that is being built: kept as they are done, so that an interrupted scan goes on."""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from cellnet_sd.components.documents import Documents, Kind, Values
from cellnet_sd.identity import Identity
from cellnet_sd.indexfile import READ_ONLY, index_paths
from cellnet_sd.layout import Component
from cellnet_sd.problems import Problem
from cellnet_sd.sources.columns import LocatedWords, arrow_columns, located_from, words_of
from cellnet_sd.sources.facts import FormColumn, StoredForm
from cellnet_sd.whole_files import appearing

if TYPE_CHECKING:
    import pyarrow as pa

    from cellnet_sd.sources.native_scan import Part

VERSION: Final = 3
_SUFFIX: Final = ".parts"
_METADATA: Final = b"cellnet_sd_part"
_CAPTION, _WSI, _FORM, _VALUE, _LACKS = "caption", "wsi", "form:", "value:", "lacks:"


class _Words(msgspec.Struct):
    """What is not columnar of a part."""

    version: int
    identity: Identity
    digest: int
    kinds: dict[str, Kind]
    orders: list[tuple[str, ...]]
    forms: dict[Component, tuple[StoredForm, ...]]
    located: dict[Component, LocatedWords]
    faults: list[Problem]
    unknown: dict[str, int]
    gene_names: tuple[str, ...] | None
    n_latin1: int
    through_h5py: dict[str, int]
    n_objects: int
    damaged: bool
    left_genes: tuple[int, ...]


@dataclass(frozen=True)
class PartStore:
    """Finished parts of one state of a file; it takes no other.

    Parameters
    ----------
    folders
        Where they are looked for, and kept: in the first that can be written.
    identity
        The state.
    """

    folders: tuple[Path, ...]
    identity: Identity

    def load(self, start: int) -> "Part | None":
        """Return the part that begins at row `start`, `None` if it is not there, or not whole."""
        places = (folder / _name(start) for folder in self.folders)
        found = map(self._load, filter(Path.is_file, places))  # no pipe, which would be waited for
        return next((part for part in found if part is not None), None)

    def _load(self, path: Path) -> "Part | None":
        import pyarrow as pa
        from pyarrow import feather

        try:
            table = feather.read_table(path, memory_map=True)
            words = msgspec.json.decode((table.schema.metadata or {})[_METADATA], type=_Words)
        except (pa.ArrowException, OSError, KeyError, ValueError, msgspec.MsgspecError):
            return None
        if words.version != VERSION or words.identity != self.identity:
            return None
        return _part(table, words)

    def save(self, start: int, part: "Part") -> bool:
        """Keep a part, and return whether it is kept: nothing is where no folder can be written."""
        import pyarrow as pa

        words = msgspec.json.encode(_words(part, self.identity))
        table = pa.table(_columns(part)).replace_schema_metadata({_METADATA: words})
        for folder in self.folders:
            try:
                _write(table, folder / _name(start))
            except OSError as error:
                if error.errno not in READ_ONLY:  # a full disk is no reason to fill another one
                    return False
            else:
                return True
        return False


def _name(start: int) -> str:
    return f"{start:012d}.arrow"


def _write(table: "pa.Table", target: Path) -> None:
    from pyarrow import feather

    target.parent.mkdir(parents=True, exist_ok=True)
    with appearing(target) as unfinished:
        feather.write_feather(table, unfinished, compression="uncompressed")  # they are removed soon


@contextmanager
def parts_of(path: Path, identity: Identity, *, is_kept: bool) -> Iterator[PartStore | None]:
    """Give the places for the parts of an index, and remove them when the index is built; `None` if none is kept."""
    if not is_kept:
        yield None
        return
    store = PartStore(tuple(place.with_name(f"{place.name}{_SUFFIX}") for place in index_paths(path)), identity)
    yield store
    for folder in filter(Path.is_dir, store.folders):  # to remove a pipe, `rmtree` would wait for its writer
        shutil.rmtree(folder, ignore_errors=True)


def _columns(part: "Part") -> dict[str, "pa.Array"]:
    import pyarrow as pa

    columns = {_CAPTION: part.captions, _WSI: pa.array(part.wsi_header)}
    columns |= {f"{_FORM}{component}": pa.array(column.codes) for component, column in part.forms.items()}
    for name, values in part.documents.columns.items():
        columns |= {f"{_VALUE}{name}": values.array, f"{_LACKS}{name}": pa.array(values.absent)}
    for component, located in part.located.items():
        columns |= arrow_columns(component, located)
    return columns


def _words(part: "Part", identity: Identity) -> _Words:
    return _Words(
        VERSION,
        identity,
        part.digest,
        {name: values.kind for name, values in part.documents.columns.items()},
        list(part.documents.orders),
        {component: column.forms for component, column in part.forms.items()},
        {component: words_of(located) for component, located in part.located.items()},
        part.faults,
        dict(part.unknown),
        part.gene_names,
        part.n_latin1,
        dict(part.through_h5py),
        part.n_objects,
        part.damaged,
        part.left_genes,
    )


def _part(table: "pa.Table", words: _Words) -> "Part":
    from cellnet_sd.sources.native_scan import Part

    values = {
        name: Values(kind, _array(table, f"{_VALUE}{name}"), np.asarray(_array(table, f"{_LACKS}{name}")))
        for name, kind in words.kinds.items()
    }
    return Part(
        Documents(table.num_rows, values, dict.fromkeys(words.orders)),
        _array(table, _CAPTION),
        {c: FormColumn(np.asarray(_array(table, f"{_FORM}{c}")), forms) for c, forms in words.forms.items()},
        {component: located_from(component, table, each) for component, each in words.located.items()},
        np.asarray(_array(table, _WSI)),
        words.digest,
        words.faults,
        Counter(words.unknown),
        words.gene_names,
        words.n_latin1,
        Counter(words.through_h5py),
        words.n_objects,
        words.damaged,
        words.left_genes,
    )


def _array(table: "pa.Table", name: str) -> "pa.Array":
    import pyarrow as pa

    return pa.concat_arrays(table.column(name).chunks)
