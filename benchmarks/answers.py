"""What readers answer, in one form, so that answers can be compared before anything is timed."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ARRAYS: Final = (
    "expression",
    "images/cell_patch",
    "images/tissue_patch",
    "images/WSI_patch",
    "CCC/data",
    "CCC/indices",
    "CCC/indptr",
)
"""The arrays of a cell; its two other datasets are texts."""

_POSITIONS: Final = {"spatial_tissue": "Position_in_tissue", "spatial": "Position_in_WSI"}


class DisagreementError(Exception):
    """Two readers of one file do not answer the same."""


class Place(NamedTuple):
    """An array as it is stored: its shape and type, and where its bytes are."""

    shape: tuple[int, ...]
    dtype: str
    offset: int
    size: int


@dataclass(slots=True)
class Catalogue:
    """What an index knows of cells, one entry each."""

    names: list[str] = field(default_factory=list)
    documents: list[dict[str, Any]] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    places: list[tuple[Place, ...]] = field(default_factory=list)
    """Of the arrays, in the order of `ARRAYS`."""

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: str, document: dict[str, Any], caption: str, places: tuple[Place, ...]) -> None:
        self.names.append(name)
        self.documents.append(document)
        self.captions.append(caption)
        self.places.append(places)

    def labels(self, key: str) -> list[Any]:
        """Return one attribute of all cells."""
        return [document[key] for document in self.documents]

    def positions(self) -> dict[str, NDArray[np.float64]]:
        """Return the positions, (n, 2), by the key that cellnet_sd gives them."""
        return {
            key: np.array([_numbers(text) for text in self.labels(name)], dtype=np.float64)
            for key, name in _POSITIONS.items()
        }

    def diameters(self) -> NDArray[np.float64]:
        """Return the diameters in µm."""
        return np.array([_numbers(text)[0] for text in self.labels("cell_diameter")], dtype=np.float64)


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+\.?\d*", text)]


class Batch(NamedTuple):
    """Expression and patches of the same cells."""

    expression: "csr_matrix"
    patches: NDArray[Any]


def check(what: str, *, agree: bool) -> None:
    """Raise `DisagreementError` unless they agree."""
    if not agree:
        msg = f"The answers differ in {what}."
        raise DisagreementError(msg)


def check_catalogues(ours: Catalogue, other: Catalogue) -> None:
    """Check that two peers found the same."""
    for name in ("names", "documents", "captions", "places"):
        check(name, agree=getattr(ours, name)[: len(other)] == getattr(other, name))


def check_matrices(ours: "csr_matrix", other: "csr_matrix") -> None:
    """Check that `other` is the first rows of `ours`, entry by entry and in dtype."""
    head = ours[: other.shape[0]]
    check("the shape of the expression", agree=ours.shape[1] == other.shape[1] and len(head.data) == len(other.data))
    check("the type of the expression", agree=head.dtype == other.dtype == np.float32)
    for part in ("indptr", "indices", "data"):
        check(f"the {part} of the expression", agree=np.array_equal(getattr(head, part), getattr(other, part)))


def check_patches(ours: NDArray[Any], other: NDArray[Any]) -> None:
    """Check that `other` is the first of `ours`, pixel by pixel."""
    check("the type of the patches", agree=ours.dtype == other.dtype)
    check("the patches", agree=np.array_equal(ours[: len(other)], other))


def check_batches(ours: Sequence[Batch], other: Sequence[Batch]) -> None:
    """Check that `other` is the first of `ours`."""
    check("the number of batches", agree=len(ours) >= len(other) > 0)
    for a, b in zip(ours, other, strict=False):
        check_matrices(a.expression, b.expression)
        check_patches(a.patches, b.patches)


def is_positive(number: float) -> bool:
    """Whether a measured number can be true."""
    return math.isfinite(number) and number > 0
