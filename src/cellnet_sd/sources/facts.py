"""What a scan of a source finds: plain columns, one entry per cell, before anything is decided."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cellnet_sd.layout import Component
from cellnet_sd.problems import Problem


class StoredForm(msgspec.Struct, frozen=True):
    """How one component is stored, without its values."""

    kind: str
    """`"dataset"`, `"group"`, or `"attribute"` for an HDF5 attribute of the cell's group."""
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    """`None` where it differs from cell to cell by nature (encoded bytes, sparse vectors, text)."""
    encoding: str | None = None
    members: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the form in words."""
        if self.kind == "group":
            named = f"{self.encoding} group" if self.encoding else "group"
            shape = f" of shape {self.shape}" if self.shape else ""
            return f"{named}{shape} with {', '.join(self.members)}"
        return f"{self.kind} of {self.dtype}" + (f", shape {self.shape}" if self.shape is not None else "")


@dataclass
class FormColumn:
    """The stored form of one component in every cell: codes into the distinct forms, -1 where absent."""

    codes: NDArray[np.int32]
    forms: tuple[StoredForm, ...]

    @property
    def present(self) -> NDArray[np.bool_]:
        """Whether each cell has the component."""
        return np.asarray(self.codes >= 0)

    def take(self, rows: NDArray[np.int64]) -> "FormColumn":
        """Return the column of the cells at `rows`."""
        return FormColumn(self.codes[rows], self.forms)

    def counts(self) -> Counter[StoredForm]:
        """Return how many cells have each form."""
        counts = np.bincount(self.codes[self.present], minlength=len(self.forms))
        return Counter({form: int(n) for form, n in zip(self.forms, counts, strict=True) if n})


class Stated(msgspec.Struct):
    """What the root or a container group states beside its cells, and whether it tracks their creation order."""

    tracked: bool
    values: dict[str, Any] = msgspec.field(default_factory=dict)
    """Numbers, or lists of names, by key: HDF5 attributes and datasets alike."""


@dataclass
class Facts:
    """Everything a scan finds, in the order it met the cells.

    Parameters
    ----------
    names, containers
        Of each cell: the bare group name, and the path of the group it lies in (`""` is the root).
    documents, captions
        Decoded attributes and captions, `None` where absent or malformed.
    forms
        Stored form of each component.
    wsi
        A number per distinct stored WSI image, -1 where absent.
    stated
        What the root and the containers state.
    defects
        Cells, or parts of them, that cannot be read.
    unknown
        Names of objects that are no part of the layout, with their counts: they are not read.
    gene_names
        Gene names that the cells state themselves.
    n_latin1
        Number of captions and attributes that are not UTF-8 and were read as latin-1.
    """

    names: list[str] = field(default_factory=list)
    containers: list[str] = field(default_factory=list)
    documents: list[dict[str, Any] | None] = field(default_factory=list)
    captions: list[str | None] = field(default_factory=list)
    forms: dict[Component, FormColumn] = field(default_factory=dict)
    wsi: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    stated: dict[str, Stated] = field(default_factory=dict)
    defects: list[Problem] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    gene_names: tuple[str, ...] | None = None
    n_latin1: int = 0

    def __len__(self) -> int:
        return len(self.names)
