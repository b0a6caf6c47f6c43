"""What a user should know of what was read: said once, and kept with the object."""

import json
import logging
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cellnet_sd import keys
from cellnet_sd.errors import CellNetWarning, LayoutError

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

logger = logging.getLogger("cellnet_sd")


@dataclass
class Notes:
    """Sentences about one read.

    Parameters
    ----------
    file
        Name of the file.
    taken
        What each component was taken to be: logged, and kept with the object.
    odd
        What is not as a user would expect (left out, coerced, unknown): also warned of.
    """

    file: str
    taken: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)

    def take(self, *sentences: str) -> None:
        """Add what something was taken to be."""
        self.taken.extend(sentences)

    def warn_of(self, *sentences: str) -> None:
        """Add what the user should be warned of; what holds of batch after batch is said once."""
        self.odd.extend(sentence for sentence in dict.fromkeys(sentences) if sentence not in self.odd)

    @property
    def all(self) -> list[str]:
        """All sentences, the odd ones first."""
        return [*self.odd, *self.taken]

    def speak(self, stacklevel: int = 3) -> None:
        """Log what was taken, and warn once of what is odd."""
        for sentence in self.taken:
            logger.info("%s: %s", self.file, sentence)
        if self.odd:
            warnings.warn(bulleted(f"{self.file}:", self.odd), CellNetWarning, stacklevel=stacklevel)


def warn(sentence: str, stacklevel: int = 2) -> None:
    """Warn of what is seen when a value is read; from a worker of a dask cluster, its clients are warned too."""
    if "distributed" not in sys.modules:  # this is no worker
        warnings.warn(sentence, CellNetWarning, stacklevel=stacklevel + 1)
        return
    import distributed

    distributed.warn(sentence, CellNetWarning, stacklevel=stacklevel + 1)


def bulleted(title: str, sentences: Iterable[str]) -> str:
    """Return sentences as a list under a title."""
    return "\n- ".join([title, *sentences])


def table_in(sdata: "SpatialData", table: str) -> "AnnData":
    """Return a table of a SpatialData.

    Raises
    ------
    LayoutError
        If there is none of that name.
    """
    if table not in sdata.tables:
        held = ", ".join(map(repr, sdata.tables)) or "none"
        msg = f"{sdata.path or 'The SpatialData'} has no table {table!r} of cells (tables: {held}). Pass table=."
        raise LayoutError(msg)
    return sdata.tables[table]


def provenance(obj: "AnnData | SpatialData", what: str) -> Any:
    """Return one entry of an object's provenance, parsed; an empty `dict` where it has none."""
    kept = obj.uns if hasattr(obj, "uns") else obj.attrs
    text = kept.get(keys.PROVENANCE, {}).get(what)
    return {} if text is None else json.loads(text)
