"""The sidecar index: a cell index as one Parquet file beside the file it is of.

Columns are compressed and read on demand (captions only when asked for, and only the row groups that hold the cells
asked for); findings and all that is not columnar are JSON in the file's metadata. It holds no code and no pickles.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd.cellindex import CellIndex, Rows
from cellnet_sd.components.attribute_columns import OBSM
from cellnet_sd.components.attributes import Spellings
from cellnet_sd.errors import AccessDeniedError, CellNetError, SourceMovedError
from cellnet_sd.findings import Findings
from cellnet_sd.identity import Identity
from cellnet_sd.index_parquet import sealed_schema, write_table
from cellnet_sd.layout import Component
from cellnet_sd.problems import Problem
from cellnet_sd.remote_index import Candidate, RemoteIndex, at_hand
from cellnet_sd.settings import settings
from cellnet_sd.sources.columns import PREFIX, LocatedWords, arrow_columns, is_of, located_from, words_of
from cellnet_sd.sources.facts import FormColumn, Stated, StoredForm
from cellnet_sd.sources.index_checks import are_pictures, are_rows, checked
from cellnet_sd.sources.locations import Located
from cellnet_sd.sources.paths import beside, file_name, is_remote

VERSION = 6
SUFFIX = ".cnindex"
METADATA, _LOCATED = b"cellnet_sd", b"cellnet_sd_at:"
_NAME, _CONTAINER, _SLIDE, _WSI, _CAPTION = "name", "container", "slide", "wsi", "caption"
_OBS, _OBSM, _FORM = "obs:", "obsm:", "form:"
READ_ONLY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class _State(msgspec.Struct):
    """Of what an index is."""

    version: int
    identity: Identity


class Metadata(_State):
    """What is not columnar."""

    n_cells: int
    names_are_unique: bool
    findings: Findings
    spellings: Spellings
    forms: dict[Component, tuple[StoredForm, ...]]
    stated: dict[str, Stated]
    defects: tuple[Problem, ...]
    unknown: dict[str, int]
    gene_names: tuple[str, ...] | None


def index_paths(path: Path) -> tuple[Path, Path]:
    """Return where the index of the file at `path` is looked for: beside it, then in the user's cache folder."""
    where = hashlib.blake2b(os.fsencode(str(path) if is_remote(path) else path.resolve()), digest_size=8).hexdigest()
    return beside(path, SUFFIX), settings.cache_dir / f"{file_name(path)}-{where}{SUFFIX}"


def load(path: Path, identity: Identity) -> CellIndex | None:
    """Return the saved index of the file at `path`; `None` if there is none, or it is of another state or version."""
    for candidate in _candidates(path):
        if (index := _load(path, candidate, identity)) is not None:
            return index
    return None


def _candidates(path: Path) -> Iterator[Candidate]:
    """Yield the indexes that there are; what is on this machine first."""
    beside_it, cached = index_paths(path)
    places = (cached,) if is_remote(path) else (beside_it, cached)
    yield from (place for place in places if place.is_file())
    if is_remote(path):
        with contextlib.suppress(FileNotFoundError, AccessDeniedError):
            yield RemoteIndex.of(beside_it, Identity.of(beside_it))


def saved_at(path: Path, identity: Identity) -> Path | None:
    """Return where the index of this state of the file at `path` is saved, `None` if it is not."""
    found = next((place for place in _candidates(path) if _schema(place, identity) is not None), None)
    return found.url if isinstance(found, RemoteIndex) else found


def save(index: CellIndex, identity: Identity) -> Path:
    """Save an index beside its file, or in the user's cache folder where that is not writable; return its path.

    Raises
    ------
    CellNetError
        If neither folder can be written, or a folder is in the index's place.
    """
    reasons = []
    for target in index_paths(index.path):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(index, identity, target)
        except IsADirectoryError as error:
            raise CellNetError(_is_a_folder(index.path, target)) from error
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise
            reasons.append(f"{target.parent}: {error.strerror}")
        else:
            return target
    msg = (
        f"The index of {index.path} cannot be saved ({'; '.join(reasons)}). "
        "Set cellnet_sd.settings.cache_dir to a folder you can write, or pass index=False."
    )
    raise CellNetError(msg)


def _is_a_folder(path: Path, target: Path) -> str:
    return f"{target} is a folder, where the index of {path} is to be. Move it away, or pass index=False."


# --- writing ---------------------------------------------------------------------------------------------------------


def _write(index: CellIndex, identity: Identity, target: Path) -> None:
    import pyarrow as pa

    table = pa.Table.from_pandas(_columns(index), preserve_index=False)
    metadata = {**table.schema.metadata, METADATA: msgspec.json.encode(_metadata(index, identity))}
    for component in Component:
        if (located := index.load_located(component)) is not None:
            for name, column in arrow_columns(component, located).items():
                table = table.append_column(name, column)
            metadata[_LOCATED + component.encode()] = msgspec.json.encode(words_of(located))
    write_table(table, metadata, target)


def _columns(index: CellIndex) -> pd.DataFrame:
    columns: dict[str, Any] = {
        _NAME: index.names,
        _CONTAINER: index.containers,
        _SLIDE: index.slides,
        _WSI: index.wsi,
        _CAPTION: index.captions,
    }
    columns |= {f"{_OBS}{name}": index.obs[name] for name in index.obs}
    for name, positions in index.obsm.items():
        columns |= {f"{_OBSM}{name}:{axis}": positions[:, at] for at, axis in enumerate("xy")}
    columns |= {f"{_FORM}{component}": column.codes for component, column in index.forms.items()}
    return pd.DataFrame(columns)


def _metadata(index: CellIndex, identity: Identity) -> Metadata:
    return Metadata(
        version=VERSION,
        identity=identity,
        n_cells=len(index),
        names_are_unique=index.names_are_unique,
        findings=index.findings,
        spellings=index.spellings,
        forms={component: column.forms for component, column in index.forms.items()},
        stated=dict(index.stated),
        defects=index.defects,
        unknown=dict(index.unknown),
        gene_names=index.gene_names,
    )


# --- reading ---------------------------------------------------------------------------------------------------------


def _load(path: Path, candidate: Candidate, identity: Identity) -> CellIndex | None:
    found = _read(candidate, identity, lambda name: name != _CAPTION and not name.startswith((PREFIX, _OBSM)))
    if found is None or not _leads_somewhere(*found):
        return None
    return _assemble(path, candidate, *found)


def _leads_somewhere(frame: pd.DataFrame, metadata: Metadata) -> bool:
    """Whether an index has all columns, and their codes stand for something: it may have been made to mislead."""
    ends = {f"{_FORM}{component}": len(metadata.forms.get(component, ())) for component in Component}
    ends |= {_WSI: len(frame), _SLIDE: len(metadata.findings.slides)}
    spelled = {f"{_OBS}{each.column}" for each in metadata.spellings.attributes if each.name not in OBSM}
    if not {_NAME, _CONTAINER, *ends, *spelled} <= set(frame) or "" not in metadata.stated:
        return False
    if metadata.forms.keys() != {*Component} or not are_pictures(metadata.findings, metadata.identity.size):
        return False
    if not are_rows(metadata.findings, metadata.spellings, metadata.defects, len(frame)):
        return False
    if frame[_NAME].dtype != "str" or frame[_CONTAINER].dtype != "category":
        return False
    codes = {name: frame[name].to_numpy() for name in ends}
    return all(
        own.dtype.kind == "i" and own.min(initial=0) >= -(name != _SLIDE) and own.max(initial=-1) < ends[name]
        for name, own in codes.items()
    )


def _schema(candidate: Candidate, identity: Identity) -> Any:
    """Return the schema of an index, with what is not columnar; `None` if it is gone, damaged, or of another state."""
    import pyarrow as pa

    try:
        schema = sealed_schema(at_hand(candidate))
        state = None if schema is None else msgspec.json.decode(schema.metadata[METADATA], type=_State)
    except (pa.ArrowException, OSError, KeyError, ValueError, msgspec.MsgspecError):
        return None
    return schema if state and state.version == VERSION and identity.takes(state.identity) else None


def _read(
    candidate: Candidate, identity: Identity, wanted: Callable[[str], bool], rows: Rows | None = None
) -> tuple[pd.DataFrame, Metadata] | None:
    """Return the wanted columns of an index, at `rows` or whole; `None` if it is gone, damaged, or of another state."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if (schema := _schema(candidate, identity)) is None:
        return None
    try:
        metadata = msgspec.json.decode(schema.metadata[METADATA], type=Metadata)
        columns = list(filter(wanted, schema.names))
        if rows is not None:
            checked = pa.schema([schema.field(name) for name in columns], schema.metadata)
            frame = _at_rows(candidate, checked, rows, metadata.n_cells)
            return None if frame is None else (frame, metadata)
        table = pq.read_table(at_hand(candidate, columns), columns=columns, page_checksum_verification=True)
        table = table.replace_schema_metadata(schema.metadata)
        frame = table.to_pandas(split_blocks=True, self_destruct=True)
        del table  # its memory is the frame's now
    except (pa.ArrowException, OSError, KeyError, ValueError, msgspec.MsgspecError):
        return None
    return (frame, metadata) if len(frame) == metadata.n_cells else None


def _at_rows(candidate: Candidate, schema: Any, rows: Rows, n_cells: int) -> pd.DataFrame | None:
    """Return the columns of `schema` at `rows`, from the row groups that hold them; `None` if rows are missing.

    What a row group says of its columns comes from a part of the file that `_digest` is not of: it is cast to `schema`.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(at_hand(candidate), page_checksum_verification=True) as file:
        sizes = np.array([file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)], dtype=np.int64)
        ends = np.cumsum(sizes)
        groups, group_of_row = np.unique(np.searchsorted(ends, rows, side="right"), return_inverse=True)
        if sizes.sum() != n_cells:
            return None
        at_hand(candidate, schema.names, groups.tolist())
        frame = file.read_row_groups(groups.tolist(), columns=schema.names).cast(schema).to_pandas()
    if len(frame) != sizes[groups].sum():
        return None
    skipped = (ends - sizes)[groups] - (np.cumsum(sizes[groups]) - sizes[groups])
    return frame.iloc[rows - skipped[group_of_row]].reset_index(drop=True)


def _assemble(path: Path, candidate: Candidate, frame: pd.DataFrame, metadata: Metadata) -> CellIndex:
    def asked_for(names: Sequence[str], rows: Rows | None = None) -> pd.DataFrame:
        found = _read(candidate, metadata.identity, names.__contains__, rows)
        if found is None or not {*names} <= {*found[0]}:
            raise SourceMovedError(_gone(path, candidate))
        return found[0]

    def captions(rows: Rows | None) -> pd.Series:
        return asked_for([_CAPTION], rows)[_CAPTION].rename(None)

    def positions(name: str) -> NDArray[np.float64]:
        axes = [f"{_OBSM}{name}:{axis}" for axis in "xy"]
        columns = asked_for(axes)
        if any(dtype.kind != "f" for dtype in columns.dtypes):
            raise SourceMovedError(_gone(path, candidate))
        # coordinate after coordinate in memory: columns are copied whole
        return np.array([columns.pop(axis).to_numpy() for axis in axes]).T

    @cache
    def located(component: Component) -> Located | None:
        return _located(path, candidate, metadata.identity, component)

    obs = {name.removeprefix(_OBS): _labels(frame[name]) for name in map(str, frame) if name.startswith(_OBS)}
    return CellIndex(
        path=path,
        names=frame[_NAME].rename(None),
        containers=pd.Categorical(frame[_CONTAINER]),
        slides=frame[_SLIDE].to_numpy(),
        obs=pd.DataFrame(obs, index=frame.index),
        obsm=_Positions([each.column for each in metadata.spellings.attributes if each.name in OBSM], positions),
        spellings=metadata.spellings,
        forms={c: FormColumn(frame[f"{_FORM}{c}"].to_numpy(), forms) for c, forms in metadata.forms.items()},
        wsi=frame[_WSI].to_numpy(),
        stated=metadata.stated,
        defects=metadata.defects,
        unknown=metadata.unknown,
        gene_names=metadata.gene_names,
        findings=metadata.findings,
        names_are_unique=metadata.names_are_unique,
        load_captions=captions,
        load_located=located,
    )


def _located(path: Path, candidate: Candidate, identity: Identity, component: Component) -> Located | None:
    """Return where a component is; `None` if the index does not say."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if (schema := _schema(candidate, identity)) is None:
        raise SourceMovedError(_gone(path, candidate))
    try:
        if (words := schema.metadata.get(_LOCATED + component.encode())) is None:
            return None
        columns = list(filter(is_of(component), schema.names))
        table = pq.read_table(at_hand(candidate, columns), columns=columns, page_checksum_verification=True)
        found = located_from(component, table, msgspec.json.decode(words, type=LocatedWords))
        return checked(found, identity.size)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
        raise SourceMovedError(_gone(path, candidate)) from error


def _gone(path: Path, candidate: Candidate) -> str:
    return (
        f"{candidate}, the index of {path}, is gone, damaged or of another state of it. Open the file again; if "
        "that does not help, delete the index first."
    )


def _labels(column: pd.Series) -> pd.Series:
    """Return a column as it was saved: Arrow forgets that no labels at all are text."""
    if isinstance(column.dtype, pd.CategoricalDtype) and not len(column.cat.categories):
        return column.cat.set_categories(pd.Index([], dtype="str"))
    return column


class _Positions(Mapping[str, NDArray[np.float64]]):
    """Positions by name, each loaded when it is first asked for: for millions of cells they are half of an index."""

    def __init__(self, names: Sequence[str], load: Callable[[str], NDArray[np.float64]]) -> None:
        self._names, self._load = dict.fromkeys(names), cache(load)

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        if name not in self._names:
            raise KeyError(name)
        return self._load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
