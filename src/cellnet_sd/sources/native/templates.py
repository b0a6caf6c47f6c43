"""JSON documents that one writer wrote: the same text but for the values, which are found without parsing the rest.

Only what can be read in one way is taken: a document that differs in any byte outside its values, or in the kind of a
value, does not match, and is left to a parser.
"""

import numpy as np

from cellnet_sd.sources.native.compiled import Bytes, Ints, compiled, part, uint64
from cellnet_sd.sources.native.primitives import are_equal

STRING, INTEGER, FRACTION, BOOL, NULL = range(5)
"""Kinds of values. All but `NULL` may be null instead."""
MISMATCH = -1
_MOST_DIGITS = 18
"""As many as int64 holds whatever they are."""
_QUOTE, _BACKSLASH, _SPACE, _MINUS, _POINT, _ZERO, _NINE = b'"\\ -.09'
_NULL, _TRUE, _FALSE = (np.frombuffer(word, np.uint8) for word in (b"null", b"true", b"false"))


@compiled
def match(
    texts: Bytes, starts: Ints, stops: Ints, literals: Bytes, bounds: Ints, kinds: Ints, begins: Ints, ends: Ints,
    escaped: Ints,
) -> None:  # fmt: skip
    """Find the values of the documents that match a template.

    Parameters
    ----------
    texts, starts, stops
        Documents; document i is `texts[starts[i]:stops[i]]`.
    literals, bounds
        What stands before each value and after the last, one after the other; (n_values + 2) bounds.
    kinds
        Of the values.
    begins, ends
        (n_values + 1, n): filled with where each value is in `texts`, without quotes; a null is empty and begins at -1.
        The last row of `ends` is 1 for documents that match.
    escaped
        Set to 1 for values of which some hold a backslash.
    """
    n_values = kinds.size
    for i in range(min(starts.size, stops.size)):
        at, end = starts[i], stops[i]
        ends[n_values, i] = 0
        if at < 0 or end < at or end > texts.size:
            continue
        for value in range(n_values):
            at = literal(texts, at, end, literals, bounds[value], bounds[value + 1])
            if at < 0:
                break
            at = _value(texts, at, end, kinds[value], begins, ends, value, i, escaped)
            if at < 0:
                break
        if at >= 0:
            at = literal(texts, at, end, literals, bounds[n_values], bounds[n_values + 1])
            ends[n_values, i] = at == end


@part
def literal(texts: Bytes, at: int, end: int, literals: Bytes, first: int, last: int) -> int:
    """Return the position after `literals[first:last]`, which is to be at `texts[at:end]`; -1 if it is not there."""
    size = last - first
    if size > end - at or first < 0 or last > literals.size or not are_equal(texts, at, literals, first, size):
        return MISMATCH
    return at + size


@part
def _value(
    texts: Bytes, at: int, end: int, kind: int, begins: Ints, ends: Ints, value: int, i: int, escaped: Ints
) -> int:
    """Note where a value is; return the position after it, -1 if it is none of its kind."""
    after = literal(texts, at, end, _NULL, 0, _NULL.size)
    if after >= 0:
        begins[value, i], ends[value, i] = -1, -1
        return after
    begins[value, i] = at
    if kind == STRING:
        return _string(texts, at, end, begins, ends, value, i, escaped)
    if kind == INTEGER:
        after = _integer(texts, at, end)
    elif kind == FRACTION:
        after = _fraction(texts, at, end)
    elif kind == BOOL:
        after = max(literal(texts, at, end, _TRUE, 0, _TRUE.size), literal(texts, at, end, _FALSE, 0, _FALSE.size))
    ends[value, i] = after
    return after


@part
def _string(texts: Bytes, at: int, end: int, begins: Ints, ends: Ints, value: int, i: int, escaped: Ints) -> int:
    if at >= end or texts[uint64(at)] != _QUOTE:
        return MISMATCH
    begins[value, i] = at + 1
    at += 1
    while at < end:
        byte = texts[uint64(at)]
        if byte == _QUOTE:
            ends[value, i] = at
            return at + 1
        if byte < _SPACE:
            return MISMATCH
        if byte == _BACKSLASH:
            escaped[value] = 1
            at += 1
        at += 1
    return MISMATCH


@part
def _integer(texts: Bytes, at: int, end: int) -> int:
    """Return the position after a whole number without zeros before it; -0 is none, as it is 0 for some."""
    if at < end and texts[uint64(at)] == _MINUS:
        at += 1
        if at < end and texts[uint64(at)] == _ZERO:
            return MISMATCH
    return _digits(texts, at, end)


@part
def _digits(texts: Bytes, at: int, end: int) -> int:
    start = at
    while at < end and _ZERO <= texts[uint64(at)] <= _NINE:
        at += 1
    n = at - start
    if n == 0 or n > _MOST_DIGITS or (n > 1 and texts[uint64(start)] == _ZERO):
        return MISMATCH
    return at


@part
def _fraction(texts: Bytes, at: int, end: int) -> int:
    """Return the position after a number with a point and no exponent."""
    if at < end and texts[uint64(at)] == _MINUS:
        at += 1
    at = _digits(texts, at, end)
    if at < 0 or at >= end or texts[uint64(at)] != _POINT:
        return MISMATCH
    start = at + 1
    at = start
    while at < end and _ZERO <= texts[uint64(at)] <= _NINE:
        at += 1
    return at if start < at <= start + _MOST_DIGITS else MISMATCH
