"""Where what threads read goes: packed rows one after another, whoever is done first; arrays in their places."""

import errno
import gc
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cellnet_sd as cn
from cellnet_sd.layout import Component
from cellnet_sd.sources import native_fetch, native_packing
from cellnet_sd.sources.locations import Located
from cellnet_sd.sources.native import kernels
from cellnet_sd.sources.native_fetch import NativeReader
from cellnet_sd.sources.native_packing import PackedRows


def _of_a_broken_disk(*_: Any) -> bytes:
    raise OSError(errno.EIO, "the disk is broken")


@settings(max_examples=60, deadline=None)
@given(
    blocks=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5), max_size=8),
    room=st.sampled_from([1, 3, 2**20]),
    n_threads=st.integers(1, 4),
    is_shuffled=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_rows_are_where_they_were_asked_for(
    blocks: list[list[int]], room: int, n_threads: int, is_shuffled: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    counts_by_block = [np.array(block, np.int64) for block in blocks]
    n_rows = sum(map(len, blocks))
    order = rng.permutation(n_rows) if is_shuffled else np.arange(n_rows)
    rows_of_block = np.split(order, np.cumsum([len(block) for block in blocks])[:-1]) if blocks else []
    counts = np.zeros(n_rows, np.int64)
    for rows, own in zip(rows_of_block, counts_by_block, strict=True):
        counts[rows] = own
    delays = rng.uniform(0, 1e-3, len(blocks))
    packed = PackedRows(len(blocks))

    def work(number: int) -> None:
        time.sleep(delays[number])
        of_value = np.repeat(rows_of_block[number], counts_by_block[number])
        indices, values = of_value.astype(np.int32), (of_value + 0.5).astype(np.float32)
        packed.put(number, indices, values)
        indices[:], values[:] = -1, -1  # as a thread's own arrays are used for its next block

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(n_threads) as pool:
        patch.setattr(native_packing, "_ROOM", room)
        list(pool.map(work, range(len(blocks))))
    indices, values = packed.in_order(order, counts)
    expected = np.repeat(np.arange(n_rows), counts)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(values, expected + np.float32(0.5))


@pytest.mark.timeout(60)  # it hangs if blocks wait for each other
def test_blocks_that_are_done_early_wait_for_the_one_before_and_nobody_else_does() -> None:
    packed = PackedRows(4)
    for number in (2, 3, 1):
        packed.put(number, np.full(number, number, np.int32), np.full(number, number, np.float32))
    packed.put(0, np.empty(0, np.int32), np.empty(0, np.float32))
    indices, values = packed.in_order(np.arange(4), np.arange(4))
    assert indices.tolist() == values.tolist() == [1, 2, 2, 3, 3, 3]


@pytest.mark.timeout(240)  # the compiled code is made in it, if no other test was before
def test_a_read_that_fails_is_told_and_the_next_one_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, n = tmp_path / "cells.h5", 400
    with h5py.File(path, "w") as file:
        for number in range(n):
            cell = file.create_group(f"cell_{number:04d}")
            cell.create_dataset("attributes.json", data="{}")
            cell.create_dataset("expression", data=np.array([0, number, 1], np.float32), compression="gzip")
    cells = cn.open(path, n_threads=3)
    read_runs, calls = kernels.read_runs, count()

    def failing(*args: Any) -> int:
        return 3 if next(calls) == 2 else read_runs(*args)

    monkeypatch.setattr(kernels, "read_runs", failing)
    monkeypatch.setattr(native_fetch.os, "pread", _of_a_broken_disk)
    with pytest.raises(OSError, match="the disk is broken"):
        cells.expression[:]
    np.testing.assert_array_equal(cells.expression[:].toarray()[:, 1], np.arange(n))


def test_an_error_is_told_once_what_others_have_begun_is_done() -> None:
    begun, ended = [], []
    reader = NativeReader(Path("cells.h5"), Component.EXPRESSION, Located((), *[np.empty(0, np.int64)] * 3), (), 2)

    def work(block: int) -> None:
        begun.append(block)
        if block == 0:
            msg = "the first"
            raise ValueError(msg)
        time.sleep(0.1)
        ended.append(block)

    with pytest.raises(ValueError, match="the first"):
        reader._spread(work, range(100))
    assert len(begun) < 10
    assert sorted(ended) == sorted(set(begun) - {0})


def test_an_error_that_was_told_keeps_nothing_of_what_was_read() -> None:
    reader = NativeReader(Path("cells.h5"), Component.EXPRESSION, Located((), *[np.empty(0, np.int64)] * 3), (), 2)
    out = np.empty(8, np.uint8)
    kept = weakref.ref(out)

    def work(block: int, out: np.ndarray) -> None:
        raise ValueError(block, out.size)

    gc.disable()
    try:
        with suppress(ValueError):
            reader._spread(partial(work, out=out), range(100))
        del out
        until = time.monotonic() + 10
        while kept() is not None and time.monotonic() < until:
            time.sleep(0.01)  # a thread lets go of its work a little after its end
        assert kept() is None
    finally:
        gc.enable()


def test_results_come_in_order_whoever_is_done_first() -> None:
    reader = NativeReader(Path("cells.h5"), Component.EXPRESSION, Located((), *[np.empty(0, np.int64)] * 3), (), 3)

    def work(block: int) -> int:
        time.sleep(0.002 * (block % 3 == 0))
        return block

    assert reader._spread(work, range(50)) == [*range(50)]
    assert reader._spread(work, range(0)) == []


@pytest.mark.parametrize(
    ("address", "size", "expected"),
    [
        ([0, 3], [3, 2], [b"\0\1\2", b"\3\4"]),
        ([2, 7, 8], [1, 5, 1], [b"\2", b"\7\x08", b"\x08"]),
        ([0, 2**62, 4], [1, 3, 2], [b"\0", b"", b"\4\5"]),
        ([0, 1, 4], [1, -5, 2], [b"\0", b"", b"\4\5"]),
        ([0, 0, 1], [9, 9, 0], [bytes(range(9)), bytes(range(9)), b""]),
        ([], [], []),
    ],
)
def test_of_runs_that_are_not_there_the_rest_is_read(
    address: list[int], size: list[int], expected: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(9)))
    for at_once in (1, 4, 2**20):
        monkeypatch.setattr(native_fetch, "_RUN", at_once)
        runs = native_fetch.runs_of(path, np.array(address, np.int64), np.array(size, np.int64))
        assert [bytes(run) for run in runs] == expected


# --- arrays that are stored as they are ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positions", "rows", "n_read"),
    [
        ([0, 3, 6], [2, 0, 1], 3),
        ([0, 7, 3], [0, 1, 2], 1),
        ([3, -1], [0, 1], 1),
        ([3, 2**62], [0, 1], 1),
        ([3, 0], [0, 3], 1),
        ([3, 0], [0, -1], 1),
        ([], [], 0),
    ],
)
def test_rows_are_read_up_to_one_that_is_not_there(
    positions: list[int], rows: list[int], n_read: int, tmp_path: Path
) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(9)))
    around = np.full((5, 3), 255, np.uint8)
    flat = around[1:4]
    with native_fetch.rows_of(path, flat) as put:
        assert put(np.array(positions, np.int64), np.array(rows, np.int64)) == n_read
    for position, row in zip(positions[:n_read], rows[:n_read], strict=True):
        np.testing.assert_array_equal(flat[row], np.arange(position, position + 3))
    assert (around[[0, 4]] == 255).all()


def test_rows_that_the_system_cannot_read_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(bytes(9))

    monkeypatch.setattr(kernels, "read_rows", lambda *_: 1)
    monkeypatch.setattr(native_fetch.os, "pread", _of_a_broken_disk)
    with native_fetch.rows_of(path, np.zeros((3, 3), np.uint8)) as put, pytest.raises(OSError, match="is broken"):
        put(np.array([0, 3]), np.array([0, 1]))


def test_of_a_closed_file_nothing_is_read() -> None:
    out, ones = np.full(3, 255, np.uint8), np.zeros(1, np.int64)
    assert kernels.read_rows(-1, ones, 3, ones, out) == 0
    assert (out == 255).all()
