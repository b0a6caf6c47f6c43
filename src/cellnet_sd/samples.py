"""A sample of the cells of a file, by which its findings are made: which cells, and what they hold."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.cellindex import CellIndex, Rows
from cellnet_sd.components import images
from cellnet_sd.layout import PATCHES, Component
from cellnet_sd.problems import Problems
from cellnet_sd.sources.base import Raw, Source, Unreadable

SAMPLE: Final = 64
"""Cells that are looked at for each finding."""
_FORMS_SAMPLED: Final = 64


def sample_rows(index: CellIndex, component: Component, size: int = SAMPLE, among: Rows | None = None) -> Rows:
    """Return rows that have `component`: spread evenly, and one of each stored form."""
    codes = index.forms[component].codes
    rows = np.flatnonzero(codes >= 0) if among is None else among[codes[among] >= 0]
    if not len(rows):
        return rows.astype(np.int64)
    first_of_form = rows[np.unique(codes[rows], return_index=True)[1][:_FORMS_SAMPLED]]
    return np.union1d(_spread(rows, size), first_of_form).astype(np.int64)


def lenient(source: Source) -> Problems:
    """Return an error policy for samples: what is malformed is passed over here, and reported when it is read."""
    return Problems(str(source.path), lambda row: str(source.index.names.iloc[row]), "skip")


def one_per_wsi(index: CellIndex) -> Rows:
    """Return a row of each of at most `SAMPLE` WSI images, spread evenly: an image may take hundreds of MB."""
    images_of, first = np.unique(index.wsi, return_index=True)
    return _spread(first[images_of >= 0].astype(np.int64), SAMPLE)


def _spread(rows: Rows, size: int) -> Rows:
    """Return at most `size` of `rows`, spread evenly."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(size, len(rows))).astype(np.int64))]


def looked_at(source: Source, component: Component, rows: Rows) -> Iterator[Raw | Unreadable | None]:
    """Yield what tells the sizes and types of the patches of a sample.

    Where the stored form states them, one patch that can be read tells them for all of its form. Of WSI images, each of
    which may take hundreds of MB, it tells them alone: the scan has seen that they are images.
    """
    column = source.index.forms[component]
    for code in np.unique(column.codes[rows]).tolist():
        alike, form = rows[column.codes[rows] == code], column.forms[code]
        if component is not Component.WSI_PATCH:
            (first,) = source.fetch(component, alike[:1])
            yield first
            if not isinstance(first, Raw) or images.outline_of(form.dtype, form.shape) is None:
                yield from source.fetch(component, alike[1:])
        elif (outline := images.outline_of(form.dtype, form.shape)) is not None:
            yield outline
        else:
            yield from (source.fetch(component, [row])[0] for row in alike.tolist())


def decoded(source: Source, frame: images.Frame, level: str, rows: Rows) -> NDArray[Any]:
    """Return the patches of cells at `rows`, (n, H, W, C); background where they cannot be read."""
    return images.read(source, rows, frame, PATCHES[level], lenient(source))[0]
