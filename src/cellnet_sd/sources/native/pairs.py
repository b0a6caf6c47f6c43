"""Positions as text that one writer wrote: two numbers in a text that is the same in all.

Only numbers are read that are spelled again as they are: whole ones without a sign or zeros too many, and fractions of
at most four digits that do not end in a zero, as Python writes smaller ones with an exponent. With at most 15 digits,
float64 tells all of them apart.
"""

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.sources.native.compiled import Bytes, Ints, compiled, part, uint64
from cellnet_sd.sources.native.templates import MISMATCH, literal

_MOST_DIGITS = 11
_MOST_DECIMALS = 4
_MINUS, _POINT, _ZERO, _NINE = b"-.09"


@compiled
def read_pairs(texts: Bytes, bounds: Ints, around: Bytes, parts: Ints, points: int, pairs: NDArray[np.float64]) -> None:
    """Read the pairs of numbers that are spelled alike into `pairs` (n, 2); the rows of others are left as they are.

    Parameters
    ----------
    texts, bounds
        Text i is `texts[bounds[i]:bounds[i + 1]]`.
    around, parts
        What stands before, between and after the numbers, one after another, and where each begins and the last ends.
    points
        Whether whole numbers have a point and a zero.
    """
    for i in range(min(bounds.size - 1, pairs.shape[0])):
        at, end = bounds[i], bounds[i + 1]
        if at < 0 or end < at or end > texts.size:
            continue
        at, x = _number(texts, literal(texts, at, end, around, parts[0], parts[1]), end, points)
        if at >= 0:
            at, y = _number(texts, literal(texts, at, end, around, parts[1], parts[2]), end, points)
            if at >= 0 and literal(texts, at, end, around, parts[2], parts[3]) == end:
                pairs[i, 0], pairs[i, 1] = x, y


@part
def _number(texts: Bytes, at: int, end: int, points: int) -> tuple[int, float]:
    """Return the position after a number, -1 if it is none that has one spelling, and the number."""
    if at < 0:
        return MISMATCH, 0.0
    sign = 1.0
    if at < end and texts[uint64(at)] == _MINUS:
        sign = -1.0
        at += 1
    whole_end, whole = _digits(texts, at, end)
    n = whole_end - at
    if n < 1 or n > _MOST_DIGITS or (n > 1 and texts[uint64(at)] == _ZERO):
        return MISMATCH, 0.0
    if whole_end == end or texts[uint64(whole_end)] != _POINT:
        is_plain = points == 0 and (sign > 0 or whole > 0)
        return (whole_end if is_plain else MISMATCH), sign * whole
    start = whole_end + 1
    stop, decimals = _digits(texts, start, end)
    n = stop - start
    if n < 1 or n > _MOST_DECIMALS:
        return MISMATCH, 0.0
    if texts[uint64(stop - 1)] == _ZERO:
        is_whole = points != 0 and n == 1 and (sign > 0 or whole > 0)
        return (stop if is_whole else MISMATCH), sign * whole
    tens = 10**n
    return stop, sign * ((whole * tens + decimals) / tens)


@part
def _digits(texts: Bytes, at: int, end: int) -> tuple[int, int]:
    """Return the position after the next digits, of which one more than may be are looked at, and their number."""
    value = 0
    stop = min(end, at + _MOST_DIGITS + 1)
    while at < stop and _ZERO <= texts[uint64(at)] <= _NINE:
        value = value * 10 + texts[uint64(at)] - _ZERO
        at += 1
    return at, value
