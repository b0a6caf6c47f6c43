"""Tables of distinct messages: a file of millions of objects has a handful of datatypes, shapes and pipelines.

A table keeps the position, size and tag of the first message of its kind; equal bytes with an equal tag get the same
code. What the messages say is worked out once per code, outside the compiled code.
"""

from typing import NamedTuple

import numpy as np

from cellnet_sd.sources.native.codes import C_STATUS, GROW, TABLES
from cellnet_sd.sources.native.compiled import Bytes, Ints, compiled, part
from cellnet_sd.sources.native.primitives import fail, number, same_bytes, step, u64

_HINTS = 16


class Tables(NamedTuple):
    """The tables `codes.T_…`, as arrays."""

    entries: Ints
    """(table, code, 3): position, size and tag."""
    slots: Ints
    """(table, hash): the code, or -1."""
    counts: Ints
    """(table,): codes in use."""
    hints: Ints
    """(table, use): the code met last, per use, which is mostly the next one too."""


def new_tables(capacity: int) -> Tables:
    """Return empty tables with room for `capacity` codes each, a power of two."""
    return Tables(
        np.zeros((TABLES, capacity, 3), np.int64),
        np.full((TABLES, 2 * capacity), -1, np.int64),
        np.zeros(TABLES, np.int64),
        np.full((TABLES, _HINTS), -1, np.int64),
    )


def grown(buf: Bytes, ctx: Ints, tables: Tables) -> Tables:
    """Return the tables with twice the room, their codes unchanged."""
    larger = new_tables(2 * tables.entries.shape[1])
    for table, count in enumerate(tables.counts.tolist()):
        for pos, size, tag in tables.entries[table, :count].tolist():
            intern(buf, ctx, larger, table, 0, pos, size, tag)
    return larger


@compiled
def intern(buf: Bytes, ctx: Ints, tables: Tables, table: int, use: int, pos: int, size: int, tag: int) -> int:
    """Return the code of a message in a table; -1 on failure."""
    hint = tables.hints[table, use & 15]
    if hint >= 0 and _is(buf, ctx, tables.entries, table, hint, pos, size, tag):
        return hint
    return _looked_up(buf, ctx, tables, table, use, pos, size, tag)


@part
def _looked_up(buf: Bytes, ctx: Ints, tables: Tables, table: int, use: int, pos: int, size: int, tag: int) -> int:
    """Return the code of a message that is not the one met last."""
    entries, counts, hints, slots = tables.entries, tables.counts, tables.hints, tables.slots
    slot = _hash(buf, ctx, pos, size, tag) & (slots.shape[1] - 1)
    code = slots[table, slot]
    while code >= 0 and not _is(buf, ctx, entries, table, code, pos, size, tag) and step(ctx):
        slot = (slot + 1) & (slots.shape[1] - 1)
        code = slots[table, slot]
    if ctx[C_STATUS] != 0:
        return -1
    if code < 0:
        code = counts[table]
        if code >= entries.shape[1]:
            fail(ctx, GROW)
            return -1
        entries[table, code, 0], entries[table, code, 1], entries[table, code, 2] = pos, size, tag
        slots[table, slot] = code
        counts[table] += 1
    hints[table, use & 15] = code
    return code


@part
def _is(buf: Bytes, ctx: Ints, entries: Ints, table: int, code: int, pos: int, size: int, tag: int) -> bool:
    if entries[table, code, 1] != size or entries[table, code, 2] != tag:
        return False
    return entries[table, code, 0] == pos or same_bytes(buf, ctx, entries[table, code, 0], pos, size)


@part
def _hash(buf: Bytes, ctx: Ints, pos: int, size: int, tag: int) -> int:
    value = (size * 31 + tag) * 0x2545F4914F6CDD1D
    done = 0
    while done < size and ctx[C_STATUS] == 0:
        word = u64(buf, ctx, pos + done) if size - done >= 8 else number(buf, ctx, pos + done, size - done)
        value = (value ^ word) * 0x2545F4914F6CDD1D
        value ^= value >> 29
        done += 8
    return value & 0x7FFFFFFFFFFFFFFF
