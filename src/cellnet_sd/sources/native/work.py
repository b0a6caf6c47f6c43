"""The arrays that the compiled code works in: it allocates none itself."""

from typing import NamedTuple

import numpy as np

from cellnet_sd.layout import Component
from cellnet_sd.sources.native.attributes import PARTS
from cellnet_sd.sources.native.chunk_arrays import ARRAY_SIZE
from cellnet_sd.sources.native.chunk_output import GRID_ROWS
from cellnet_sd.sources.native.codes import (
    C_MORE_BLOCKS,
    C_MORE_LINKS,
    C_MORE_RECORDS,
    C_STATUS,
    CTX_SIZE,
    GROW,
    HEAD_SIZE,
    LINK_COLUMNS,
    MAX_BLOCKS,
    MAX_RANK,
)
from cellnet_sd.sources.native.compiled import Ints

SLOTS = 1 + len(Component)
"""Rows per cell: its own group, then its components."""
SEEN_BITS = 6
"""So few that the table stays in the processor's nearest cache: a pass looks into it for every object."""
_MESSAGES = 1 << 16
_STACK = (64, 8)


class Work(NamedTuple):
    """Arrays for one thread."""

    head: Ints
    blocks: Ints
    link_messages: Ints
    attribute_messages: Ints
    links: Ints
    records: Ints
    heap_blocks: Ints
    stack: Ints
    parts: Ints
    limits: Ints
    grid: Ints
    array: Ints
    seen: Ints
    """(component, hash, 4): header and row of the last two datasets met, for those that many cells share."""
    saved: Ints


def new_work() -> Work:
    """Return arrays to work in, for one thread."""
    return Work(
        np.full(HEAD_SIZE, -1, np.int64),
        np.zeros((MAX_BLOCKS, 2), np.int64),
        np.empty((_MESSAGES, 2), np.int64),
        np.empty((_MESSAGES, 2), np.int64),
        np.zeros((256, LINK_COLUMNS), np.int64),
        np.zeros(1024, np.int64),
        np.zeros((64, 3), np.int64),
        np.zeros(_STACK, np.int64),
        np.zeros(PARTS, np.int64),
        np.zeros((2, MAX_RANK), np.int64),
        np.zeros((GRID_ROWS, MAX_RANK), np.int64),
        np.zeros(ARRAY_SIZE, np.int64),
        np.full((SLOTS, 1 << SEEN_BITS, 4), -1, np.int64),
        np.zeros(CTX_SIZE, np.int64),
    )


def with_room(ctx: Ints, work: Work) -> Work | None:
    """Return the arrays with the room that was asked for, `None` if none was; the status is then clear."""
    asked = {"links": C_MORE_LINKS, "records": C_MORE_RECORDS, "heap_blocks": C_MORE_BLOCKS}
    larger = {
        name: np.zeros((int(ctx[which]), *getattr(work, name).shape[1:]), np.int64)
        for name, which in asked.items()
        if ctx[which]
    }
    ctx[list(asked.values())] = 0
    if ctx[C_STATUS] == GROW:
        ctx[C_STATUS] = 0
    return work._replace(**larger) if larger else None
