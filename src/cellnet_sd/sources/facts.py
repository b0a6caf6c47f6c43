"""What a scan of a source finds: plain columns, one entry per cell, before anything is decided."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd.components.documents import Documents
from cellnet_sd.layout import Component
from cellnet_sd.problems import Problem
from cellnet_sd.sources.locations import Located

if TYPE_CHECKING:
    from cellnet_sd.rows import CellOrder


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

    codes: NDArray[np.integer[Any]]
    forms: tuple[StoredForm, ...]

    def __post_init__(self) -> None:
        """Keep the codes in the narrowest dtype that holds them: there is a handful of forms, and millions of cells."""
        self.codes = self.codes.astype(np.min_scalar_type(-max(1, len(self.forms))), copy=False)

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
    values: dict[str, int | float | list[str] | None] = msgspec.field(default_factory=dict)
    """Numbers, or lists of names, by key: HDF5 attributes and datasets alike; `None` for a number that is none."""


class ScanFinding(msgspec.Struct, frozen=True):
    """By which engine a file was scanned, and what that engine left."""

    engine: str = "h5py"
    why: str = ""
    """Why it was not the native engine, where that was asked for."""
    through_h5py: dict[str, int] = {}
    """Objects that the native engine leaves to h5py, by reason."""
    n_objects: int = 0
    """Objects that it has seen."""
    damaged: bool = False
    """Whether some structure contradicts itself."""
    state: tuple[int, ...] = ()
    """What following references within the file begins with."""


@dataclass
class Facts:
    """Everything a scan finds, one entry per cell.

    Parameters
    ----------
    names, containers
        Of each cell: the bare group name, and the path of the group it lies in (`""` is the root); containers in the
        order they are met.
    documents, captions
        Attributes as columns, and captions; missing where absent or malformed.
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
    order
        What the order of the cells is; `None` for that of a walk, which is yet to be put in order.
    located
        Where the bytes of each component are; empty where h5py did the scan.
    scan
        By which engine it was found.
    """

    names: pd.Series
    containers: pd.Categorical
    documents: Documents
    captions: pd.Series
    forms: Mapping[Component, FormColumn]
    wsi: NDArray[np.int32]
    stated: Mapping[str, Stated]
    defects: list[Problem]
    unknown: Counter[str]
    gene_names: tuple[str, ...] | None
    n_latin1: int
    order: "CellOrder | None" = None
    located: Mapping[Component, Located] = field(default_factory=dict)
    scan: ScanFinding = field(default_factory=ScanFinding)

    def __len__(self) -> int:
        return len(self.names)

    def ordered(self, rows: NDArray[np.int64], order: "CellOrder") -> "Facts":
        """Return the facts of the cells at `rows`, whose order that is."""
        row_of = np.empty(len(rows), dtype=np.int64)
        row_of[rows] = np.arange(len(rows))
        return replace(
            self,
            names=self.names.iloc[rows].reset_index(drop=True),
            containers=self.containers.take(rows),
            documents=self.documents.take(rows),
            captions=self.captions.iloc[rows].reset_index(drop=True),
            forms={component: column.take(rows) for component, column in self.forms.items()},
            wsi=self.wsi[rows],
            defects=[Problem(int(row_of[row]), component, reason) for row, component, reason in self.defects],
            located={component: places.take(rows) for component, places in self.located.items()},
            order=order,
        )
