"""Scanning an HDF5 file: one pass over its cells that reads names, attributes, captions and how the rest is stored."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from h5py import h5d, h5g
from h5py._objects import ObjectID
from numpy.typing import NDArray

from cellnet_sd.components import attributes
from cellnet_sd.components.documents import Documents
from cellnet_sd.components.text import decode_text, is_utf8, raw_bytes, text_list
from cellnet_sd.errors import CorruptFileError
from cellnet_sd.layout import GENE_KEYS, Component
from cellnet_sd.problems import GROUP, Problem
from cellnet_sd.progress import progress
from cellnet_sd.sources.base import Raw
from cellnet_sd.sources.facts import Facts, FormColumn, Stated, StoredForm
from cellnet_sd.sources.hdf5_limits import attr_names, member_names, take_text
from cellnet_sd.sources.hdf5_objects import (
    DAMAGE,
    ObjectError,
    check_dataset,
    open_file,
    open_member,
    read_attr,
    read_dataset,
    read_object,
)
from cellnet_sd.sources.hdf5_walk import CellGroup, Walk
from cellnet_sd.sources.hdf5_wsi import WsiImages, faults_of, numbered_in_full

_TEXTS = (Component.ATTRIBUTES, Component.CAPTION)
CAPTION_ATTRS = (Component.CAPTION.value, "caption")
ONE_BY_ONE = StoredForm("attribute", dtype="one HDF5 attribute each")
OTHER_GENES = "it does not name the same genes as the cells before it"
TYPE_NOT_READ = "its HDF5 attributes are of a type that is not read"
KNOWN_MEMBERS = frozenset({"images", *Component, *GENE_KEYS})


def scan(path: Path) -> Facts:
    """Return what the HDF5 file at `path` holds.

    Parameters
    ----------
    path
        An HDF5 file.

    Returns
    -------
    One entry per cell, in the order of the walk. A file without cells gives empty facts.

    Raises
    ------
    CellNetError
        If the file cannot be opened or its structure cannot be trusted.
    """
    with open_file(path) as file:
        try:
            return _scan(file, path)
        except DAMAGE as error:
            msg = f"{path}: its structure is damaged ({error})."
            raise CorruptFileError(msg) from error


def _scan(file: h5py.File, path: Path) -> Facts:
    walk = Walk(file)
    scanner = Scanner(file)
    for cell in progress(walk.cells(), total=None, desc=f"Indexing {path.name}"):
        scanner.add(cell)
    scanner.unknown.update(walk.unknown)
    return scanner.finish(walk.stated)


@dataclass
class FormCodes:
    """The distinct stored forms met so far, and each cell's code."""

    codes: list[int] = field(default_factory=list)
    known: dict[StoredForm, int] = field(default_factory=dict)

    def add(self, form: StoredForm | None) -> None:
        """Add a cell, `None` for one without the component."""
        self.codes.append(-1 if form is None else self.known.setdefault(form, len(self.known)))

    def stored(self) -> list[StoredForm | None]:
        """Return the form of each cell."""
        forms = [*self.known, None]
        return [forms[code] for code in self.codes]

    def column(self) -> FormColumn:
        """Return the forms as codes."""
        return FormColumn(np.array(self.codes, dtype=np.int32), tuple(self.known))


@dataclass
class Scanner:
    """Gathers facts cell by cell, in lists that grow."""

    file: h5py.File
    names: list[str] = field(default_factory=list)
    containers: list[str] = field(default_factory=list)
    documents: list[dict[str, Any] | None] = field(default_factory=list)
    captions: list[str | None] = field(default_factory=list)
    defects: list[Problem] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    gene_names: tuple[str, ...] | None = None
    n_latin1: int = 0
    forms: dict[Component, FormCodes] = field(
        default_factory=lambda: {component: FormCodes() for component in Component}
    )
    wsi: list[int] = field(default_factory=list)
    images: WsiImages = field(default_factory=WsiImages)

    def add(self, cell: CellGroup) -> None:
        """Gather one cell."""
        self.names.append(cell.name)
        self.containers.append(cell.container)
        self.documents.append(None)
        self.captions.append(None)
        self.wsi.append(-1)
        if isinstance(cell.group, str):
            self.defects.append(Problem(len(self.names) - 1, GROUP, cell.group))
            for component in Component:
                self.forms[component].add(None)
            return
        for component in Component:
            self._component(cell.group, component)
        self._note_unknown(cell.group)

    def finish(self, stated: Mapping[str, Stated]) -> Facts:
        """Return what was gathered, as columns."""
        return Facts(
            names=pd.Series(self.names, dtype="str"),
            containers=pd.Categorical(self.containers, categories=list(dict.fromkeys(self.containers))),
            documents=Documents.of(self.documents),
            captions=pd.Series(self.captions, dtype="str"),
            forms={component: forms.column() for component, forms in self.forms.items()},
            wsi=self._wsi_numbers(),
            stated=stated,
            defects=self.defects,
            unknown=self.unknown,
            gene_names=self.gene_names,
            n_latin1=self.n_latin1,
        )

    def _component(self, group: h5g.GroupID, component: Component) -> None:
        form = None
        try:
            node = open_member(group, component)
            if node is not None:
                form = stored_form(node)
                self._content(component, node)
            elif component in _TEXTS:
                form = self._from_attrs(group, component)
        except DAMAGE as error:
            self.defects.append(Problem(len(self.names) - 1, component, str(error)))
            form = form or StoredForm("unreadable")
        self.forms[component].add(form)

    def _content(self, component: Component, node: ObjectID) -> None:
        """Take what an index holds of a component's content: all text, and which WSI image it is."""
        if component is Component.ATTRIBUTES:
            self.documents[-1] = dict(attributes.parse_document(self._text_of(node)))
        elif component is Component.CAPTION:
            self.captions[-1] = self._text_of(node)
        elif isinstance(node, h5d.DatasetID):
            check_dataset(node)
            if component is Component.WSI_PATCH:
                self.wsi[-1] = self.images.number(node)

    def _text_of(self, node: ObjectID) -> str:
        raw = read_object(node)
        text = self._text(raw)
        is_elsewhere = raw.value is not None and raw.value.dtype.kind == "O"  # in a heap
        take_text(node, len(text), is_elsewhere=is_elsewhere)
        return text

    def _text(self, raw: Raw) -> str:
        stored = raw_bytes(raw)
        self.n_latin1 += not is_utf8(stored)
        return decode_text(stored)

    def _from_attrs(self, group: h5g.GroupID, component: Component) -> StoredForm | None:
        """Read a caption or the attributes from HDF5 attributes of the cell's group."""
        if component is Component.CAPTION:
            for name in CAPTION_ATTRS:
                if (value := read_attr(group, name)) is not None:
                    self.captions[-1] = self._text(Raw(np.asarray(value)))
                    return StoredForm("attribute", dtype="text")
            return None
        if (value := read_attr(group, component.value)) is not None:
            self.documents[-1] = dict(attributes.parse_document(self._text(Raw(np.asarray(value)))))
            return StoredForm("attribute", dtype="JSON text")
        names = [name for name in attr_names(group) if name not in CAPTION_ATTRS]
        if not names:
            return None
        self.documents[-1] = {name: plain(read_attr(group, name)) for name in names}
        return ONE_BY_ONE

    def _wsi_numbers(self) -> NDArray[np.int32]:
        """Return the numbers of the WSI images, -1 without one, and report what is none: it tells nothing of slides."""
        numbers = np.array(self.wsi, dtype=np.int32)
        rows = np.flatnonzero(numbers >= 0)
        if not self.images.are_sure:
            numbers[rows] = numbered_in_full(self._images(rows))
        _, first = np.unique(numbers[rows], return_index=True)
        reasons = faults_of(self._images(rows[first]))
        own = np.cumsum([reason is None for reason in reasons], dtype=np.int32) - 1
        for row, number in zip(rows.tolist(), numbers[rows].tolist(), strict=True):
            if (reason := reasons[number]) is not None:
                self.defects.append(Problem(row, Component.WSI_PATCH, reason))
            numbers[row] = own[number] if reason is None else -1
        return numbers

    def _images(self, rows: NDArray[np.int64]) -> Iterator[h5d.DatasetID]:
        """Yield the WSI images of cells that have a number, each opened alone: libhdf5 keeps chunks of what is open."""
        for row in rows.tolist():
            path = f"{self.containers[row]}/{self.names[row]}/{Component.WSI_PATCH}"
            node = open_member(h5g.open(self.file.id, b"/"), path)
            assert isinstance(node, h5d.DatasetID)
            yield node

    def _note_unknown(self, group: h5g.GroupID) -> None:
        names = {name.decode(errors="replace") for name in member_names(group)}
        if "images" in names:
            names |= {f"images/{name}" for name in _names_in(group, "images")}
        self.unknown.update(names - KNOWN_MEMBERS)
        if self.forms[Component.ATTRIBUTES].codes[-1] >= 0 and self._attributes_are_a_document():
            beside = set(attr_names(group)) - {Component.ATTRIBUTES, *CAPTION_ATTRS}
            self.unknown.update(f"attribute {name}" for name in beside)
        for key in GENE_KEYS:
            if key in names:
                self._own_genes(group, key)

    def _attributes_are_a_document(self) -> bool:
        forms = self.forms[Component.ATTRIBUTES]
        return next(form for form, code in forms.known.items() if code == forms.codes[-1]) != ONE_BY_ONE

    def _own_genes(self, group: h5g.GroupID, key: str) -> None:
        """Take the gene names that a cell states itself; all cells must state the same."""
        try:
            node = open_member(group, key)
            names = text_list(read_dataset(node)) if isinstance(node, h5d.DatasetID) else None
        except ObjectError as error:
            self.defects.append(Problem(len(self.names) - 1, key, str(error)))
            return
        if self.gene_names is None and names is not None:
            self.gene_names = tuple(names)
        if names is None or tuple(names) != self.gene_names:
            self.defects.append(Problem(len(self.names) - 1, key, OTHER_GENES))


def _names_in(group: h5g.GroupID, name: str) -> set[str]:
    """Return the names in a group below `group`; none in what cannot be opened, which its components say."""
    try:
        inner = open_member(group, name)
    except ObjectError:
        return set()
    if not isinstance(inner, h5g.GroupID):
        return set()
    return {each.decode(errors="replace") for each in member_names(inner)}


def stored_form(node: ObjectID) -> StoredForm:
    """Return how an object is stored.

    Raises
    ------
    ObjectError
        If it is neither a dataset nor a group, or its type cannot be read.
    """
    if isinstance(node, h5g.GroupID):
        return _group_form(node)
    if not isinstance(node, h5d.DatasetID):
        msg = "a named datatype is stored where a value should be"
        raise ObjectError(msg)
    try:
        dtype, shape = node.dtype, node.shape
    except (TypeError, RuntimeError, ValueError, OSError) as error:
        msg = f"its type cannot be read ({error})"
        raise ObjectError(msg) from error
    return dataset_form(dtype, _dtype_name(dtype), shape)


def dataset_form(dtype: np.dtype[Any], name: str, shape: tuple[int, ...] | None) -> StoredForm:
    """Return how a dataset is stored; `name` says what its elements are."""
    varies = dtype.kind in "VOS" or (dtype == np.uint8 and len(shape or ()) == 1)
    return StoredForm("dataset", name, None if varies and len(shape or ()) < 2 else shape)


def _group_form(group: h5g.GroupID) -> StoredForm:
    names = sorted(name.decode(errors="replace") for name in member_names(group))
    return group_form(read_attr(group, "encoding-type"), read_attr(group, "shape"), names)


def group_form(encoding: Any, shape: Any, names: Sequence[str]) -> StoredForm:
    """Return how a group is stored, from two of its attributes (`None` without) and its members in order."""
    members = tuple(names)
    return StoredForm(
        "group",
        encoding=None if encoding is None else decode_text(plain(encoding)),
        shape=None if shape is None else tuple(int(n) for n in np.atleast_1d(shape)),
        members=members if len(members) <= 8 else (*members[:7], f"… ({len(members)} in all)"),
    )


def _dtype_name(dtype: np.dtype[Any]) -> str:
    if (inner := h5py.check_vlen_dtype(dtype)) is not None:
        return "text" if inner in (str, bytes) else f"variable-length {inner}"
    return {"S": "text", "V": "opaque bytes"}.get(dtype.kind, str(dtype))


def plain(value: Any) -> Any:
    """Return an HDF5 attribute's value as JSON would hold it: `str`, numbers, lists; `None` stays.

    Raises
    ------
    ObjectError
        If it is of a type that JSON has not: extended precision, complex, compound, a reference.
    """
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()] if value.size != 1 else plain(value.reshape(-1)[0])
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, bytes | str | int | float | None):
        raise ObjectError(TYPE_NOT_READ)
    return decode_text(value) if isinstance(value, bytes) else value
