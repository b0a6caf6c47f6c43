"""The native scan as a whole: roster, parts in parallel, what is left to h5py, and everything joined to `Facts`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.documents import Documents
from cellnet_sd.errors import CellNetError, CorruptFileError
from cellnet_sd.layout import GENE_KEYS, Component
from cellnet_sd.problems import GROUP, Problem
from cellnet_sd.progress import announced, progress
from cellnet_sd.sources.base import Raw, Unreadable
from cellnet_sd.sources.facts import Facts, FormColumn, ScanFinding
from cellnet_sd.sources.guarded import fetch_guarded
from cellnet_sd.sources.hdf5 import check_unmoved
from cellnet_sd.sources.hdf5_objects import busy, check_unlocked
from cellnet_sd.sources.hdf5_scan import OTHER_GENES
from cellnet_sd.sources.locations import Layout, Located
from cellnet_sd.sources.native.codes import FIRST_DAMAGE, Reason
from cellnet_sd.sources.native.compiled import is_compiled
from cellnet_sd.sources.native.scan import NativeScan, open_structure, scan_structure, warm
from cellnet_sd.sources.native.superblock import UnreadableStructureError
from cellnet_sd.sources.native_batch import UNKNOWN_ATTRIBUTES
from cellnet_sd.sources.native_left import LeftCells, scan_left
from cellnet_sd.sources.native_roster import Roster, read_roster
from cellnet_sd.sources.native_scan import BATCH, NotAllCellsError, Part, digest_of, read_part
from cellnet_sd.sources.native_values import Bytes, damage, is_decoded
from cellnet_sd.sources.native_wsi import number_images, with_left
from cellnet_sd.workers import Workers

if TYPE_CHECKING:
    from cellnet_sd.sources.partial import PartStore


_WHOLE: Final = "its group is read by libhdf5"
_PARTS: Final = 8
"""Parts of a file that is not very large, if they have `_LEAST` cells: enough for some cores."""
_LEAST: Final = 4_096


class NotNativeError(ValueError):
    """The file as a whole is not for the structure reader, without being damaged; the message is the reason."""


def scan_natively(path: Path, *, workers: Workers, parts: "PartStore | None" = None) -> Facts:
    """Return what the HDF5 file at `path` holds, by its own structures.

    Parameters
    ----------
    path
        The file.
    workers
        Who reads the batches.
    parts
        Keeps finished batches, so that an interrupted scan goes on from there.

    Raises
    ------
    FileBusyError
        If another process is writing it.
    NotNativeError
        If the file has features that only libhdf5 knows.
    CorruptFileError
        If its structure contradicts itself where no single cell is to blame.
    """
    check_unlocked(path)
    _compile()
    if not workers.are_remote:
        try:
            return _scanned(path, workers, parts, assumes=True)
        except NotAllCellsError:
            pass  # each is looked at then
    return _scanned(path, workers, parts, assumes=False)


def _scanned(path: Path, workers: Workers, parts: "PartStore | None", *, assumes: bool) -> Facts:
    scan = _structure(path, assumes=assumes)
    stored = Bytes(scan.buf, scan.superblock.ctx)
    try:
        roster = read_roster(scan, stored)
    except CellNetError as error:
        if scan.cells.assumed:  # the names of others may be to blame
            raise NotAllCellsError from error
        raise
    found = _parts(scan, stored, roster, workers, parts)
    return _joined(path, stored, roster, found)


def _structure(path: Path, *, assumes: bool) -> NativeScan:
    try:
        return scan_structure(path, assumes=assumes)
    except UnreadableStructureError as error:
        if error.reason is Reason.WRITING:
            raise busy(path, "marked in its superblock") from error
        if error.reason < FIRST_DAMAGE:
            raise NotNativeError(damage(error.reason.name)) from error
        msg = f"{path}: {damage(error.reason.name)}."
        raise CorruptFileError(msg) from error


def _compile() -> None:
    """Have the compiled code at hand: it is kept on disk from its first use on."""
    if is_compiled():
        warm()
        return
    with announced("Compiling the HDF5 reader (once per installation, about a minute)"):
        warm()


def _parts(scan: NativeScan, stored: Bytes, roster: Roster, workers: Workers, kept: "PartStore | None") -> list[Part]:
    """Return the parts in row order; finished ones are kept as they come."""
    path, step = scan.path, _part_size(len(roster), workers)
    headers = {start: roster.headers[start : start + step] for start in range(0, max(1, len(roster)), step)}
    if len(roster) <= BATCH:
        kept = None  # done sooner than kept
    found = {} if kept is None else _kept_parts(kept, headers)
    mapped = None if workers.are_remote else scan  # a second map of the file would page it in anew
    rest = [partial(_part, path, start, own, kept, mapped) for start, own in headers.items() if start not in found]
    done = workers.run(rest)
    for start, part in progress(done, total=len(rest), desc=f"Indexing {path.name}", unit=f"{step:,} cells"):
        loaded = kept.load(start) if part is None and kept is not None else part
        found[start] = read_part(scan, stored, headers[start]) if loaded is None else loaded
    return [found[start] for start in headers]


def _kept_parts(kept: "PartStore", headers: Mapping[int, NDArray[np.int64]]) -> dict[int, Part]:
    """Return the parts that an earlier run has finished, by where they start; each must be of the same cells."""
    loaded = ((start, kept.load(start)) for start in headers)
    return {start: part for start, part in loaded if part is not None and part.digest == digest_of(headers[start])}


def _part_size(n_cells: int, workers: Workers) -> int:
    """Return how many cells a part has; where parts are kept, that must not depend on who reads them."""
    n_parts = _PARTS if n_cells > BATCH or workers.are_remote else workers.n_sharing
    return min(BATCH, max(_LEAST, -(-n_cells // n_parts)))


def _part(
    path: Path, start: int, headers: NDArray[np.int64], kept: "PartStore | None", mapped: NativeScan | None
) -> tuple[int, Part | None]:
    """Read a part, and keep it; a process that has not mapped the file returns none that can be loaded instead."""
    if kept is not None:
        check_unmoved(path, kept.identity)
    scan = open_structure(path) if mapped is None else mapped.with_own_codes()
    part = read_part(scan, Bytes(scan.buf, scan.superblock.ctx), headers)
    is_kept = kept is not None and kept.save(start, part)
    return start, None if is_kept and mapped is None else part


def _joined(path: Path, stored: Bytes, roster: Roster, parts: Sequence[Part]) -> Facts:
    import pandas as pd
    import pyarrow as pa

    starts = np.cumsum([0, *map(len, parts)])[:-1].tolist()
    defects = [
        Problem(row + start, what, reason)
        for start, part in zip(starts, parts, strict=True)
        for row, what, reason in part.faults
        if row + start not in roster.faults
    ]
    defects += [Problem(row, GROUP, reason) for row, reason in roster.faults.items() if reason]
    documents = Documents.joined([part.documents for part in parts])
    captions = pa.concat_arrays([part.captions for part in parts])
    forms = {component: _joined_forms([part.forms[component] for part in parts]) for component in Component}
    located = {component: Located.joined([part.located[component] for part in parts]) for component in Component}
    headers = np.concatenate([np.empty(0, np.int64), *(part.wsi_header for part in parts)])
    scan = _scan_finding(stored, roster, parts)

    def left(row: int) -> Raw | Unreadable | None:
        cell = (str(roster.containers[row]), str(roster.names.iloc[row]))
        return fetch_guarded(path, Component.WSI_PATCH, [cell])[0]

    wsi, faults = number_images(stored, located[Component.WSI_PATCH], headers, left)
    facts = Facts(
        names=roster.names,
        containers=roster.containers,
        documents=documents,
        captions=pd.Series(captions, dtype="str"),
        forms=forms,
        wsi=wsi,
        stated=roster.stated,
        defects=[*defects, *faults],
        unknown=sum((part.unknown for part in parts), roster.unknown),
        gene_names=_genes(parts),
        n_latin1=sum(part.n_latin1 for part in parts),
        order=roster.order,
        located=located,
        scan=scan,
    )
    genes = [row + start for start, part in zip(starts, parts, strict=True) for row in part.left_genes]
    return _with_left(path, stored, facts, roster, genes)


def _scan_finding(stored: Bytes, roster: Roster, parts: Sequence[Part]) -> ScanFinding:
    left = Counter({"group": len(roster.left), "what groups of cells state": roster.n_left_containers})
    left = +left  # without what is zero
    return ScanFinding(
        engine="native",
        through_h5py=dict(sum((part.through_h5py for part in parts), left)),
        n_objects=sum(part.n_objects for part in parts),
        damaged=any(part.damaged for part in parts) or any(roster.faults.values()),
        state=tuple(stored.ctx.tolist()),
    )


def _joined_forms(columns: Sequence[FormColumn]) -> FormColumn:
    known: dict[Any, int] = {}
    codes = [
        np.array([*(known.setdefault(form, len(known)) for form in column.forms), -1], np.int32)[column.codes]
        for column in columns
    ]
    return FormColumn(np.concatenate([np.empty(0, np.int32), *codes]), tuple(known))


def _genes(parts: Sequence[Part]) -> tuple[str, ...] | None:
    return next((part.gene_names for part in parts if part.gene_names is not None), None)


def _with_left(path: Path, stored: Bytes, facts: Facts, roster: Roster, genes: Sequence[int]) -> Facts:
    """Return the facts with what is left to h5py: component by component, and the gene names of some cells."""
    left = {component: _left_rows(component, facts.located[component]) for component in Component}
    rows = sorted({*roster.left, *genes, *(row for own in left.values() for row in own.tolist())})
    if not rows:
        return facts
    for component in Component:
        left[component] = np.union1d(left[component], np.array(roster.left, np.int64)).astype(np.int64)
    cells = [(str(facts.containers[row]), str(facts.names.iloc[row])) for row in rows]
    found = scan_left(path, cells)
    if found.not_cells:  # a container perhaps, whose cells are not known here
        msg = f"only libhdf5 can tell what {'/'.join(cells[found.not_cells[0]]).lstrip('/')!r} is"
        raise NotNativeError(msg)
    own = set(left[Component.WSI_PATCH].tolist())
    images = {row: digest for row, digest in zip(rows, found.images, strict=True) if digest and row in own}
    if images:
        facts.wsi = with_left(stored, facts.located[Component.WSI_PATCH], facts.wsi, images)
    merged = replace(_merged(facts, rows, left, found), unknown=_unknown_of(facts, rows, left, found))
    merged.located = {component: _located_whole(merged, component, roster.left) for component in Component}
    return _with_genes(merged, rows, {*genes, *roster.left}, found)


def _located_whole(facts: Facts, component: Component, cells: Sequence[int]) -> Located:
    """Return where a component is, with that of `cells` left to h5py, as they are as a whole."""
    own = [row for row in cells if facts.forms[component].codes[row] >= 0]
    return facts.located[component].with_layout(own, Layout("h5py", reason=_WHOLE))


def _unknown_of(
    facts: Facts, rows: Sequence[int], left: dict[Component, NDArray[np.int64]], found: LeftCells
) -> Counter[str]:
    """Count what is no part of the layout in cells that are left as a whole, or whose attributes are."""
    whole = set.intersection(*(set(own.tolist()) for own in left.values()))
    attributes = set(left[Component.ATTRIBUTES].tolist()) - whole
    unknown = facts.unknown.copy()
    for row, own in zip(rows, found.unknown, strict=True):
        if row in whole:
            unknown.update(own)
        elif row in attributes and _is_by_attributes(facts.located[Component.ATTRIBUTES], row):
            unknown.update({name: n for name, n in own.items() if name.startswith("attribute ")})
    return unknown


def _is_by_attributes(located: Located, row: int) -> bool:
    return located.layouts[located.code[row]].reason == UNKNOWN_ATTRIBUTES


def _left_rows(component: Component, located: Located) -> NDArray[np.int64]:
    """Return the cells of whose component h5py is asked: what is no text is not looked at before it is read."""
    is_text = component in (Component.ATTRIBUTES, Component.CAPTION)
    codes = [
        code
        for code, layout in enumerate(located.layouts)
        if layout.storage == "h5py" or (is_text and not is_decoded(layout))
    ]
    return np.flatnonzero(np.isin(located.code, codes)).astype(np.int64)


def _with_genes(facts: Facts, rows: Sequence[int], stating: set[int], found: LeftCells) -> Facts:
    """Return the facts with the gene names that h5py found in the cells of `stating`, which all must state the same."""
    defects = [
        Problem(rows[number], what, reason)
        for number, what, reason in found.defects
        if what in GENE_KEYS and rows[number] in stating
    ]
    names = facts.gene_names or found.gene_names
    if found.gene_names not in (None, names):
        defects += [Problem(row, GENE_KEYS[1], OTHER_GENES) for row in sorted(stating - {each.row for each in defects})]
    return replace(facts, gene_names=names, defects=[*facts.defects, *defects])


def _merged(facts: Facts, rows: Sequence[int], left: dict[Component, NDArray[np.int64]], found: LeftCells) -> Facts:
    """Put what h5py found in some cells in its place."""
    at = {row: number for number, row in enumerate(rows)}
    documents, captions = facts.documents, facts.captions.copy()
    texts = left[Component.ATTRIBUTES].tolist()
    if texts:
        take = np.arange(len(facts))
        take[texts] = len(facts) + np.arange(len(texts))
        more = Documents.of([found.documents[at[row]] for row in texts])
        documents = Documents.joined([documents, more]).take(take)
    said = left[Component.CAPTION].tolist()
    if said:
        captions.iloc[said] = [found.captions[at[row]] for row in said]
    forms = dict(facts.forms)
    for component, own in left.items():
        known = {form: code for code, form in enumerate(forms[component].forms)}
        codes = forms[component].codes.copy()
        for row in own.tolist():
            form = found.forms[component][at[row]]
            codes[row] = -1 if form is None else known.setdefault(form, len(known))
        forms[component] = FormColumn(codes, tuple(known))
    of_left = {component: set(own.tolist()) for component, own in left.items()}
    defects = [
        Problem(rows[number], what, reason)
        for number, what, reason in found.defects
        if what not in GENE_KEYS and (what not in of_left or rows[number] in of_left[Component(what)])
    ]
    return replace(
        facts,
        documents=documents,
        captions=captions,
        forms=forms,
        defects=[*facts.defects, *defects],
        n_latin1=facts.n_latin1 + found.n_latin1,
    )
