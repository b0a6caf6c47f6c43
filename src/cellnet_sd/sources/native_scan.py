"""Scanning an HDF5 file by its own structures: what `hdf5_scan` finds, in columns, batch by batch."""

import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.documents import Documents, check_places
from cellnet_sd.components.text import decode_text, is_utf8, raw_bytes, text_list
from cellnet_sd.layout import GENE_KEYS, Component
from cellnet_sd.problems import GROUP, Problem
from cellnet_sd.sources.base import Raw
from cellnet_sd.sources.facts import FormColumn, StoredForm
from cellnet_sd.sources.hdf5_objects import ObjectError
from cellnet_sd.sources.hdf5_scan import (
    CAPTION_ATTRS,
    KNOWN_MEMBERS,
    ONE_BY_ONE,
    OTHER_GENES,
    dataset_form,
    group_form,
    plain,
)
from cellnet_sd.sources.locations import NULL, Layout, Located, StoredValue, flags_of
from cellnet_sd.sources.native.codes import Kind, Reason
from cellnet_sd.sources.native.scan import NativeScan
from cellnet_sd.sources.native_batch import UNKNOWN_ATTRIBUTES, LocatedBatch
from cellnet_sd.sources.native_documents import parse_documents
from cellnet_sd.sources.native_texts import Texts, read_texts
from cellnet_sd.sources.native_values import Bytes, NeedsLibhdf5Error, damage, is_decoded

if TYPE_CHECKING:
    import pyarrow as pa

BATCH: Final = 2**15
"""Cells that are scanned at once, and that an interrupted scan loses at most."""
_CAPTION_FORM: Final = StoredForm("attribute", dtype="text")
_JSON_FORM: Final = StoredForm("attribute", dtype="JSON text")
_DAMAGED_FORM: Final = StoredForm("unreadable")
_LEFT: Final = Layout("h5py", reason=UNKNOWN_ATTRIBUTES)


@dataclass
class Part:
    """What a scan finds in consecutive cells. Rows count from the first of them.

    Parameters
    ----------
    documents, captions
        Attributes as columns, and Arrow `large_string`.
    forms, located
        Stored form and place of each component.
    wsi_header
        Where the header of each cell's WSI image is, -1 without: equal for cells that share it.
    digest
        Which cells these are; see `digest_of`.
    faults
        What cannot be read.
    unknown, gene_names, n_latin1, through_h5py
        As in `Facts`.
    n_objects
        How many objects there are.
    damaged
        Whether some structure contradicts itself.
    left_genes
        Cells that state gene names in a way that only libhdf5 reads.
    """

    documents: Documents
    captions: "pa.Array"
    forms: dict[Component, FormColumn]
    located: dict[Component, Located]
    wsi_header: NDArray[np.int64]
    digest: int
    faults: list[Problem] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    gene_names: tuple[str, ...] | None = None
    n_latin1: int = 0
    through_h5py: Counter[str] = field(default_factory=Counter)
    n_objects: int = 0
    damaged: bool = False
    left_genes: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.wsi_header)


class NotAllCellsError(ValueError):
    """Something that was taken for a cell by its name is none, or it cannot be told."""


def read_part(scan: NativeScan, stored: Bytes, headers: NDArray[np.int64]) -> Part:
    """Return what is found in the cells whose groups have their headers at `headers`.

    Raises
    ------
    NotAllCellsError
        If they were taken for cells by their names, and not all are.
    """
    batch = scan.read_at(headers)
    if scan.cells.assumed and not batch.all_cells():
        del batch  # not to be kept by the traceback, while all is read again
        raise NotAllCellsError
    return _PartReader(LocatedBatch(scan, batch, stored), digest_of(headers)).part()


def digest_of(headers: NDArray[np.int64]) -> int:
    """Return a number that tells some cells from others, by where their headers are."""
    return zlib.crc32(np.ascontiguousarray(headers))


@dataclass
class _PartReader:
    """Reads one part, component by component."""

    cells: LocatedBatch
    digest: int
    forms: dict[Component, FormColumn] = field(default_factory=dict)
    located: dict[Component, Located] = field(default_factory=dict)
    faults: list[Problem] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    own_genes: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    left_genes: list[int] = field(default_factory=list)

    def part(self) -> Part:
        whole = self._broken_cells()
        for component in Component:
            self.located[component] = self.cells.located(component)
            self.forms[component] = forms_of(self.located[component])
        captions = read_texts(self.cells.stored, self.located[Component.CAPTION])
        texts = read_texts(self.cells.stored, self.located[Component.ATTRIBUTES])
        documents = parse_documents(texts, self.cells.stored.buf.size)
        documents = self._spelled_as_attributes(documents, texts, captions)
        self._report(Component.CAPTION, captions.faults)
        self._report(Component.ATTRIBUTES, texts.faults)
        self._report_unreadable(whole)
        self._note_members()
        return Part(
            documents,
            captions.array,
            self.forms,
            self.located,
            self._wsi_headers(),
            self.digest,
            self.faults,
            self.unknown,
            self._gene_names(),
            captions.n_latin1 + texts.n_latin1,
            self._through_h5py(),
            self._n_objects(),
            self._is_damaged(),
            tuple(self.left_genes),
        )

    # --- what cannot be read -----------------------------------------------------------------------------------------

    def _broken_cells(self) -> NDArray[np.bool_]:
        """Report cells whose own group cannot be read, and forget their components; return which they are."""
        groups = self.cells.batch.groups
        broken = np.asarray(groups.kind == Kind.DAMAGED)
        for row in np.flatnonzero(broken).tolist():
            self.faults.append(Problem(row, GROUP, damage(Reason(int(groups.reason[row])).name)))
            for objects in self.cells.batch.components.values():
                objects.kind[row] = Kind.ABSENT
        return broken

    def _report(self, component: str, faults: Mapping[int, str]) -> None:
        self.faults += [Problem(row, component, reason) for row, reason in faults.items()]

    def _report_unreadable(self, whole: NDArray[np.bool_]) -> None:
        """Report components that are not to be read; texts are reported where they are read."""
        for component, located in self.located.items():
            if component in (Component.ATTRIBUTES, Component.CAPTION):
                continue
            for code, layout in enumerate(located.layouts):
                if layout.reason and layout.storage != "h5py":
                    rows = np.flatnonzero((located.code == code) & ~whole)
                    self._report(component, dict.fromkeys(rows.tolist(), layout.reason))

    def _is_damaged(self) -> bool:
        groups = self.cells.batch.groups
        objects = [*self.cells.batch.components.values(), self.cells.batch.members.objects]
        broken = (groups.kind == Kind.DAMAGED) & (groups.header >= 0)  # without a header, the roster says what is wrong
        return bool(broken.any()) or any((each.kind == Kind.DAMAGED).any() for each in objects)

    def _n_objects(self) -> int:
        present = sum(int((each.kind != Kind.ABSENT).sum()) for each in self.cells.batch.components.values())
        return present + len(self.cells.batch.members.objects)

    def _through_h5py(self) -> Counter[str]:
        """Count the objects that are left to h5py, by reason."""
        found: Counter[str] = Counter()
        for objects in (*self.cells.batch.components.values(), self.cells.batch.members.objects):
            counts = np.bincount(objects.reason[objects.kind == Kind.FALLBACK], minlength=1).tolist()
            found.update({Reason(reason).name.lower().replace("_", " "): n for reason, n in enumerate(counts) if n})
        for located in self.located.values():
            codes = (
                located.code if located.members is None else np.append(located.code, located.members.columns["code"])
            )
            for code, layout in enumerate(located.layouts):
                if layout.reason == UNKNOWN_ATTRIBUTES:
                    found[UNKNOWN_ATTRIBUTES] += int((codes == code).sum())
                elif layout.storage != "h5py" and not is_decoded(layout):
                    numbers = ", ".join(str(step.number) for step in layout.filters)
                    found[f"filters {numbers}"] += int((codes == code).sum())
        found["gene names"] += len(self.left_genes)
        return +found  # without what is zero

    # --- HDF5 attributes of the cell's group -------------------------------------------------------------------------

    def _spelled_as_attributes(self, documents: Documents, texts: Texts, captions: Texts) -> Documents:
        """Add the captions and attributes that are HDF5 attributes; note those that are no part of the layout."""
        found: dict[int, dict[str, Any]] = {}
        has = {component: self.located[component].code >= 0 for component in (Component.ATTRIBUTES, Component.CAPTION)}
        forms = {component: _Forms(self.forms[component]) for component in has}
        said: dict[int, str] = {}
        left: dict[Component, list[int]] = {component: [] for component in has}
        by_h5py = self.cells.batch.groups.kind == Kind.FALLBACK
        for row, own in self.cells.attributes.of_cells():
            if by_h5py[row]:  # not all of them are known here
                continue
            values = {name: value for name, value in own if name is not None and value is not None}
            not_known = {name for name, value in own if name is None or value is None}
            if not has[Component.CAPTION][row]:
                if not_known & {*CAPTION_ATTRS}:
                    left[Component.CAPTION].append(row)
                else:
                    self._caption(row, values, said, captions, forms[Component.CAPTION])
            is_document = has[Component.ATTRIBUTES][row]
            if not is_document and not_known - {*CAPTION_ATTRS}:
                left[Component.ATTRIBUTES].append(row)
                continue
            if is_document or self._document(row, values, found, texts, forms[Component.ATTRIBUTES]):
                self.unknown.update(f"attribute {name}" for name, _ in own if name not in _LAYOUT_ATTRS)
        self.forms.update({component: column.column() for component, column in forms.items()})
        for component, rows in left.items():
            self.located[component] = self.located[component].with_layout(rows, _LEFT)
        captions.array = _with_texts(captions.array, said)
        names = documents.columns.keys() | {name for own in found.values() for name in own}
        check_places(len(names), len(self.cells), self.cells.stored.buf.size)
        return _with_documents(documents, found)

    def _caption(
        self, row: int, values: Mapping[str, StoredValue], said: dict[int, str], texts: Texts, forms: "_Forms"
    ) -> None:
        for name in CAPTION_ATTRS:
            if name in values and values[name].shape != NULL:
                try:
                    said[row] = _text(values[name], texts)
                    forms.set(row, _CAPTION_FORM)
                except ValueError as error:
                    texts.faults[row] = str(error)
                    forms.set(row, _DAMAGED_FORM)
                return

    def _document(
        self,
        row: int,
        values: Mapping[str, StoredValue],
        found: dict[int, dict[str, Any]],
        texts: Texts,
        forms: "_Forms",
    ) -> bool:
        """Take a document from HDF5 attributes; whether it is one JSON text."""
        from cellnet_sd.components.attributes import parse_document

        if (whole := values.get(Component.ATTRIBUTES)) is not None and whole.shape != NULL:
            try:
                found[row] = dict(parse_document(_text(whole, texts)))
                forms.set(row, _JSON_FORM)
            except ValueError as error:
                texts.faults[row] = str(error)
                forms.set(row, _DAMAGED_FORM)
            return True
        names = sorted((name for name in values if name not in CAPTION_ATTRS), key=str.encode)  # as libhdf5 lists them
        if names:
            found[row] = {name: plain(values[name].value()) for name in names}
            forms.set(row, ONE_BY_ONE)
        return False

    # --- the rest ----------------------------------------------------------------------------------------------------

    def _wsi_headers(self) -> NDArray[np.int64]:
        located, objects = self.located[Component.WSI_PATCH], self.cells.batch.components[Component.WSI_PATCH]
        is_image = (each.storage not in ("group", "unreadable", "h5py") for each in located.layouts)
        return np.where(flags_of(located.code, is_image), objects.header, -1)

    def _note_members(self) -> None:
        """Count what lies in cells without being a component, and take the gene names among it."""
        members, n = self.cells.batch.members, len(self.cells)
        rows = np.flatnonzero((members.parent >= 0) & (members.parent < n))
        names = [name.decode(errors="replace") for name in self.cells.scan.known.names.values]
        counts = np.bincount(members.name[rows], minlength=len(names)).tolist()
        self.unknown.update({name: k for name, k in zip(names, counts, strict=True) if k and name not in KNOWN_MEMBERS})
        genes = rows[np.isin(members.name[rows], [at for at, name in enumerate(names) if name in GENE_KEYS])]
        for row, place in zip(genes.tolist(), self.cells.loose(genes), strict=True):
            cell, key = int(members.parent[row]), names[members.name[row]]
            try:
                listed = (
                    None
                    if place is None or place.layout.storage == "group"
                    else text_list(self.cells.stored.array(place, decoded=True))
                )
            except NeedsLibhdf5Error:
                self.left_genes.append(cell)
                continue
            except ObjectError as error:
                self.faults.append(Problem(cell, key, str(error)))
                continue
            self.own_genes.append((cell, tuple(listed or ())))

    def _gene_names(self) -> tuple[str, ...] | None:
        """Return the gene names that the cells state; all must state the same."""
        first = next((names for _, names in self.own_genes if names), None)
        for cell, names in self.own_genes:
            if names != first:
                self.faults.append(Problem(cell, GENE_KEYS[1], OTHER_GENES))
        return first


_LAYOUT_ATTRS: Final = frozenset({Component.ATTRIBUTES, *CAPTION_ATTRS})


class _Forms:
    """A column of forms that more are added to."""

    def __init__(self, column: FormColumn) -> None:
        self.codes = column.codes.copy()
        self.known = {form: code for code, form in enumerate(column.forms)}

    def set(self, row: int, form: StoredForm) -> None:
        self.codes[row] = self.known.setdefault(form, len(self.known))

    def column(self) -> FormColumn:
        return FormColumn(self.codes, tuple(self.known))


def forms_of(located: Located) -> FormColumn:
    """Return the stored forms of a component from where it is."""
    known: dict[StoredForm, int] = {}
    codes = [known.setdefault(form_of(layout), len(known)) for layout in located.layouts]
    return FormColumn(np.array([*codes, -1], np.int32)[located.code], tuple(known))


def form_of(layout: Layout) -> StoredForm:
    """Return the stored form that a layout is."""
    if layout.storage == "group":
        attrs = dict(layout.attrs)
        encoding, shape = (attrs[key].value() if key in attrs else None for key in ("encoding-type", "shape"))
        return group_form(encoding, shape, layout.members)
    if not layout.dtype:
        return _DAMAGED_FORM
    dtype = np.dtype(layout.dtype)
    words = {"text": "text", "vlen text": "text", "opaque": "opaque bytes", "vlen": f"variable-length {dtype}"}
    varying = np.dtype(object) if layout.kind.startswith("vlen") else dtype
    return dataset_form(varying, words.get(layout.kind, str(dtype)), layout.shape)


def _text(value: StoredValue, texts: Texts) -> str:
    stored = raw_bytes(Raw(np.asarray(value.value())))
    texts.n_latin1 += not is_utf8(stored)
    return decode_text(stored)


def _with_texts(array: "pa.Array", said: Mapping[int, str]) -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    if not said:
        return array
    mask = np.zeros(len(array), bool)
    mask[list(said)] = True
    return pc.replace_with_mask(array, pa.array(mask), pa.array([said[row] for row in sorted(said)], pa.large_string()))


def _with_documents(documents: Documents, found: Mapping[int, dict[str, Any]]) -> Documents:
    """Return documents with those of some rows put in their places."""
    if not found:
        return documents
    rows = np.arange(documents.n)
    rows[list(found)] = documents.n + np.arange(len(found))
    return Documents.joined([documents, Documents.of(list(found.values()))]).take(rows)
