"""Where patches lie on their slide: the anchor rule, micrometres per pixel, and the scale of the WSI image.

Pure functions on arrays, without I/O. Positions are (x, y) in pixels of the slide. A patch of height h whose cell is at
(x, y) covers rows `y - h // 2 ... y - h // 2 + h`, and columns likewise.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.layout import TISSUE_WINDOW_UM
from cellnet_sd.registration import Registration, evenly, register_wsi

__all__ = [
    "Registration",
    "WindowScale",
    "anchor_agrees",
    "corners",
    "neighbour_pairs",
    "patch_scale",
    "register_wsi",
    "window_mpp",
]

Floats = NDArray[np.float64]

# --- the anchor ------------------------------------------------------------------------------------------------------


def anchor_agrees(cell_patches: NDArray[Any], tissue_patches: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether each cell patch is the centre of its tissue patch, pixel for pixel.

    Parameters
    ----------
    cell_patches
        Array (n, h, w, c).
    tissue_patches
        Array (n, H, W, c) of the same cells.

    Returns
    -------
    Boolean array (n,). All false when the cell patches are larger, or the two differ in channels or dtype.
    """
    h, w, c = cell_patches.shape[1:]
    height, width, channels = tissue_patches.shape[1:]
    if h > height or w > width or c != channels or cell_patches.dtype != tissue_patches.dtype:
        return np.zeros(len(cell_patches), dtype=bool)
    top, left = height // 2 - h // 2, width // 2 - w // 2
    centre = tissue_patches[:, top : top + h, left : left + w]
    return np.asarray((cell_patches == centre).all(axis=(1, 2, 3)))


def corners(positions: Floats, height: int, width: int, scale: float = 1.0) -> tuple[NDArray[np.int64], ...]:
    """Return the pixels at the top left of patches, top and left, (n,) each.

    Parameters
    ----------
    positions
        Array (n, 2), x then y, in pixels of the slide; finite.
    height, width
        Of the patches, in pixels.
    scale
        Pixels of the slide per pixel of a patch. Where it is not 1, windows were resized: their corners are those on
        the slide by `scale`, to the nearest pixel of a patch.
    """
    x, y = _pixel(positions).T
    sides = (round(side * scale) for side in (height, width))
    top, left = (at - side // 2 for at, side in zip((y, x), sides, strict=True))
    if scale == 1:
        return top, left
    return np.rint(top / scale).astype(np.int64), np.rint(left / scale).astype(np.int64)


def patch_scale(width: int, mpp: float | None) -> float:
    """Return how many pixels of the slide a pixel of a tissue patch covers: 1 where its window was not resized.

    Parameters
    ----------
    width
        Of a patch, in pixels: 200 µm.
    mpp
        Micrometres per pixel of the slide; where unknown, windows are taken as they are.
    """
    if mpp is None or abs(TISSUE_WINDOW_UM / mpp - width) <= 1:
        return 1.0
    return TISSUE_WINDOW_UM / mpp / width


# --- micrometres per pixel -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WindowScale:
    """What overlapping tissue patches say about micrometres per pixel of the slide.

    Parameters
    ----------
    mpp
        Micrometres per pixel: 200 µm by the width of a tissue patch in pixels. `None` where the windows do not show it.
    pairs, pixels, differing
        Pairs of windows compared, pixels compared in them, and how many of these pixels differ.
    words
        The finding in one sentence.
    """

    mpp: float | None
    pairs: int
    pixels: int
    differing: int
    words: str


def neighbour_pairs(positions: Floats, window: int, max_pairs: int) -> NDArray[np.int64]:
    """Choose pairs of cells of one slide whose windows overlap: each cell with its nearest neighbour elsewhere.

    Parameters
    ----------
    positions
        Array (n, 2), x then y, in pixels; NaN where unknown.
    window
        Side of the window in pixels.
    max_pairs
        The most pairs to return; their cells are taken evenly from the rows.

    Returns
    -------
    Array (m, 2) of rows of `positions`, the smaller first, each pair once. Cells at the very same position are not
    paired with each other: their windows would agree whatever the scale.
    """
    finite = np.flatnonzero(np.isfinite(positions).all(axis=1))
    spots, first = np.unique(positions[finite], axis=0, return_index=True)
    if len(spots) < 2:
        return np.empty((0, 2), dtype=np.int64)
    rows = finite[first]
    anchors = np.argsort(rows)[evenly(len(rows), 4 * max_pairs)]
    nearest, distance = _nearest(spots, anchors)
    close = distance < window
    pairs = np.sort(np.column_stack([rows[anchors[close]], rows[nearest[close]]]), axis=1)
    pairs = np.unique(pairs, axis=0).astype(np.int64)
    return pairs[evenly(len(pairs), max_pairs)]


def window_mpp(patches: NDArray[Any], positions: Floats) -> WindowScale:
    """Measure micrometres per pixel of a slide from overlapping tissue patches.

    Where two windows agree pixel for pixel at the offset of their positions, a pixel of a patch is a pixel of the
    slide, so the window's 200 µm are the patch's width in pixels. White pixels (a window may pass the slide's edge) are
    not compared. As a control, the same windows must differ when shifted by one more pixel: plain ones show nothing.

    Parameters
    ----------
    patches
        Tissue patches (n, H, W, c) of cells of one slide, as stored (not padded to a common size).
    positions
        Their positions (n, 2), x then y, in slide pixels.
    """
    height, width = patches.shape[1:3]
    pairs = neighbour_pairs(positions, min(height, width), max_pairs=len(patches))
    offsets = _pixel(positions[pairs[:, 1]]) - _pixel(positions[pairs[:, 0]])
    found = _compare(patches, pairs, offsets)
    control = _compare(patches, pairs, offsets + 1)
    return _judge_windows((height, width), len(pairs), found, control)


def _nearest(spots: Floats, anchors: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """Return the nearest other spot of each anchor and its distance (the larger of |dx| and |dy|)."""
    from scipy.spatial import cKDTree

    distance, neighbour = cKDTree(spots).query(spots[anchors], k=2, p=np.inf)
    itself = neighbour[:, 0] == anchors
    return np.where(itself, neighbour[:, 1], neighbour[:, 0]), np.where(itself, distance[:, 1], distance[:, 0])


def _pixel(positions: Floats) -> NDArray[np.int64]:
    """Return the pixel that holds each position."""
    return np.floor(positions).astype(np.int64)


def _compare(patches: NDArray[Any], pairs: NDArray[np.int64], offsets: NDArray[np.int64]) -> tuple[int, int]:
    """Return how many pixels the pairs share at their offsets, and how many of these differ; white ones left out."""
    white = np.iinfo(patches.dtype).max if patches.dtype.kind in "iu" else 1
    shared = differing = 0
    for (first, second), (dx, dy) in zip(pairs, offsets.tolist(), strict=True):
        a = patches[first][_shift(dy), _shift(dx)]
        b = patches[second][_shift(-dy), _shift(-dx)]
        seen = (a != white).any(axis=2) & (b != white).any(axis=2)
        shared += int(seen.sum())
        differing += int((seen & (a != b).any(axis=2)).sum())
    return shared, differing


def _shift(offset: int) -> slice:
    """Return the part of an axis that is still covered by a window `offset` pixels further on."""
    return slice(offset, None) if offset >= 0 else slice(None, offset)


def _judge_windows(size: tuple[int, int], pairs: int, found: tuple[int, int], control: tuple[int, int]) -> WindowScale:
    """Turn the counts of shared and differing pixels into a finding."""
    height, width = size
    pixels, differing = found
    told = f"{pairs:,} pairs of overlapping tissue patches, {pixels:,} pixels, {differing:,} differ"
    if height != width:
        return WindowScale(
            None, pairs, pixels, differing, f"tissue patches of {height} by {width} px are no 200 µm square"
        )
    if not pixels:
        return WindowScale(None, pairs, 0, 0, "no tissue patches overlap, so their scale cannot be checked")
    if differing:
        return WindowScale(None, pairs, pixels, differing, f"{told}: a patch's pixel is not a pixel of the slide")
    if 10 * control[1] < control[0] or not control[0]:
        return WindowScale(None, pairs, pixels, 0, f"{told}, but they are too plain to show it")
    mpp = TISSUE_WINDOW_UM / width
    words = f"{told}: 200 µm are {width} px, {mpp:.4g} µm per pixel"
    return WindowScale(mpp, pairs, pixels, 0, words)
