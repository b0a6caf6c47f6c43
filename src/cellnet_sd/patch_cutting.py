"""Patches cut out of the rebuilt slide: a store that holds each pixel once still gives every cell its own."""

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import batched
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd import keys, placement
from cellnet_sd.components.images import Frame
from cellnet_sd.cropping import Place, place_of
from cellnet_sd.errors import CellNetWarning, LayoutError
from cellnet_sd.frames import common_frame
from cellnet_sd.layout import Component
from cellnet_sd.notes import provenance
from cellnet_sd.settings import settings
from cellnet_sd.sources.base import Raw, Rows, Unreadable

if TYPE_CHECKING:
    from anndata import AnnData
    from dask.array import Array
    from spatialdata import SpatialData

Ints = NDArray[np.int64]
_WAY_OUT = "Take the stored patches: leave from_slide out, and pass source= if the file has moved."


@dataclass(frozen=True)
class SlideCuts:
    """Windows of rebuilt slides, as a source of patches whose rows are those of a table.

    Parameters
    ----------
    path
        Of the store, for messages.
    slides
        The rebuilt slides.
    slide
        Of each cell: which of them it is on.
    top, left
        Of each cell: where its window begins, in pixels of its slide's image.
    is_inside
        Of each cell: whether the image holds all of its window.
    """

    path: Path
    slides: "tuple[SlideImage, ...]"
    slide: NDArray[np.intp]
    top: Ints
    left: Ints
    is_inside: NDArray[np.bool_]

    @classmethod
    def of(cls, sdata: "SpatialData", adata: "AnnData", level: str) -> Self:
        """Find the windows of the cells of a table; those that the images do not hold in whole are warned of.

        Raises
        ------
        LayoutError
            If a slide's image is missing or moved, or its pixels are not those of this level's patches.
        """
        code, names = pd.factorize(adata.obs[keys.SLIDE])
        sizes = _sizes(sdata, adata, level, list(map(str, names)))
        slides: list[SlideImage] = []
        top, left = np.zeros((2, len(adata)), np.int64)
        is_inside = np.zeros(len(adata), bool)
        for at, (name, own) in enumerate(sizes.items()):
            here = np.flatnonzero(code == at)
            positions = _positions(sdata, adata, name, here)
            slides.append(SlideImage.of(sdata, name, own, positions))
            top[here], left[here], is_inside[here] = slides[at].windows(positions)
        _warn_outside(int((~is_inside).sum()), len(adata))
        _warn_unsure([slide.name for slide in slides if not slide.place.is_sure])
        return cls(Path(str(sdata.path or "SpatialData")), tuple(slides), code, top, left, is_inside)

    @classmethod
    def exact(cls, sdata: "SpatialData", adata: "AnnData", level: str) -> Self | None:
        """Return the windows of the cells of a table if all are known to equal the patches that were stored.

        `None` if patches disagreed about a slide when they were looked at, cell patches were not the centres of tissue
        patches, an image does not hold a window in whole, or which pixel a crop of it begins at is not known.
        """
        agreements, anchored = (provenance(sdata, key) for key in (keys.TISSUE_AGREEMENT, keys.ANCHORED))
        slides = adata.obs[keys.SLIDE].astype(str).unique() if keys.SLIDE in adata.obs else ("",)
        for slide in slides:
            agreeing, n_cells = anchored.get(slide, (0, 0))
            is_centre = level == "tissue" or 0 < agreeing == n_cells
            if not is_centre or slide not in agreements or agreements[slide]["differing"]:
                return None
        try:
            with warnings.catch_warnings(action="ignore", category=CellNetWarning):  # such cuts are not taken
                cuts = cls.of(sdata, adata, level)
        except LayoutError:
            return None
        return cuts if cuts.is_inside.all() and all(slide.place.is_sure for slide in cuts.slides) else None

    @property
    def frame(self) -> Frame:
        """The frame that holds the windows of all slides."""
        return common_frame(list(self.frames.values()))

    @property
    def frames(self) -> dict[str, Frame]:
        """The frame of the windows of each slide, by the name of its image."""
        return {slide.name: slide.frame for slide in self.slides}

    def present(self, component: Component) -> NDArray[np.bool_]:  # noqa: ARG002
        """Return which cells have a window: all, whether they had a patch or not."""
        return np.ones(len(self.slide), bool)

    def fetch(self, component: Component, rows: Rows) -> list[Raw | Unreadable | None]:  # noqa: ARG002
        """Return the windows of the cells at `rows`; those that show nothing but white are warned of."""
        rows, n_blank = np.asarray(rows, dtype=np.int64), 0
        out: list[Raw | Unreadable | None] = [None] * len(rows)
        for at, slide in enumerate(self.slides):
            here = np.flatnonzero(self.slide[rows] == at)
            patches = slide.cut(self.top[rows[here]], self.left[rows[here]])
            is_blank = (patches == slide.frame.white).all(axis=(1, 2, 3))
            n_blank += int((is_blank & self.is_inside[rows[here]]).sum())
            for position, patch in zip(here, patches, strict=True):
                out[position] = Raw(patch[..., 0] if slide.frame.channels == 1 else patch)
        _warn_blank(n_blank)
        return out


class _Sizes(NamedTuple):
    """Height and width of the patches asked for, and of the tissue patches that the slide was rebuilt from."""

    own: tuple[int, int]
    tissue: tuple[int, int]


@dataclass(frozen=True)
class SlideImage:
    """A rebuilt slide, and where it lies.

    Parameters
    ----------
    name
        Of its element.
    pixels
        (c, y, x), all channels in a chunk.
    place
        How it lies on the slide.
    sizes
        Of what is cut from it.
    """

    name: str
    pixels: "Array"
    place: Place
    sizes: _Sizes

    @classmethod
    def of(cls, sdata: "SpatialData", slide: str, sizes: _Sizes, positions: NDArray[np.float64]) -> Self:
        """Return the rebuilt slide of a SpatialData, which has cells at `positions`.

        Raises
        ------
        LayoutError
            If there is none, or it is not where it was.
        """
        from spatialdata import get_pyramid_levels
        from xarray import DataArray

        name = keys.tissue_image(slide)
        if name not in sdata.images:
            msg = f"There is no image {name!r} to cut patches from. {_WAY_OUT}"
            raise LayoutError(msg)
        element = sdata.images[name]
        place = place_of(element, slide, positions[np.isfinite(positions).all(axis=1)])
        if place is None:
            msg = f"The image {name!r} no longer lies on the coordinate system {slide!r} as it was rebuilt. {_WAY_OUT}"
            raise LayoutError(msg)
        finest = element if isinstance(element, DataArray) else get_pyramid_levels(element, n=0)
        return cls(name, finest.transpose("c", "y", "x").data.rechunk({0: -1}), place, sizes)

    @property
    def frame(self) -> Frame:
        """Of the windows."""
        return Frame(*self.sizes.own, self.pixels.shape[0], str(self.pixels.dtype), ("rebuilt slide",))

    def windows(self, positions: NDArray[np.float64]) -> tuple[Ints, Ints, NDArray[np.bool_]]:
        """Return where windows around positions begin, top and left, and whether the image holds all of them.

        A patch of a cell is the centre of its tissue patch, whose corner is known. Without a finite position, it lies
        beyond the image.
        """
        is_known = np.isfinite(positions).all(axis=1)
        found = placement.corners(np.where(is_known[:, None], positions, 0), *self.sizes.tissue, self.place.scale)
        is_inside, begins = is_known, []
        for corner, start, own, tissue, length in zip(
            found, self.place.corner, *self.sizes, self.pixels.shape[1:], strict=True
        ):
            begin = np.where(is_known, corner + tissue // 2 - own // 2 - start, -own)
            is_inside = is_inside & (begin >= 0) & (begin + own <= length)
            begins.append(begin)
        return begins[0], begins[1], is_inside

    def cut(self, top: Ints, left: Ints) -> NDArray[Any]:
        """Return the windows that begin at `top` and `left`, (n, y, x, c); white beyond the image."""
        out = np.full((len(top), *self.frame.shape), self.frame.white, self.frame.dtype)
        for window, seen, pixels in self._pieces((top, left)):
            out[window][seen] = pixels
        return out

    def _pieces(self, begins: tuple[Ints, Ints]) -> Iterator[tuple[int, tuple[slice, slice], NDArray[Any]]]:
        """Yield what windows show, (y, x, c), piece by piece: which window, where in it, and the pixels.

        A block of the image is made once, however many windows reach into it, and about `settings.batch_bytes` of them
        are in memory.
        """
        edges = [np.concatenate([[0], np.cumsum(sizes)]) for sizes in self.pixels.chunks[1:]]
        over = _windows_by_block(edges, begins, self.sizes.own)
        nbytes = prod(self.pixels.chunksize) * self.pixels.dtype.itemsize
        for some in batched(over, max(1, settings.batch_bytes // nbytes)):
            for block, pixels in zip(some, self._blocks(some), strict=True):
                extents = [(int(edge[at]), int(edge[at + 1])) for edge, at in zip(edges, block, strict=True)]
                for window in over[block]:
                    down, across = (
                        _shared(int(begin[window]), length, extent)
                        for begin, length, extent in zip(begins, self.sizes.own, extents, strict=True)
                    )
                    yield window, (down[0], across[0]), np.moveaxis(pixels[:, down[1], across[1]], 0, -1)

    def _blocks(self, blocks: Sequence[tuple[int, int]]) -> Sequence[NDArray[Any]]:
        """Return some blocks of the image, which are made at once."""
        from dask.array import Array
        from dask.base import compute_as_if_collection

        wanted = [(self.pixels.name, 0, *block) for block in blocks]
        found: Sequence[NDArray[Any]] = compute_as_if_collection(Array, self.pixels.dask, wanted)
        return found


def _windows_by_block(
    edges: Sequence[Ints], begins: tuple[Ints, Ints], size: tuple[int, int]
) -> dict[tuple[int, int], list[int]]:
    """Return the blocks that windows reach into, down then across, and which these are."""
    (first, last), (first_across, last_across) = (
        (
            np.searchsorted(edge, np.maximum(begin, 0), side="right") - 1,
            np.searchsorted(edge, np.minimum(begin + length, edge[-1]) - 1, side="right") - 1,
        )
        for edge, begin, length in zip(edges, begins, size, strict=True)
    )
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for window in range(len(first)):
        for down in range(first[window], last[window] + 1):
            for across in range(first_across[window], last_across[window] + 1):
                found[down, across].append(window)
    return dict(sorted(found.items()))


def _shared(begin: int, length: int, extent: tuple[int, int]) -> tuple[slice, slice]:
    """Return the part of a window that an extent shows, along an axis, counted from each of the two."""
    low, high = max(begin, extent[0]), min(begin + length, extent[1])
    return slice(low - begin, high - begin), slice(low - extent[0], high - extent[0])


# --- what must hold --------------------------------------------------------------------------------------------------


def _sizes(sdata: "SpatialData", adata: "AnnData", level: str, slides: Sequence[str]) -> dict[str, _Sizes]:
    """Return the sizes of the patches of each slide, where those of the level can be cut from it.

    Raises
    ------
    LayoutError
        If they are not known, or the pixels of the patches are not those of the slide.
    """
    sizes, anchored = (provenance(sdata, key) or provenance(adata, key) for key in (keys.PATCH_SIZES, keys.ANCHORED))
    for slide in slides:
        if not {level, "tissue"} <= set(sizes.get(slide, ())):
            msg = (
                f"The size of {level} patches of {slide} is not known: the file had none, or the object has lost its "
                f"attrs. {_WAY_OUT}"
            )
            raise LayoutError(msg)
        if level == "cell":
            _check_anchored(slide, *anchored[slide])
    if level == "tissue":
        _warn_of_differences(sdata)
    return {slide: _Sizes(tuple(sizes[slide][level]), tuple(sizes[slide]["tissue"])) for slide in slides}


def _check_anchored(slide: str, agreeing: int, n_cells: int) -> None:
    if not agreeing:
        reason = f"none of {n_cells:,} was when the file was looked at" if n_cells else "no cell had both to compare"
        msg = (
            f"Cell patches cannot be cut from {slide}: that they are the centres of the tissue patches, at the same "
            f"scale, is not known: {reason}. {_WAY_OUT}"
        )
        raise LayoutError(msg)
    if agreeing < n_cells:
        msg = (
            f"{slide}: in {n_cells - agreeing:,} of {n_cells:,} cells looked at, the cell patch was not the centre of "
            "the tissue patch: what is cut from the slide differs from it."
        )
        warnings.warn(msg, CellNetWarning, stacklevel=6)


def _warn_of_differences(sdata: "SpatialData") -> None:
    agreements = provenance(sdata, keys.TISSUE_AGREEMENT)
    if odd := [slide for slide, found in agreements.items() if found["differing"]]:
        msg = f"Tissue patches of {', '.join(odd)} disagree about the slide: what is cut from it differs from some."
        warnings.warn(msg, CellNetWarning, stacklevel=6)


def _positions(sdata: "SpatialData", adata: "AnnData", slide: str, here: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the positions of cells of a slide, in its pixels.

    Raises
    ------
    LayoutError
        If they are not those of the cells' circles: squidpy may have put others there.
    """
    if keys.SPATIAL not in adata.obsm:
        msg = f"The table has no obsm[{keys.SPATIAL!r}]: where its cells lie on the slide is not known."
        raise LayoutError(msg)
    positions = np.asarray(adata.obsm[keys.SPATIAL], dtype=np.float64)[here]
    circles = sdata.shapes.get(keys.region(slide))
    if circles is not None and keys.INSTANCE_KEY in adata.obs:
        at = circles.index.get_indexer(adata.obs[keys.INSTANCE_KEY].iloc[here])
        centres = circles.geometry.iloc[at[at >= 0]]
        if not np.allclose(positions[at >= 0], np.column_stack([centres.x, centres.y])):
            msg = (
                f"obsm[{keys.SPATIAL!r}] does not hold the centres of {keys.region(slide)!r}, pixels of the slide: "
                "squidpy overwrites it when it is given a SpatialData. Restore it from the circles."
            )
            raise LayoutError(msg)
    return positions


def _warn_outside(n_outside: int, n_cells: int) -> None:
    if n_outside:
        msg = f"The windows of {n_outside:,} of {n_cells:,} cells reach beyond the image of their slide: white there."
        warnings.warn(msg, CellNetWarning, stacklevel=4)


def _warn_unsure(names: Sequence[str]) -> None:
    if names:
        msg = (
            f"At which pixel the cropped image {', '.join(names)} begins is not known: SpatialData may record each "
            "crop one pixel off, and coarser levels of it, which would tell, are too few, too plain or not its own. "
            f"What is cut is right if all boxes were at whole pixels. Crop the whole slide once. {_WAY_OUT}"
        )
        warnings.warn(msg, CellNetWarning, stacklevel=4)


def _warn_blank(n_blank: int) -> None:
    if n_blank:
        msg = f"{n_blank:,} cells lie where the image of their slide shows nothing but white."
        warnings.warn(msg, CellNetWarning, stacklevel=7)
