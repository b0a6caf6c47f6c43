"""A source that is looked at time and again in the same places: what it gave of a sample is kept."""

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.layout import Component
from cellnet_sd.sources.base import Compressed, Packed, Raw, Rows, Source, Unreadable

if TYPE_CHECKING:
    from cellnet_sd.sources.genelist import Genes

_KEPT: Final = frozenset({Component.CELL_PATCH, Component.TISSUE_PATCH, Component.CCC})
"""Not WSI images, of which one may take hundreds of megabytes."""


class Sampled:
    """A source that keeps the patches and the CCC that it has given one by one.

    Parameters
    ----------
    source
        What gives them.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._known: dict[tuple[Component, int], Raw | Unreadable | None] = {}
        self.path, self.index, self.choices = source.path, source.index, source.choices
        self.access, self.identity = source.access, source.identity

    def on_threads(self, n_threads: int) -> "Sampled":
        """Return the same source, read on so many threads."""
        return Sampled(self._source.on_threads(n_threads))

    @property
    def genes(self) -> "Genes | None":
        """Names of the genes, `None` if they are named nowhere."""
        return self._source.genes

    def fetch(self, component: Component, rows: Rows) -> list[Raw | Unreadable | None]:
        """Return the stored values of `component` at `rows`; see `Source.fetch`."""
        if component not in _KEPT:
            return self._source.fetch(component, rows)
        asked = [(component, int(row)) for row in rows]
        new = [key for key in dict.fromkeys(asked) if key not in self._known]
        fetched = self._source.fetch(component, [row for _, row in new]) if new else []
        self._known.update(zip(new, fetched, strict=True))
        return [self._known[key] for key in asked]

    def fetch_arrays(
        self, component: Component, rows: Rows, shape: tuple[int, ...], out: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """Fill `out` with plainly stored arrays; see `FetchesPlain`."""
        return self._source.fetch_arrays(component, rows, shape, out)

    def fetch_packed(self, component: Component, rows: Rows, length: int) -> Packed:
        """Return plainly stored vectors without their zeros; see `FetchesPlain`."""
        return self._source.fetch_packed(component, rows, length)

    def fetch_compressed(self, component: Component, rows: Rows) -> Compressed:
        """Return plainly stored sparse matrices; see `Source`."""
        return self._source.fetch_compressed(component, rows)
