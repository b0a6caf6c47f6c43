"""The groups of a file that is written: in which of them each cell lies, and which scales of slides they state."""

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd import keys
from cellnet_sd.errors import LayoutError
from cellnet_sd.layout import MPP_KEYS, WSI_SCALE_KEYS
from cellnet_sd.notes import provenance

if TYPE_CHECKING:
    from anndata import AnnData

Groups = NDArray[np.object_]
_SCALES: Final = {MPP_KEYS[0]: "mpp", WSI_SCALE_KEYS[0]: "wsi_scale"}
"""How a scale is called in a file, and in the provenance of an object."""
_WHY_UNSAID: Final = "slides of other scales lie in its group"


@dataclass(frozen=True)
class Grouping:
    """Where cells are written.

    Parameters
    ----------
    groups
        Path of the group of each cell; `""` is the root.
    names
        Name of each cell in it.
    attrs
        Scales that groups state, by path. A slide has those of its group, else of the nearest group around it.
    unsaid
        Scales that no group can state without giving them to another slide, in words.
    """

    groups: Groups
    names: Sequence[str]
    attrs: Mapping[str, Mapping[str, float]]
    unsaid: tuple[str, ...]

    @classmethod
    def of(cls, adata: "AnnData", slides: Groups, shown: Container[str]) -> "Grouping":
        """Put each cell where it was, if the groups there can state the scales of all slides; else part these by slide.

        Parameters
        ----------
        adata
            The cells.
        slides
            Slide of each, `""` where there is none.
        shown
            The slides that have a WSI image, which tells them from others in their group.

        Raises
        ------
        LayoutError
            If two cells of a slide have one name.
        """
        names = [str(name).rsplit("/", 1)[-1] for name in adata.obs_names]
        for groups in _candidates(adata, slides, shown):
            attrs, unsaid = _scales(adata, slides, groups)
            twins = pd.MultiIndex.from_arrays([groups, names]).duplicated()
            if not twins.any() and not unsaid:
                break
        if twins.any():
            raise LayoutError(_of_one_name(adata, int(np.flatnonzero(twins)[0]), int(twins.sum())))
        return cls(groups, names, attrs, unsaid)

    @property
    def cell_order(self) -> list[str] | None:
        """Paths of all cells in row order, if cells of several groups take turns; `None` if they do not."""
        runs = 1 + int((self.groups[1:] != self.groups[:-1]).sum())
        if runs <= len(set(self.groups)):
            return None
        return [f"{group}/{name}".lstrip("/") for group, name in zip(self.groups, self.names, strict=True)]


def _candidates(adata: "AnnData", slides: Groups, shown: Container[str]) -> Iterator[Groups]:
    """Yield the group of each cell: where it was, then one per slide, within the first where slides lie in several."""
    if keys.CONTAINER in adata.obs:
        groups = np.array(adata.obs[keys.CONTAINER].astype(str), dtype=object)
        yield groups
        yield np.array(["/".join(filter(None, both)) for both in zip(groups, slides, strict=True)], dtype=object)
        return
    stored: Mapping[str, str] = provenance(adata, "containers")
    names = sorted(set(slides))
    if set(names) <= stored.keys() and _are_told_apart({name: stored[name] for name in names}, shown):
        yield np.array([stored[slide] for slide in slides], dtype=object)
    yield slides if len(names) > 1 else np.full(len(slides), "", dtype=object)


def _are_told_apart(group_of: Mapping[str, str], shown: Container[str]) -> bool:
    """Whether slides are alone in their groups, or told from the others there by their images."""
    n_slides = Counter(group_of.values())
    return all(n_slides[group] == 1 or slide in shown for slide, group in group_of.items())


def _of_one_name(adata: "AnnData", at: int, n_twins: int) -> str:
    named = "1 cell has" if n_twins == 1 else f"{n_twins:,} cells have"
    said = f"{named} the name of another, such as {adata.obs_names[at]!r}: in a file each has a group of its own name."
    if adata.obs_names.is_unique:
        return f"{said} What is before the last '/' is no part of it. Rename them in adata.obs_names."
    return f"{said} Make them unique with adata.obs_names_make_unique()."


# --- scales ----------------------------------------------------------------------------------------------------------


def _scales(adata: "AnnData", slides: Groups, groups: Groups) -> tuple[dict[str, dict[str, float]], tuple[str, ...]]:
    """Return the scales that each group states, and in words those that none can."""
    pairs = dict.fromkeys(zip(groups, slides, strict=True))
    attrs: dict[str, dict[str, float]] = {}
    unsaid: list[str] = []
    for key, what in _SCALES.items():
        known = provenance(adata, what)
        of_groups: dict[str, set[float | None]] = {}
        for group, slide in pairs:
            of_groups.setdefault(group, set()).add(known.get(slide))
        stated = _stated(of_groups)
        for group, value in stated.items():
            attrs.setdefault(group, {})[key] = value
        unsaid += [
            f"{key} of slide {slide}, {known.get(slide) or 'unknown'}, is not written: {_WHY_UNSAID}"
            for group, slide in pairs
            if _inherited(stated, group) != known.get(slide)
        ]
    return attrs, tuple(dict.fromkeys(unsaid))


def _stated(of_groups: Mapping[str, set[float | None]]) -> dict[str, float]:
    """Return what each group states: the root what all slides share, else each what its own slides share."""
    shared = set[float | None]().union(*of_groups.values())
    of_groups = {"": shared} if len(shared) == 1 else of_groups
    single = {group: next(iter(values)) for group, values in of_groups.items() if len(values) == 1}
    return {group: value for group, value in single.items() if value is not None}


def _inherited(stated: Mapping[str, float], group: str) -> float | None:
    """Return what the slides of a group are taken to have: what it states, or the nearest group around it."""
    while group and group not in stated:
        group = group.rpartition("/")[0]
    return stated.get(group)
