"""The scale of the WSI image: how many slide pixels one of its pixels covers, found by looking at tissue patches.

Pure functions on arrays, without I/O. Positions are (x, y) in pixels of the slide.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LUMA: Final = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luminance (ITU-R BT.601)."""
_LEAST_R: Final = 0.5
_LEAST_LEAD: Final = 0.25
"""How far the correlation must lead every rival, as a difference of Fisher's z."""
_LEAST_SPOTS: Final = 30
"""Fewest distinct pixels of the WSI image that a correlation may rest on."""
_COARSE: Final = 96
"""Pixels along the WSI image's longer side in the first scan: finer detail makes the peak too narrow to meet."""
_BLOCKS: Final = 8
"""Most blocks along a tissue patch."""
_PEAKS: Final = 8
"""Peaks of the first scan that are looked at closely."""
_LEAST_PATCHES: Final = 16
_MOST_PATCHES: Final = 128
_FARTHEST: Final = 2.0**40
"""Positions beyond, in pixels, are no positions: the edges of windows there are lost to rounding."""
_MOST_SIDE: Final = 1024
"""Longer side of the WSI image, in pixels, above which it is shrunk by a whole factor first."""
_WIDEST: Final = 64.0
"""Largest scale tried, in multiples of the smallest that holds every position."""


@dataclass(frozen=True, slots=True)
class Registration:
    """How the downsampled whole-slide image lies on its slide.

    Parameters
    ----------
    scale
        Slide pixels per pixel of the WSI image; pixel i covers slide pixels `i * scale ... (i + 1) * scale`. `None`
        where no scale stands out.
    r
        Pearson correlation of block means at that scale (or at the best one that was found wanting). NaN without any.
    snapped
        Whether the scale was set to the integer beside the measured one.
    words
        The finding in one sentence.
    """

    scale: float | None
    r: float
    snapped: bool
    words: str


def register_wsi(wsi: NDArray[Any], patches: NDArray[Any], positions: Floats) -> Registration:
    """Find the scale of a WSI image by correlating block means of tissue patches with it, over all scales.

    The image is taken to show the whole slide from its corner, so every position lies in it; that bounds the scale from
    below. The best scale must reach r = 0.5 and clearly beat its rivals: scales well apart from it, and the same image
    mirrored (which is alike in every respect but the place of things).

    Parameters
    ----------
    wsi
        Array (h, w, c), c = 1, 3 or 4.
    patches
        Tissue patches (n, H, W, c) of cells of that slide, in slide pixels; 128 of them, evenly taken, are used.
    positions
        Their positions (n, 2), x then y, in slide pixels; rows with NaN or below 0 are left out.

    Notes
    -----
    The scale is set to an integer when that moves no pixel of the WSI image by more than half a pixel of its own.
    """
    usable = np.flatnonzero(((positions >= 0) & (positions < _FARTHEST)).all(axis=1))
    use = usable[evenly(len(usable), _MOST_PATCHES)]
    factor = -(-max(wsi.shape[:2]) // _MOST_SIDE)
    image = _luminance(_shrunk(wsi, factor)).astype(np.float64)
    if len(use) < _LEAST_PATCHES or np.ptp(image) == 0:
        words = f"WSI scale unknown: {len(use)} tissue patches with a position, or a WSI image without contrast"
        return Registration(None, float("nan"), snapped=False, words=words)
    windows = _Windows.of(_luminance(patches[use]), positions[use], factor)
    least = float(max(positions[usable].max(axis=0) / np.array(image.shape[::-1])))
    best, rival = _search(image, windows, max(least, 1e-3))
    return _judge(image, windows, best, rival)


def evenly(n: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` of the numbers 0 ... n - 1, evenly spaced."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64)) if n else np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Match:
    """A scale, and how well the WSI image matches the windows there."""

    scale: float
    r: float


@dataclass(frozen=True, slots=True)
class _Windows:
    """Tissue patches as luminance (n, H, W), their upper left corners, and their block means by blocks per side.

    `factor` says how much the WSI image was shrunk: matched scales, by it, count in its stored pixels.
    """

    luminance: NDArray[np.float32]
    top: Floats
    left: Floats
    factor: int
    _blocks: dict[int, tuple[Floats, NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=dict)

    @classmethod
    def of(cls, luminance: NDArray[np.float32], positions: Floats, factor: int) -> "_Windows":
        """Return the windows of cells at `positions` in slide pixels."""
        height, width = luminance.shape[1:]
        x, y = np.floor(positions).T
        return cls(luminance, y - height // 2, x - width // 2, factor)

    def blocks(self, k: int) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
        """Return the means (n, k, k) of k by k blocks, and the block edges along y and x (k + 1 each)."""
        if k not in self._blocks:
            ys, xs = (np.linspace(0, side, k + 1).astype(np.int64) for side in self.luminance.shape[1:])
            rows = np.add.reduceat(self.luminance, ys[:-1], axis=1, dtype=np.float64)
            sums = np.add.reduceat(rows, xs[:-1], axis=2)
            self._blocks[k] = sums / np.outer(np.diff(ys), np.diff(xs)), ys, xs
        return self._blocks[k]

    def blocks_per_side(self, cell: float) -> int:
        """Return how many blocks of at least `cell` slide pixels fit along a window, within 1 ... 8."""
        side = min(self.luminance.shape[1:])
        return int(np.clip(side // cell, 1, min(_BLOCKS, side)))

    def meet(self, cell: float) -> bool:
        """Whether the blocks lie in enough cells of a grid of `cell` slide pixels for a correlation to rest on."""
        from cellnet_sd.correlation import meets

        _, ys, xs = self.blocks(self.blocks_per_side(cell))
        room = np.empty((2, _LEAST_SPOTS), np.int64)
        return meets(self.top, self.left, ys, xs, cell, _LEAST_SPOTS, *room)


def _shrunk(image: NDArray[Any], factor: int) -> NDArray[Any]:
    """Return an array (h, w, c) averaged over squares of `factor` pixels; what is left over at the end is cut."""
    if factor == 1:
        return image
    h, w = (side // factor for side in image.shape[:2])
    squares = image[: h * factor, : w * factor].reshape(h, factor, w, factor, -1)
    return np.asarray(squares.mean(axis=(1, 3), dtype=np.float32))


def _luminance(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return the luminance of an array (..., c), without its last axis; an alpha channel is not looked at."""
    if image.shape[-1] < 3:
        return image[..., 0].astype(np.float32)
    red, green, blue = (image[..., i] * np.float32(weight) for i, weight in enumerate(_LUMA))
    return np.asarray(red + green + blue, dtype=np.float32)


def _search(image: Floats, windows: _Windows, least: float) -> tuple[_Match, float]:
    """Return the best match over all scales from `least` on, and the best correlation among its rivals."""
    size = max(image.shape)
    blur = max(1.0, size / _COARSE)
    step = 0.35 * blur / size
    scales = np.exp(np.arange(np.log(least), np.log(least * _WIDEST), step))
    integral = _integral(image)
    scan = _scan(integral, windows, scales, blur)
    close = [_refine(integral, windows, scales[peak], step) for peak in _peaks(scan)]
    best = max(close, key=lambda match: match.r, default=_Match(1.0, -1.0))
    apart = scan[np.abs(np.log(scales / best.scale)) > 0.1]
    mirrors = (image[::-1], image[:, ::-1], image[::-1, ::-1])
    mirrored = (_scan(_integral(mirror), windows, scales[::2], blur) for mirror in mirrors)
    return best, float(max(r.max(initial=-1.0) for r in (apart, *mirrored)))


def _scan(integral: Floats, windows: _Windows, scales: Floats, blur: float) -> Floats:
    """Return the correlation at each scale; -1 from the first scale on where too few pixels of the image are met."""
    found = np.full(len(scales), -1.0)
    for i, scale in enumerate(scales):
        if not windows.meet(float(scale * blur)):
            break
        found[i] = _correlation(integral, windows, scale, blur)
    return found


def _peaks(scan: Floats) -> NDArray[np.intp]:
    """Return where the highest local maxima of `scan` are."""
    padded = np.concatenate([[-1.0], scan, [-1.0]])
    local = np.flatnonzero((scan > -1) & (scan >= padded[:-2]) & (scan >= padded[2:]))
    return local[np.argsort(scan[local])[::-1][:_PEAKS]]


def _refine(integral: Floats, windows: _Windows, scale: float, step: float) -> _Match:
    """Return the best match within 1.5 steps of `scale`, to a tenth of a pixel at the far end of the image."""
    fine = 0.1 / max(integral.shape)
    scales = scale * np.exp(np.arange(-1.5 * step, 1.5 * step + fine, fine))
    found = [_correlation(integral, windows, s, 1.0) for s in scales]
    best = int(np.argmax(found))
    return _Match(float(scales[best]), found[best])


def _correlation(integral: Floats, windows: _Windows, scale: float, blur: float) -> float:
    """Return Pearson's r of the windows' block means with the image's means over the same places.

    Places that leave the image are left out. -1 where too few remain or one side is flat.
    """
    from cellnet_sd.correlation import correlation

    means, ys, xs = windows.blocks(windows.blocks_per_side(scale * blur))
    found = np.empty_like(means)
    return correlation(
        integral, means, windows.top, windows.left, ys, xs, float(scale), float(blur), _LEAST_SPOTS, found
    )


def _integral(image: Floats) -> Floats:
    """Return the summed-area table, with a first row and column of zeros."""
    table = np.zeros((image.shape[0] + 1, image.shape[1] + 1))
    table[1:, 1:] = image.cumsum(axis=0).cumsum(axis=1)
    return table


def _judge(image: Floats, windows: _Windows, best: _Match, rival: float) -> Registration:
    """Turn the best match into a finding: refused, snapped to an integer, or as measured."""
    if best.r <= -1:
        words = "WSI scale unknown: the tissue patches meet too few pixels of the WSI image, or are too plain"
        return Registration(None, float("nan"), snapped=False, words=words)
    scale = best.scale / windows.factor
    told = f"tissue patches match the WSI image at scale {scale:.4g}, r = {best.r:.2f}"
    lead = np.arctanh(min(best.r, 0.999)) - np.arctanh(min(max(rival, 0.0), 0.999))
    if best.r < _LEAST_R or lead < _LEAST_LEAD:
        words = f"WSI scale unknown: {told}; elsewhere or mirrored r = {rival:.2f}"
        return Registration(None, best.r, snapped=False, words=words)
    whole = round(scale)
    if whole < 1 or abs(scale / whole - 1) * max(image.shape) * windows.factor > 0.5:
        return Registration(scale, best.r, snapped=False, words=told)
    r = _correlation(_integral(image), windows, float(whole * windows.factor), 1.0)
    return Registration(float(whole), r, snapped=True, words=f"{told}; taken as {whole}, r = {r:.2f}")
