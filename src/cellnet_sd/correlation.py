"""The inner loops of registration, compiled: an image's means over many rectangles, and how they go with others.

A registration asks for thousands of them.
"""

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.sources.native.compiled import compiled, part

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_FLAT = 1e-12


@compiled
def correlation(
    integral: Floats, means: Floats, top: Floats, left: Floats, ys: Ints, xs: Ints, scale: float, blur: float,
    least: int, found: Floats,
) -> float:  # fmt: skip
    """Return Pearson's r of the means (n, k, k) of blocks with an image's means over the same places.

    Parameters
    ----------
    integral
        Summed-area table of the image, with a first row and column of zeros.
    means
        Of the blocks of n windows.
    top, left, ys, xs
        Corners of the windows, and the edges of their blocks (k + 1), in slide pixels.
    scale, blur
        Slide pixels per pixel of the image, and the least side of a place in pixels of the image, if above 1.
    least
        Fewest places within the image; -1 is returned where there are fewer, or one side is flat.
    found
        Room for the image's means (n, k, k).
    """
    n, total, expected = 0, 0.0, 0.0
    for w in range(top.size):
        for i in range(ys.size - 1):
            y0, y1 = _extent(top[w], ys[i], ys[i + 1], scale, blur)
            for j in range(xs.size - 1):
                x0, x1 = _extent(left[w], xs[j], xs[j + 1], scale, blur)
                found[w, i, j] = np.nan
                if y0 >= 0 and x0 >= 0 and y1 <= integral.shape[0] - 1 and x1 <= integral.shape[1] - 1:
                    upper = _sum(integral, y0, x1) - _sum(integral, y0, x0)
                    mean = (_sum(integral, y1, x1) - _sum(integral, y1, x0) - upper) / ((y1 - y0) * (x1 - x0))
                    found[w, i, j] = mean
                    n, total, expected = n + 1, total + mean, expected + means[w, i, j]
    return -1.0 if n < least else _pearson(means, found, expected / n, total / n)


@part
def _extent(origin: float, begin: int, end: int, scale: float, blur: float) -> tuple[float, float]:
    """Return where a block begins and ends in image pixels, at least `blur` pixels apart."""
    low, high = (origin + begin) / scale, (origin + end) / scale
    grow = max(blur - (high - low), 0.0) / 2 if blur > 1 else 0.0
    return low - grow, high + grow


@part
def _sum(integral: Floats, y: float, x: float) -> float:
    """Return the summed-area table at a fractional row and column."""
    i, j = min(max(int(y), 0), integral.shape[0] - 2), min(max(int(x), 0), integral.shape[1] - 2)
    fy, fx = y - i, x - j
    upper = integral[i, j] * (1 - fx) + integral[i, j + 1] * fx
    lower = integral[i + 1, j] * (1 - fx) + integral[i + 1, j + 1] * fx
    return upper * (1 - fy) + lower * fy


@part
def _pearson(a: Floats, b: Floats, mean_a: float, mean_b: float) -> float:
    """Return the correlation of what is not NaN in `b` with `a`; -1 where either does not vary."""
    aa = bb = ab = 0.0
    for w in range(b.shape[0]):
        for i in range(b.shape[1]):
            for j in range(b.shape[2]):
                if not np.isnan(b[w, i, j]):
                    da, db = a[w, i, j] - mean_a, b[w, i, j] - mean_b
                    aa, bb, ab = aa + da * da, bb + db * db, ab + da * db
    spread = np.sqrt(aa * bb)
    return ab / spread if spread > _FLAT else -1.0


@compiled
def meets(top: Floats, left: Floats, ys: Ints, xs: Ints, cell: float, least: int, rows: Ints, columns: Ints) -> bool:
    """Whether blocks begin in at least `least` cells of a grid of `cell` slide pixels.

    Parameters
    ----------
    top, left, ys, xs
        As in `correlation`.
    rows, columns
        Room for `least` cells.
    """
    n = 0
    for w in range(top.size):
        for i in range(ys.size - 1):
            row = int(np.floor((top[w] + ys[i]) / cell))
            for j in range(xs.size - 1):
                column = int(np.floor((left[w] + xs[j]) / cell))
                known = False
                for at in range(n):
                    known = known or (rows[at] == row and columns[at] == column)
                if not known:
                    rows[n], columns[n] = row, column
                    n += 1
                if n >= least:
                    return True
    return False
