"""Containers: listing the links of a group, and telling cells from other containers."""

import numpy as np

from cellnet_sd.layout import CELL_MARKERS
from cellnet_sd.sources.native.attributes import P_NAME, P_NAME_SIZE, find_attributes, split_attribute
from cellnet_sd.sources.native.codes import (
    C_STATUS,
    COMMITTED_DATATYPE,
    EXTERNAL_LINK,
    EXTERNAL_TYPE,
    GROW,
    HARD,
    INCOMPLETE,
    L_NAME,
    L_NAME_SIZE,
    L_TARGET,
    L_TYPE,
    M_DATATYPE,
    SOFT,
    SOFT_LINK,
    USER_LINK,
)
from cellnet_sd.sources.native.compiled import Bytes, Ints, compiled, part
from cellnet_sd.sources.native.datasets import is_dataset
from cellnet_sd.sources.native.headers import read_header
from cellnet_sd.sources.native.links import group_links, is_group, tracks_order
from cellnet_sd.sources.native.primitives import fail, matches, step, u8
from cellnet_sd.sources.native.work import Work

CELL = 1
CONTAINER = 2
DATASET = 3
OTHER = 4
"""Nothing of these, or not understood; the reason says which."""
ASSUMED = 5
"""A cell by its name: not looked at."""

_ZERO, _NINE = ord("0"), ord("9")
_A, _Z, _SMALL_A, _SMALL_Z = (ord(letter) for letter in "AZaz")
MARKERS = np.zeros((len(CELL_MARKERS), 24), np.uint8)
MARKER_SIZES = np.array([len(marker) for marker in CELL_MARKERS], np.int64)
for _row, _marker in enumerate(CELL_MARKERS):
    MARKERS[_row, : len(_marker)] = np.frombuffer(_marker.encode(), np.uint8)


@compiled
def list_links(buf: Bytes, ctx: Ints, header: int, w: Work) -> tuple[bool, int]:
    """Return whether the group with its header at `header` tracks the order of its links, and how many there are."""
    if not read_header(buf, ctx, header, w.head, w.blocks, w.link_messages, w.attribute_messages):
        return False, 0
    if not is_group(w.head):
        fail(ctx, INCOMPLETE)
        return False, 0
    tracked = tracks_order(buf, ctx, w.head)
    n = group_links(buf, ctx, w.head, w.link_messages, w.links, w.records, w.heap_blocks, w.stack)
    return tracked, n


@compiled
def classify(
    buf: Bytes, ctx: Ints, links: Ints, start: int, w: Work, assumes: int, kinds: Bytes, reasons: Bytes
) -> int:
    """Tell for each link from `start` on whether it leads to a cell, a container, a dataset, or none of these and why.

    Where it `assumes`, what is named like the cell before it is taken for another: `Cell_10` after `Cell_9`, or
    `aabcd-1` after `aaabc-1`.
    Returns how many are done: fewer than there are where `ctx[C_MORE_…]` asks for room.
    """
    cell = -1
    for i in range(start, links.shape[0]):
        kind = links[i, L_TYPE]
        kinds[i] = OTHER
        if assumes and cell >= 0 and kind == HARD and _are_alike(buf, ctx, links[cell], links[i]):
            kinds[i] = ASSUMED
        elif kind == HARD:
            kinds[i] = _kind(buf, ctx, links[i, L_TARGET], w)
            cell = i if kinds[i] == CELL else cell
        else:
            fail(ctx, SOFT_LINK if kind == SOFT else EXTERNAL_LINK if kind == EXTERNAL_TYPE else USER_LINK)
        if ctx[C_STATUS] == GROW:
            return i
        reasons[i] = ctx[C_STATUS]
        if ctx[C_STATUS] != 0:
            kinds[i] = OTHER
        ctx[C_STATUS] = 0
    return links.shape[0]


@part
def _are_alike(buf: Bytes, ctx: Ints, first: Ints, second: Ints) -> bool:
    """Whether the names of two links are of one form: a letter for each letter of its case, and digits for digits."""
    at, end = first[L_NAME], first[L_NAME] + first[L_NAME_SIZE]
    other, other_end = second[L_NAME], second[L_NAME] + second[L_NAME_SIZE]
    while True:
        at, other = _past_digits(buf, ctx, at, end), _past_digits(buf, ctx, other, other_end)
        if at >= end or other >= other_end:
            return at >= end and other >= other_end
        if _form(u8(buf, ctx, at)) != _form(u8(buf, ctx, other)):
            return False
        at, other = at + 1, other + 1


@part
def _form(byte: int) -> int:
    """Return one letter for all of its case, and any other byte as it is."""
    if _A <= byte <= _Z:
        return _A
    return _SMALL_A if _SMALL_A <= byte <= _SMALL_Z else byte


@part
def _past_digits(buf: Bytes, ctx: Ints, pos: int, end: int) -> int:
    """Return where the first byte is that is no digit."""
    while pos < end and _ZERO <= u8(buf, ctx, pos) <= _NINE:
        pos += 1
    return pos


@part
def _kind(buf: Bytes, ctx: Ints, header: int, w: Work) -> int:
    if not read_header(buf, ctx, header, w.head, w.blocks, w.link_messages, w.attribute_messages):
        return OTHER
    if is_dataset(w.head):
        return DATASET
    if not is_group(w.head):
        fail(ctx, COMMITTED_DATATYPE if w.head[2 * M_DATATYPE] >= 0 else INCOMPLETE)
        return OTHER
    n = group_links(buf, ctx, w.head, w.link_messages, w.links, w.records, w.heap_blocks, w.stack)
    for i in range(n):
        if ctx[C_STATUS] != 0 or not step(ctx):
            return OTHER
        if _is_marker(buf, ctx, w.links[i, L_NAME], w.links[i, L_NAME_SIZE]):
            return CELL
    return _kind_by_attributes(buf, ctx, w)


@part
def _kind_by_attributes(buf: Bytes, ctx: Ints, w: Work) -> int:
    for i in range(find_attributes(buf, ctx, w.head, w.attribute_messages, w.records, w.heap_blocks, w.stack)):
        if not step(ctx) or not split_attribute(
            buf, ctx, w.attribute_messages[i, 0], w.attribute_messages[i, 1], w.parts
        ):
            return OTHER
        if _is_marker(buf, ctx, w.parts[P_NAME], w.parts[P_NAME_SIZE]):
            return CELL
    return CONTAINER


@part
def _is_marker(buf: Bytes, ctx: Ints, pos: int, size: int) -> bool:
    for marker in range(MARKER_SIZES.size):
        if matches(buf, ctx, pos, size, MARKERS[marker, : MARKER_SIZES[marker]]):
            return True
    return False
