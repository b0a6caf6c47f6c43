"""The captions room: `caption.txt` ↔ a column of text.

Captions are decoded where they are found, by the scan, since an index holds them; here is where they go.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def column(captions: Sequence[str | None] | pd.Series, index: pd.Index) -> pd.Series:
    """Return captions as a column of `obs`: strings, missing where a cell has none."""
    return pd.Series(captions, dtype="str").set_axis(index)


def places(there: NDArray[np.bool_], index: pd.Index) -> pd.Series:
    """Return the column that captions are put into later: empty where there is one, missing where a cell has none."""
    return pd.Series("", index=index, dtype="str").where(there)


def encode(column: pd.Series) -> list[str | None]:
    """Return the captions of a column; `None` where a cell has none."""
    return [None if missing else str(text) for text, missing in zip(column, column.isna(), strict=True)]
