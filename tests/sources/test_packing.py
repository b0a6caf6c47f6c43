"""Packed rows are put one after another in the order of their blocks, whoever is done first."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellnet_sd.sources import native_packing
from cellnet_sd.sources.native_packing import PackedRows


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
        indices, values = packed.room(number, len(of_value))
        indices[...], values[...] = of_value, of_value + 0.5

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(n_threads) as pool:
        patch.setattr(native_packing, "_ROOM", room)
        list(pool.map(work, range(len(blocks))))
    indices, values = packed.in_order(order, counts)
    expected = np.repeat(np.arange(n_rows), counts)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(values, expected + np.float32(0.5))


def test_a_block_without_memory_does_not_keep_the_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = PackedRows(3)
    packed.room(0, 1)
    segment = native_packing._Segment

    def no_memory(size: int) -> native_packing._Segment:
        raise MemoryError(size)

    monkeypatch.setattr(native_packing, "_Segment", no_memory)
    with pytest.raises(MemoryError):
        packed.room(1, 2**29)
    monkeypatch.setattr(native_packing, "_Segment", segment)
    indices, _ = packed.room(2, 1)
    assert len(indices) == 1
