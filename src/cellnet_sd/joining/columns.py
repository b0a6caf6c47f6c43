"""Columns of `obs` of several files, brought to one dtype each, so that they go one below the other without loss."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandas.api import types

from cellnet_sd.notes import Notes


def unified(frames: Sequence[pd.DataFrame], notes: Notes) -> list[pd.DataFrame]:
    """Return the frames, a column of one dtype in all that have it.

    Labels become categoricals wherever one file has them so; whole numbers that some file lacks become `Int64`, which
    has missing values. A column that holds numbers in one file and text in another becomes text, and is noted.
    """
    columns = dict.fromkeys(column for frame in frames for column in frame)
    dtypes = {column: _common([frame.get(column) for frame in frames]) for column in columns}
    mixed = [column for column, dtype in dtypes.items() if dtype == "text"]
    if mixed:
        notes.warn_of(f"numbers in one file, text in another: read as text: {', '.join(map(str, mixed))}")
    return [
        frame.assign(**{str(name): _as(frame[name], dtype) for name in frame if (dtype := dtypes[name]) is not None})
        for frame in frames
    ]


def _common(columns: Sequence[pd.Series | None]) -> str | None:
    """Return what the columns of one name become, `None` to leave them."""
    there = [column for column in columns if column is not None]
    labels = [isinstance(column.dtype, pd.CategoricalDtype) for column in there]
    numbers = [types.is_numeric_dtype(column.dtype) for column in there]  # of bool too
    if any(numbers) and not all(numbers):
        return "text"
    if any(labels) and not all(labels):
        return "category"
    if len(there) < len(columns) and all(types.is_integer_dtype(column.dtype) for column in there):
        return "Int64"
    return None


def _as(column: pd.Series, dtype: str) -> pd.Series:
    if dtype == "text":
        return column.astype("str").where(column.notna(), np.nan).astype("category")
    return column.astype(dtype)
