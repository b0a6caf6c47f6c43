"""Structures that lead back to themselves, put together by hand: each is an error of one cell, and soon."""

import struct
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5o

from hostile_answers import Answers, Refused, ask
from hostile_mutants import SECONDS
from native_mutants import structures
from small_files import written

BAD = "Cell_2"
_CONTINUATION = 0x10
_SYMBOL_TABLE = 0x11
_NODE = struct.Struct("<4sBBHqq")
"""Of a B-tree of version 1: signature, type, level, entries, and its siblings (III.A.1)."""


def _header(path: Path, name: str) -> int:
    with h5py.File(path) as root:
        return int(h5o.get_info(root[name].id).addr)


def _messages(raw: bytearray, header: int) -> list[tuple[int, int]]:
    """Return type and position of the body of the messages in the first block of a header of version 1 (IV.A.1.a)."""
    found, at = [], header + 16
    end = at + int.from_bytes(raw[header + 8 : header + 12], "little")
    while at < end:
        kind, size = struct.unpack_from("<HH", raw, at)
        found.append((kind, at + 8))
        at += 8 + size
    return found


def _body(raw: bytearray, header: int, kind: int) -> int:
    return next(at for found, at in _messages(raw, header) if found == kind)


def _own_child(raw: bytearray, node: int, key: int) -> None:
    """Make a node of a B-tree of version 1 its own only child, one level up; `key` is the size of its keys."""
    signature, kind, _, _, left, right = _NODE.unpack_from(raw, node)
    assert signature == b"TREE"
    _NODE.pack_into(raw, node, signature, kind, 1, 1, left, right)
    struct.pack_into("<q", raw, node + _NODE.size + key, node)


def _tree_of_links(path: Path) -> bytearray:
    raw = bytearray(path.read_bytes())
    table = _body(raw, _header(path, BAD), _SYMBOL_TABLE)
    _own_child(raw, int.from_bytes(raw[table : table + 8], "little"), 8)
    return raw


def _tree_of_chunks(path: Path) -> bytearray:
    raw = bytearray(path.read_bytes())
    layout = _body(raw, _header(path, f"{BAD}/expression"), 8)
    assert tuple(raw[layout : layout + 3]) == (3, 2, 2)  # version, chunked, one dimension and the elements
    _own_child(raw, int.from_bytes(raw[layout + 3 : layout + 11], "little"), 8 + 8 * 2)
    return raw


def _next_block_is_the_first(path: Path) -> bytearray:
    """Continue a header of version 1 in its own first block."""
    with h5py.File(path, "a") as root:
        for i in range(20):
            root[BAD].attrs[f"a{i}"] = "more than its first block holds"
    raw = bytearray(path.read_bytes())
    header = _header(path, BAD)
    target = _body(raw, header, _CONTINUATION)
    struct.pack_into("<q", raw, target, header + 16)
    struct.pack_into("<q", raw, target + 8, int.from_bytes(raw[header + 8 : header + 12], "little"))
    return raw


def _next_block_is_itself(path: Path) -> bytearray:
    """Continue a block of a header of version 2 in itself, its checksum put right."""
    with h5py.File(path, "a", libver="latest") as root:
        for i in range(7):  # eight would be stored elsewhere
            root[BAD].attrs[f"a{i}"] = "more than its first block holds"
    raw = bytearray(path.read_bytes())
    block = raw.rindex(b"OCHK")  # the last that was written
    start, end, _ = next(each for each in structures(np.frombuffer(raw, np.uint8)) if each[0] == block)
    tracked = raw[_header(path, BAD) + 5] & 4
    struct.pack_into("<BHB", raw, block + 4, _CONTINUATION, 16, 0)
    struct.pack_into("<qq", raw, block + 8 + 2 * bool(tracked), start, end + 4 - start)
    _seal(raw, start, end)
    return raw


def _seal(raw: bytearray, start: int, end: int) -> None:
    from cellnet_sd.sources.native.primitives import lookup3

    data = np.frombuffer(bytes(raw), np.uint8)
    struct.pack_into("<I", raw, end, int(lookup3(data, np.zeros(32, np.int64), start, end - start, -4)))


CYCLES: dict[Callable[[Path], bytearray], tuple[str, str]] = {
    _tree_of_links: ("earliest", "group"),
    _tree_of_chunks: ("earliest", "expression"),
    _next_block_is_the_first: ("earliest", "group"),
    _next_block_is_itself: ("latest", "group"),
}


@pytest.mark.parametrize("change", CYCLES, ids=lambda change: change.__name__.strip("_"))
def test_they_are_faults_of_their_cell_alone(tmp_path: Path, change: Callable[[Path], bytearray]) -> None:
    libver, what = CYCLES[change]
    path = written(tmp_path / "plain.h5", 5, libver=libver)
    sound = ask(path, "auto", raw=True, table=False)
    path.write_bytes(change(path))
    began = time.process_time()
    found = ask(path, "auto", raw=True, table=True)
    assert time.process_time() - began < SECONDS
    assert found["defects"] == {(2, what)} or isinstance(found["raw expression"][2], str)
    assert isinstance(found["expression"], Refused)
    _assert_same_elsewhere(found, sound)


def _assert_same_elsewhere(found: Answers, sound: Answers) -> None:
    for row in (0, 1, 3, 4):
        for name in ("raw expression", "raw images/cell_patch"):
            np.testing.assert_array_equal(found[name][row].value, sound[name][row].value)
    captions = [np.delete(answers["captions"].to_numpy(object), 2) for answers in (found, sound)]
    assert captions[0].tolist() == captions[1].tolist()


def test_a_root_that_lists_itself_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "plain.h5", 5, libver="earliest")
    raw = bytearray(path.read_bytes())
    table = _body(raw, _header(path, "/"), _SYMBOL_TABLE)
    _own_child(raw, int.from_bytes(raw[table : table + 8], "little"), 8)
    path.write_bytes(raw)
    found = ask(path, "auto", raw=False, table=False)
    assert isinstance(found["open"], Refused)
