"""Cells: all objects of many cells in one pass, into rows of numbers.

Each cell has `SLOTS` rows: its own group, then one per component in the order of `layout.Component`. What lies in a
component's group, or in a cell without being a component, are members: rows of a table that grows.
"""

from typing import NamedTuple

import numpy as np

from cellnet_sd.layout import Component
from cellnet_sd.sources.native.attributes import find_attributes, note_attributes
from cellnet_sd.sources.native.codes import (
    BUDGET,
    C_ALL_STEPS,
    C_ALONE,
    C_ATTRIBUTES,
    C_CHUNKS,
    C_MEMBERS,
    C_MORE_LINKS,
    C_REFILLS,
    C_ROWS,
    C_STATUS,
    C_STEPS,
    COMMITTED_DATATYPE,
    DAMAGED,
    DATASET,
    EXTERNAL,
    EXTERNAL_IMAGES,
    EXTERNAL_LINK,
    EXTERNAL_TYPE,
    F_ATTRIBUTES,
    F_HEADER,
    F_KIND,
    F_NAME,
    F_ORDER,
    F_PARENT,
    F_REASON,
    F_SIZE,
    F_STORAGE,
    F_TEXT_SIZE,
    FALLBACK,
    FIRST_DAMAGE,
    FIRST_EXTERNAL,
    GROUP,
    GROW,
    HARD,
    INCOMPLETE,
    L_NAME,
    L_NAME_SIZE,
    L_ORDER,
    L_TARGET,
    L_TYPE,
    M_DATATYPE,
    NESTING,
    SHARED_BUDGET,
    SOFT,
    SOFT_LINK,
    T_NAME,
    USER_LINK,
)
from cellnet_sd.sources.native.compiled import Bytes, Ints, compiled, int64, part, uint64
from cellnet_sd.sources.native.datasets import is_dataset, read_dataset
from cellnet_sd.sources.native.headers import read_header
from cellnet_sd.sources.native.interning import Tables, intern
from cellnet_sd.sources.native.links import group_links, is_group
from cellnet_sd.sources.native.primitives import AHEAD, copy_numbers, expect, fail, matches, step
from cellnet_sd.sources.native.work import SEEN_BITS, SLOTS, Work

_IMAGES = "images"
_PENDING = 6
_IMAGES_SLOT = SLOTS
_MEMBER_USE = 8
_MAX_NESTING = 4
_EXPECTED = 256
"""Bytes of most headers."""
_MIX = uint64(0x9E3779B97F4A7C15)
_SHIFT = uint64(64 - SEEN_BITS)

# the names of the components, as bytes: constants of the compiled code
_PATHS = [component.value.encode() for component in Component]
_LEAVES = [path.rpartition(b"/")[2] for path in _PATHS]
WORDS = np.zeros((SLOTS, 24), np.uint8)
WORD_SIZES = np.array([len(_IMAGES), *map(len, _LEAVES)], np.int64)
IN_IMAGES = np.array([0, *(path.startswith(b"images/") for path in _PATHS)], np.int64)
for _row, _word in enumerate([_IMAGES.encode(), *_LEAVES]):
    WORDS[_row, : len(_word)] = np.frombuffer(_word, np.uint8)


class Outputs(NamedTuple):
    """What the pass over cells writes."""

    objects: Ints
    members: Ints
    attributes: Ints
    chunks: Ints


@compiled
def read_cells(buf: Bytes, ctx: Ints, headers: Ints, start: int, w: Work, tables: Tables, out: Outputs) -> int:
    """Read the cells whose group headers are at `headers[start:]`.

    Returns how many are done: fewer than there are where an output is full, or `ctx[C_MORE_…]` asks for room.
    """
    i = start
    while i < headers.size:
        copy_numbers(ctx, w.saved)
        if i + AHEAD < headers.size:
            expect(buf, headers[i + AHEAD], _EXPECTED)
        _read_cell(buf, ctx, headers[i], i * SLOTS, w, tables, out)
        if ctx[C_STATUS] == GROW:  # as if this cell had not been begun
            copy_numbers(w.saved[:C_MORE_LINKS], ctx)
            return i
        if _is_read_alone_next(ctx, w):
            continue
        if ctx[C_ROWS] <= 0:
            _leave(ctx, out.objects, i * SLOTS, w)
        i += 1
    return headers.size


@part
def _is_read_alone_next(ctx: Ints, w: Work) -> bool:
    """Whether a cell that had too few steps left is read again, with all that a pass has: then it has itself to blame.

    The cell after such a one has all steps, too.
    """
    was_alone, ctx[C_ALONE] = ctx[C_ALONE], 0
    if ctx[C_STEPS] >= 0 or ctx[C_REFILLS] <= 0:
        return False
    ctx[C_REFILLS] -= 1
    if not was_alone:
        copy_numbers(w.saved[:C_MORE_LINKS], ctx)
    ctx[C_STEPS] = ctx[C_ALL_STEPS]
    ctx[C_ALONE] = 1 - was_alone
    return was_alone == 0


@part
def _leave(ctx: Ints, objects: Ints, first: int, w: Work) -> None:
    """Leave to libhdf5 a cell that has filled all rows there were; they are for others."""
    ctx[C_MEMBERS], ctx[C_ATTRIBUTES] = w.saved[C_MEMBERS], w.saved[C_ATTRIBUTES]
    ctx[C_CHUNKS], ctx[C_ROWS] = w.saved[C_CHUNKS], w.saved[C_ROWS]
    for slot in range(SLOTS):
        objects[first + slot, F_KIND], objects[first + slot, F_REASON] = FALLBACK, SHARED_BUDGET


@part
def _read_cell(buf: Bytes, ctx: Ints, header: int, first: int, w: Work, tables: Tables, out: Outputs) -> None:
    """Read one cell: its links, those of its images, then every object."""
    objects = out.objects
    objects[first : first + SLOTS] = -1
    objects[first : first + SLOTS, F_KIND : F_REASON + 1] = 0
    own, begin = objects[first], ctx[C_MEMBERS]
    own[F_HEADER] = header
    own[F_KIND] = GROUP
    images = _group(buf, ctx, header, first, 0, w, tables, out)
    if ctx[C_STATUS] == 0 and images >= 0:
        _group(buf, ctx, images, first, 1, w, tables, out)
        _settle_images(ctx, objects, first)
    elif ctx[C_STATUS] != 0:
        _settle(ctx, own)
        for slot in range(1, SLOTS):
            objects[first + slot, F_KIND], objects[first + slot, F_REASON] = own[F_KIND], own[F_REASON]
    for slot in range(1, SLOTS):
        if objects[first + slot, F_KIND] == _PENDING and ctx[C_STATUS] == 0:
            _read_seen(buf, ctx, first, slot, w, tables, out)
    _read_members(buf, ctx, begin, w, tables, out)


@part
def _group(
    buf: Bytes, ctx: Ints, header: int, first: int, in_images: int, w: Work, tables: Tables, out: Outputs
) -> int:
    """Note the links of a cell's group, or of its images; return where the header of the images is, or -1."""
    if not read_header(buf, ctx, header, w.head, w.blocks, w.link_messages, w.attribute_messages):
        return -1
    if not is_group(w.head):
        fail(ctx, INCOMPLETE)
        return -1
    if not in_images:
        _note_attributes(buf, ctx, out.objects[first], first, w, tables, out)
    links = w.links
    n = _links(buf, ctx, w)
    images = -1
    for i in range(n):
        if ctx[C_STATUS] != 0 or not step(ctx):
            break
        slot = _slot(buf, ctx, links[i], in_images)
        if slot > 0:
            _note_link(links[i], out.objects[first + slot])
        elif slot == 0:
            images = _images(links[i], out.objects, first)
        else:
            _append_member(buf, ctx, links[i], first, in_images, tables, out.members)
    return images


@part
def _links(buf: Bytes, ctx: Ints, w: Work) -> int:
    """Put the links of the group whose header was read last into `w.links`; return their number."""
    n = group_links(buf, ctx, w.head, w.link_messages, w.links, w.records, w.heap_blocks, w.stack)
    for i in range(n):
        expect(buf, w.links[i, L_TARGET], _EXPECTED)
    return n


@part
def _slot(buf: Bytes, ctx: Ints, link: Ints, in_images: int) -> int:
    """Return the slot of the component that a link names, 0 for the images, -1 for none."""
    for word in range(SLOTS):
        name = WORDS[word, : WORD_SIZES[word]]
        if IN_IMAGES[word] == in_images and matches(buf, ctx, link[L_NAME], link[L_NAME_SIZE], name):
            return word
    return -1


@part
def _note_link(link: Ints, row: Ints) -> None:
    """Note what a link says of its object, which is still to be read."""
    row[F_HEADER] = link[L_TARGET]
    row[F_KIND], row[F_REASON] = _PENDING, 0
    if link[L_TYPE] == EXTERNAL_TYPE:
        row[F_KIND], row[F_REASON] = EXTERNAL, EXTERNAL_LINK
    elif link[L_TYPE] != HARD:
        row[F_KIND], row[F_REASON] = FALLBACK, SOFT_LINK if link[L_TYPE] == SOFT else USER_LINK


@part
def _images(link: Ints, objects: Ints, first: int) -> int:
    """Return where the header of the images is; -1 where the link is not to be followed, noted with every patch."""
    if link[L_TYPE] == HARD:
        return link[L_TARGET]
    for slot in range(1, SLOTS):
        if IN_IMAGES[slot]:
            row = objects[first + slot]
            _note_link(link, row)
            if row[F_REASON] == EXTERNAL_LINK:
                row[F_REASON] = EXTERNAL_IMAGES
    return -1


@part
def _settle(ctx: Ints, row: Ints) -> None:
    """Write a failure into the row of its object, and go on without it."""
    reason = ctx[C_STATUS]
    if reason == 0 or reason == GROW:
        return
    if reason == BUDGET and not ctx[C_ALONE]:
        reason = SHARED_BUDGET
    row[F_REASON] = reason
    row[F_KIND] = DAMAGED if reason >= FIRST_DAMAGE else EXTERNAL if reason >= FIRST_EXTERNAL else FALLBACK
    ctx[C_STATUS] = 0


@part
def _settle_images(ctx: Ints, objects: Ints, first: int) -> None:
    """Write a failure to read the group of the images into the row of every patch."""
    reason = ctx[C_STATUS]
    if reason == 0 or reason == GROW:
        return
    for slot in range(1, SLOTS):
        if IN_IMAGES[slot]:
            ctx[C_STATUS] = reason
            _settle(ctx, objects[first + slot])


@part
def _read_seen(buf: Bytes, ctx: Ints, first: int, slot: int, w: Work, tables: Tables, out: Outputs) -> None:
    """Read a component, or copy its row where it is a dataset that another cell shares with this one (WSI patches)."""
    row = out.objects[first + slot]
    header = row[F_HEADER]
    seen = w.seen[slot, _bucket(header)]
    at = 0 if seen[0] == header else 2
    # a cell that was read again has left rows here that are no dataset any more
    if seen[at] == header and 0 <= seen[at + 1] < first and out.objects[seen[at + 1], F_KIND] == DATASET:
        copy_numbers(out.objects[seen[at + 1]], row)
        _note_seen(seen, header, seen[at + 1])
        return
    read_object(buf, ctx, row, slot, first + slot, w, tables, out)
    if row[F_KIND] == GROUP and ctx[C_STATUS] == 0:
        _append_members(buf, ctx, first + slot, w, tables, out)
        _settle(ctx, row)
    elif row[F_KIND] == DATASET:
        _note_seen(seen, header, first + slot)


@part
def _bucket(header: int) -> int:
    """Return where a dataset is noted: headers that many cells share in turn lie at regular distances."""
    return int64((uint64(header) * _MIX) >> _SHIFT)


@part
def _note_seen(seen: Ints, header: int, row: int) -> None:
    """Put a dataset first of the two that are noted in one place."""
    if seen[0] != header:
        seen[2], seen[3] = seen[0], seen[1]
    seen[0], seen[1] = header, row


@part
def read_object(buf: Bytes, ctx: Ints, row: Ints, use: int, parent: int, w: Work, tables: Tables, out: Outputs) -> None:
    """Read one object into its row; leaves its messages in the arrays to work in."""
    row[F_KIND] = DATASET
    row[F_STORAGE], row[F_SIZE], row[F_TEXT_SIZE] = 0, 0, -1
    n_chunks = ctx[C_CHUNKS]
    if read_header(buf, ctx, row[F_HEADER], w.head, w.blocks, w.link_messages, w.attribute_messages):
        if is_dataset(w.head):
            read_dataset(buf, ctx, w.head, tables, use, row, out.chunks, w)
        elif is_group(w.head):
            row[F_KIND] = GROUP
        else:
            fail(ctx, COMMITTED_DATATYPE if w.head[2 * M_DATATYPE] >= 0 else INCOMPLETE)
        _note_attributes(buf, ctx, row, parent, w, tables, out)
    if ctx[C_STATUS] != 0:  # its chunks are not: their rows are for others
        ctx[C_ROWS] += ctx[C_CHUNKS] - n_chunks
        ctx[C_CHUNKS] = n_chunks
    _settle(ctx, row)


@part
def _note_attributes(buf: Bytes, ctx: Ints, row: Ints, parent: int, w: Work, tables: Tables, out: Outputs) -> None:
    """Note the attributes of the object whose header was read last."""
    if ctx[C_STATUS] == 0:
        n = find_attributes(buf, ctx, w.head, w.attribute_messages, w.records, w.heap_blocks, w.stack)
        row[F_ATTRIBUTES] = n
        note_attributes(buf, ctx, w.attribute_messages, n, parent, tables, w.parts, w.limits, out.attributes)


# --- members ---------------------------------------------------------------------------------------------------------


@part
def _append_member(buf: Bytes, ctx: Ints, link: Ints, parent: int, tag: int, tables: Tables, members: Ints) -> None:
    """Append a member, still to be read; `tag` 1 marks the name of one among the images."""
    n = ctx[C_MEMBERS]
    if ctx[C_ROWS] <= 0:
        fail(ctx, SHARED_BUDGET)
    elif n >= members.shape[0]:
        fail(ctx, GROW)
    if ctx[C_STATUS] != 0:
        return
    row = members[n]
    row[:] = -1
    _note_link(link, row)
    row[F_ORDER] = link[L_ORDER]
    row[F_PARENT] = parent
    row[F_NAME] = intern(buf, ctx, tables, T_NAME, _MEMBER_USE + n % 6, link[L_NAME], link[L_NAME_SIZE], tag)
    ctx[C_MEMBERS] += 1
    ctx[C_ROWS] -= 1


@part
def _append_members(buf: Bytes, ctx: Ints, parent: int, w: Work, tables: Tables, out: Outputs) -> None:
    """Append the members of the group whose header was read last."""
    links = w.links
    for i in range(_links(buf, ctx, w)):
        if ctx[C_STATUS] != 0 or not step(ctx):
            return
        _append_member(buf, ctx, links[i], parent, 0, tables, out.members)


@part
def _read_members(buf: Bytes, ctx: Ints, begin: int, w: Work, tables: Tables, out: Outputs) -> None:
    """Read the members from row `begin` on, and theirs."""
    at = begin
    level_end, depth = ctx[C_MEMBERS], 0
    while at < ctx[C_MEMBERS] and ctx[C_STATUS] == 0:
        if at == level_end:
            level_end, depth = ctx[C_MEMBERS], depth + 1
        row = out.members[at]
        parent = -1 - at
        if row[F_KIND] == _PENDING:
            read_object(buf, ctx, row, _MEMBER_USE + row[F_NAME] % 6, parent, w, tables, out)
            if row[F_KIND] == GROUP and depth < _MAX_NESTING and ctx[C_STATUS] == 0:
                _append_members(buf, ctx, parent, w, tables, out)
            elif row[F_KIND] == GROUP:
                fail(ctx, NESTING)
            _settle(ctx, row)
        at += 1
