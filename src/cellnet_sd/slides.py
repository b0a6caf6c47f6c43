"""Which slide each cell was cut from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd.components.attributes import Spellings
from cellnet_sd.errors import LayoutError
from cellnet_sd.keys import micrometre_system, patch_system, wsi_image
from cellnet_sd.layout import SLIDE_KEYS
from cellnet_sd.naming import legal_name, legal_names

CONTAINER = "container"
WSI = "WSI_patch"


@dataclass(frozen=True)
class Slides:
    """The slides of a file.

    Parameters
    ----------
    codes
        Slide of each cell, int32, into `names`.
    names
        Legal names for elements and coordinate systems.
    originals
        The names before they were made legal.
    words
        By what the cells were told apart.
    split
        Whether WSI images split what something else merged.
    """

    codes: NDArray[np.int32]
    names: tuple[str, ...]
    originals: tuple[str, ...]
    words: str
    split: bool = False


@dataclass(frozen=True)
class _Signal:
    """Something that may tell slides apart: a label per cell, missing where it says nothing."""

    words: str
    labels: pd.Categorical

    @property
    def n_values(self) -> int:
        return len(self.labels.categories)


@dataclass(frozen=True)
class Evidence:
    """All that a file says about the slides of its cells.

    Parameters
    ----------
    path
        The file; its stem names what nothing else names.
    obs, spellings
        The attributes of the cells, and which attribute each column is.
    containers
        The group each cell lies in.
    wsi
        A number per distinct WSI image, -1 where a cell has none.
    stated
        Names of the slides that the file states, in the order their first cells come.
    """

    path: Path
    obs: pd.DataFrame
    spellings: Spellings
    containers: pd.Categorical
    wsi: NDArray[np.int32]
    stated: Sequence[str] | None = None

    def signals(self) -> Iterator[_Signal]:
        """Yield what may tell slides apart, by precedence."""
        for key in SLIDE_KEYS:
            if (signal := self.attribute(key, exact=False)) is not None:
                yield signal
        yield self.container()

    def attribute(self, name: str, *, exact: bool) -> _Signal | None:
        """Return the signal of the attribute called `name`, without regard to case unless `exact`."""
        for attribute in self.spellings.attributes:
            same = attribute.name == name or (not exact and attribute.name.lower() == name)
            if same and attribute.column in self.obs:
                return _Signal(f"attribute {attribute.name!r}", _labels(self.obs[attribute.column]))
        return None

    def container(self) -> _Signal:
        """Return the signal of the groups the cells lie in."""
        used = self.containers.remove_unused_categories()
        short = _distinct_parts(list(used.categories))
        return _Signal("the group they lie in", _as_met(used.codes, [name or None for name in short]))

    def wsi_image(self) -> _Signal:
        """Return the signal of the WSI images, numbered as they are met."""
        images = _as_met(self.wsi, [*map(str, range(self.wsi.max(initial=-1) + 1))])
        names = [f"{self.path.stem}_{at + 1}" for at in range(len(images.categories))]
        return _Signal("their WSI images", images.rename_categories(names))


def assign_slides(evidence: Evidence, slide_key: str | None = None) -> Slides:
    """Tell the slides of a file apart, by the first signal that has more than one value.

    Parameters
    ----------
    evidence
        What the file says.
    slide_key
        The caller's choice: an attribute's name, `"container"` or `"WSI_patch"`. It is then not split by WSI images.

    Raises
    ------
    LayoutError
        If `slide_key` names nothing in the file.
    """
    stem = evidence.path.stem
    if slide_key is not None:
        return _named(_chosen(evidence, slide_key), evidence)
    signals = list(evidence.signals())
    several = [signal for signal in signals if signal.n_values > 1]
    if not several and evidence.wsi_image().n_values > 1:
        return _named(evidence.wsi_image(), evidence)
    single = [signal for signal in signals if signal.n_values == 1]
    nothing = _Signal("nothing: one slide", pd.Categorical.from_codes(np.zeros(len(evidence.obs), np.int8), [stem]))
    signal = next(iter(several or single), nothing)
    parted = _split(signal, evidence.wsi, stem)
    return replace(_named(parted, evidence), split=parted is not signal)


def _chosen(evidence: Evidence, slide_key: str) -> _Signal:
    special = {CONTAINER: evidence.container, WSI: evidence.wsi_image}
    signal = evidence.attribute(slide_key, exact=True) or special.get(slide_key, lambda: None)()
    if signal is None:
        names = ", ".join(repr(attribute.name) for attribute in evidence.spellings.attributes)
        msg = f"{evidence.path}: slide_key={slide_key!r} is neither {CONTAINER!r}, {WSI!r} nor one of {names}."
        raise LayoutError(msg)
    return signal


def _split(signal: _Signal, wsi: NDArray[np.int32], stem: str) -> _Signal:
    """Split the slides that hold cells of more than one WSI image: no slide has two."""
    codes = np.asarray(signal.labels.codes)
    pairs = pd.DataFrame({"slide": codes, "wsi": wsi}).drop_duplicates()
    own = pairs.slide[pairs.wsi >= 0]
    mixed = set(own[own.duplicated()])
    if not mixed:
        return signal
    base = [*map(str, signal.labels.categories), stem]  # -1, no label, is the last
    met = [*pairs.itertuples(index=False, name=None)]
    order: dict[int, list[int]] = {}
    for slide, image in met:
        order.setdefault(slide, []).append(image)
    name = {
        (slide, image): f"{base[slide]}_{order[slide].index(image) + 1}" if slide in mixed else base[slide]
        for slide, image in met
    }
    labels = [name[pair] for pair in zip(codes.tolist(), wsi.tolist(), strict=True)]
    words = f"{signal.words}, split where one value had several WSI images"
    return _Signal(words, pd.Categorical(labels, categories=list(dict.fromkeys(labels))))


def _named(signal: _Signal, evidence: Evidence) -> Slides:
    """Give every slide a legal name; cells that the signal says nothing of are on a slide named after the file."""
    codes = np.array(signal.labels.codes, dtype=np.int32)
    originals = [str(category) for category in signal.labels.categories]
    if (codes < 0).any():
        codes[codes < 0] = len(originals)
        originals.append(evidence.path.stem)
    order, used = pd.factorize(codes)
    kept = [originals[code] for code in used]
    if evidence.stated is not None and len(set(evidence.stated)) == len(kept):
        kept = list(evidence.stated)
    names = legal_slide_names(kept, evidence.path.stem)
    return Slides(order.astype(np.int32), tuple(names), tuple(kept), signal.words)


def legal_slide_names(names: Sequence[str], otherwise: str) -> list[str]:
    """Return a name for each slide that its elements and coordinate systems can have, all different.

    Parameters
    ----------
    names
        What the slides are called.
    otherwise
        What one is called of whose name nothing legal is left.
    """
    legal = legal_names([_element_name(name) or _element_name(otherwise) or "slide" for name in names])
    return _without_clashes(legal)


def _without_clashes(names: list[str]) -> list[str]:
    """Rename the slides that are called like a coordinate system of another: `a_um` beside `a`."""
    derived = {system(name).lower() for name in names for system in (micrometre_system, patch_system, wsi_image)}
    clashing = [name for name in names if name.lower() in derived]
    if not clashing:
        return names
    kept = [name for name in names if name not in clashing]
    renamed = dict(zip(clashing, legal_names([f"{name}_slide" for name in clashing], taken=kept), strict=True))
    return _without_clashes([renamed.get(name, name) for name in names])


def _element_name(name: str) -> str:
    """Return a legal name that elements can begin with: not hidden (`.x`), more than underscores; `""` if none."""
    legal = legal_name(name).lstrip(".")
    return legal if legal.strip("_") else ""


def _as_met(codes: NDArray[np.integer], names: Sequence[str | None]) -> pd.Categorical:
    """Return labels, by their codes into names that are all different or `None`, in the order they are met."""
    met = [code for code in pd.unique(codes).tolist() if code >= 0 and names[code] is not None]
    order = np.full(len(names) + 1, -1)
    order[met] = np.arange(len(met))
    return pd.Categorical.from_codes(order[codes], categories=[names[code] for code in met])


def _labels(column: pd.Series) -> pd.Categorical:
    """Return a column as text categories, in the order they are met."""
    if column.dtype == object:  # where 1 and true would count as equal
        column = column.map(str, na_action="ignore")
    codes, values = pd.factorize(column)
    names = list(map(str, values))
    categories = list(dict.fromkeys(names))
    code_of = {name: at for at, name in enumerate(categories)}
    return pd.Categorical.from_codes(np.array([*map(code_of.__getitem__, names), -1])[codes], categories=categories)


def _distinct_parts(paths: Sequence[str]) -> list[str]:
    """Return the shortest ends of group paths that tell them apart: `study/slide_7` → `slide_7`."""
    split = [path.split("/") for path in paths]
    deepest = max((len(parts) for parts in split), default=1)
    for length in range(1, deepest + 1):
        ends = ["/".join(parts[-length:]) for parts in split]
        if len(set(ends)) == len(ends):
            return ends
    return list(paths)
