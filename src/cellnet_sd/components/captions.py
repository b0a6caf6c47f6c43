"""The captions room: `caption.txt` ↔ a column of text.

Captions are decoded where they are found, by the scan, since an index holds them; here is where they go.
"""

from collections.abc import Sequence

import pandas as pd


def column(captions: Sequence[str | None] | pd.Series, index: pd.Index) -> pd.Series:
    """Return captions as a column of `obs`: strings, missing where a cell has none."""
    return pd.Series(captions, dtype="str").set_axis(index)


def encode(column: pd.Series) -> list[str | None]:
    """Return the captions of a column; `None` where a cell has none."""
    return [None if missing else str(text) for text, missing in zip(column, column.isna(), strict=True)]
