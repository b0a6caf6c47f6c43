"""CCC in every reading and encoding, decoded and put on cells, against dense truth."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccc_cells import context_of, csr_raw, group_raw, memory_file, problems_of, random_links, raw_of
from cellnet_sd.components.ccc import CCCLayout, Counting, Form, concat, decode, detect, select
from cellnet_sd.errors import MalformedCellError
from cellnet_sd.sources.base import Raw, Unreadable
from spell_ccc import communication


@st.composite
def stored_cells(draw):
    """Draw a file's CCC: the truth, and the cells as a source gives them."""
    slides = draw(st.lists(st.integers(0, 2), min_size=2, max_size=12).map(sorted))
    slides = np.unique(slides, return_inverse=True)[1].tolist()
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(len(slides))
    slides = [slides[i] for i in order]
    drawn = draw(communication(slides, unique_names=True))
    if drawn is None:
        return None
    truth, spelling = drawn
    names = [f"c{i}" for i in range(len(slides))]
    with memory_file() as file:
        for row, name in enumerate(names):
            spelling.write(file.create_group(name), row, truth, names, slides)
        raws = [raw_of(file[name]["CCC"]) if "CCC" in file[name] else None for name in names]
    shared = None if spelling.reading == "group" or truth.pairs is None else tuple(truth.pairs)
    if spelling.pair_place.startswith("group"):
        shared = None
    return truth, raws, context_of(slides, names, pair_names=shared)


def decoded(raws, context, batch=None, **options):
    """Decode a whole file, in batches if asked."""
    rows = np.arange(len(raws))
    layout = detect(raws, rows, context)
    parts = [
        decode(raws[i : i + (batch or len(raws))], rows[i : i + (batch or len(raws))], layout, context, problems_of())
        for i in range(0, len(raws), batch or len(raws))
    ]
    return concat(parts)


@given(drawn=stored_cells(), batch=st.integers(1, 5), seed=st.integers(0, 99))
def test_every_reading_and_encoding_gives_the_links_back(drawn, batch, seed):
    if drawn is None or not drawn[0].present.any():
        return
    truth, raws, context = drawn
    links = decoded(raws, context, batch)
    rows = np.random.default_rng(seed).permutation(len(raws))[: seed % len(raws) + 1]
    tables = select(links, rows, pairs=True)
    if truth.scores is not None:
        np.testing.assert_array_equal(tables.scores.toarray(), truth.scores[rows])
    else:
        inside = truth.links[:, rows][:, :, rows]
        np.testing.assert_array_equal(tables.total.toarray(), inside.sum(axis=0))
        assert tables.n_dropped == np.count_nonzero(truth.links[:, rows]) - np.count_nonzero(inside)
    if truth.links is not None and truth.pairs is not None:
        assert set(tables.pairs) == set(truth.pairs)
        for pair, matrix in zip(truth.pairs, inside, strict=True):
            np.testing.assert_array_equal(tables.by_pair[pair].toarray(), matrix)


# --- encodings that do not state their shape -------------------------------------------------------------------------


SLIDES = [0, 0, 0, 1, 1, 1, 1, 1]


def same_slide(links):
    slides = np.asarray(SLIDES)
    return links * (slides[:, None] == slides)


@pytest.mark.parametrize("counting", [Counting.FILE, Counting.SLIDE])
@pytest.mark.parametrize("encoding", ["csr", "vector", "coo"])
def test_a_vector_of_unstored_length_counts_what_keeps_links_on_their_slide(encoding, counting):
    links = same_slide(random_links(8, density=0.7))
    context = context_of(SLIDES)
    raws = []
    for row in range(8):
        axis = np.arange(8) if counting is Counting.FILE else context.slide_rows(row)
        indices = np.flatnonzero(links[0, row, axis])
        data = links[0, row, axis][indices]
        extra = {"csr": {"indptr": [0, len(data)]}, "coo": {"row": np.zeros(len(data), int)}}.get(encoding, {})
        raws.append(group_raw({"data": data, "col" if encoding == "coo" else "indices": indices, **extra}))
    assert detect(raws, range(8), context).counting is counting
    np.testing.assert_array_equal(select(decoded(raws, context), np.arange(8)).total.toarray(), links[0])


@pytest.mark.parametrize("turned", [False, True])
def test_pairs_of_unstored_shape_are_told_by_their_names_or_by_the_number_of_cells(turned):
    links = random_links(8, 3)
    raws = []
    for row in range(8):
        matrix = links[:, row].T if turned else links[:, row]
        made = csr_raw(matrix).members
        raws.append(group_raw({key: made[key] for key in ("data", "indices", "indptr")}))
    context = context_of([0] * 8, pair_names=None if turned else ("a", "b", "c"))
    layout = detect(raws, range(8), context)
    assert layout.form is (Form.CELLS_BY_PAIRS if turned else Form.PAIRS_BY_CELLS)
    tables = select(decoded(raws, context), np.arange(8), pairs=True)
    assert tables.pairs == (("pair_0", "pair_1", "pair_2") if turned else ("a", "b", "c"))
    for pair, matrix in zip(tables.pairs, links, strict=True):
        np.testing.assert_array_equal(tables.by_pair[pair].toarray(), matrix)


# --- neighbours ------------------------------------------------------------------------------------------------------


def square_cells(links, lists, names):
    """Return (k, k) matrices over the lists of neighbours, every entry stored, not only the cell's own row."""
    return [csr_raw(links[np.ix_(ids, ids)], neighbors=[names[i] for i in ids]) for ids in lists]


def test_the_own_row_of_a_square_over_neighbours_is_what_the_cell_sends():
    links = random_links(6, seed=3, density=0.9)[0]
    lists = [[i, (i + 1) % 6, (i + 2) % 6] for i in range(6)]
    context = context_of([0] * 6)
    read = decoded(square_cells(links, lists, context.names), context, batch=2)
    expected = np.zeros((6, 6), np.float32)
    for row, ids in enumerate(lists):
        expected[row, ids] = links[row, ids]
    np.testing.assert_array_equal(select(read, np.arange(6)).total.toarray(), expected)
    everywhere = np.zeros((6, 6), bool)
    for ids in lists:
        everywhere[np.ix_(ids, ids)] = links[np.ix_(ids, ids)] != 0
    assert read.n_unstored == np.count_nonzero(everywhere & (expected == 0))
    assert read.n_unstored > 0


def test_links_of_cells_that_were_not_decoded_are_not_counted_as_unstored():
    links = np.ones((4, 4), np.float32)
    context = context_of([0] * 4)
    raws = square_cells(links, [[0, 1, 2], [1, 2, 3], [2, 3, 0], [3, 0, 1]], context.names)
    layout = detect(raws, range(4), context)
    assert decode(raws[:1], [0], layout, context, problems_of()).n_unstored == 0


def test_names_are_looked_up_in_the_own_slide_first_and_then_in_the_file():
    names = ["a", "b", "a", "c"]
    context = context_of([0, 0, 1, 1], names)
    raws = [csr_raw(np.array([[1.0, 2.0, 4.0]]), barcodes=ids) for ids in (["a", "b", "c"], ["a", "c", "b"])]
    links = decode(raws, [0, 3], CCCLayout(Form.CELLS, Counting.NAMES), context, problems_of())
    assert links.sender.tolist() == [0, 0, 0, 3, 3, 3]
    assert links.receiver.tolist() == [0, 1, 3, 2, 3, 1]


@pytest.mark.parametrize(("names", "expected"), [(["c0", "c1", "c2", "c3"], [1, 3]), (["3", "2", "1", "0"], [2, 0])])
def test_numbers_are_rows_unless_cells_are_named_by_numbers(names, expected):
    context = context_of([0] * 4, names)
    raw = csr_raw(np.array([[5.0, 6.0]]), neighbor_ids=np.array([1, 3]))
    links = decode([raw], [0], CCCLayout(Form.CELLS, Counting.NAMES), context, problems_of())
    assert links.receiver.tolist() == expected


@pytest.mark.parametrize("nested", [False, True])
def test_a_group_of_squares_per_pair_nested_by_ligand_or_not(nested):
    links = random_links(5, 2, density=0.8)
    context = context_of([0] * 5)
    raws = []
    for row in range(5):
        ids = [row, (row + 1) % 5, (row + 3) % 5]
        squares = [csr_raw(matrix[np.ix_(ids, ids)]) for matrix in links]
        members = {"L": Raw(members={"R1": squares[0], "R2": squares[1]})}
        if not nested:
            members = {"L-R1": squares[0], "L-R2": squares[1]}
        raws.append(group_raw({**members, "cells": [context.names[i] for i in ids]}))
    layout = detect(raws, range(5), context)
    assert layout.name == "groups"
    assert layout.form is Form.NEIGHBOURS
    tables = select(decoded(raws, context), np.arange(5), pairs=True)
    assert tables.pairs == ("L-R1", "L-R2")
    for pair, matrix in zip(tables.pairs, links, strict=True):
        for row in range(5):
            ids = [row, (row + 1) % 5, (row + 3) % 5]
            np.testing.assert_array_equal(tables.by_pair[pair].toarray()[row, ids], matrix[row, ids])


def test_groups_with_different_pairs_per_cell_are_matched_by_name():
    context = context_of([0] * 3)
    raws = [group_raw({"A": csr_raw(np.eye(3)[:1])}), group_raw({"B": csr_raw(np.eye(3)[1:2])}), None]
    tables = select(decoded(raws, context, batch=1), np.arange(3), pairs=True)
    assert tables.by_pair["A"].toarray()[0].tolist() == [1, 0, 0]
    assert tables.by_pair["B"].toarray()[1].tolist() == [0, 1, 0]
    assert tables.total.nnz == 2


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "dtype", "n_inexact"),
    [
        (np.array([1, 2], "u1"), "f4", 0),
        (np.array([1, -2], "i8"), "f4", 0),
        (np.array([1, 2**24 + 1], "i4"), "f8", 0),
        (np.array([1, 2**60 + 1], "i8"), "f8", 1),
        (np.array([True, True]), "f4", 0),
        (np.array([1, 2], "f2"), "f4", 0),
        (np.array([0.1, 2], "f8"), "f8", 0),
        (np.array([1, 2], ">f4"), "f4", 0),
    ],
)
def test_values_keep_their_precision(value, dtype, n_inexact):
    raw = group_raw({"data": value, "indices": [0, 2]}, shape=np.array([3]))
    links = decode([raw], [0], CCCLayout(Form.CELLS, Counting.FILE), context_of([0] * 3), problems_of())
    assert links.value.dtype == np.dtype(dtype)
    assert links.n_inexact == n_inexact
    if not n_inexact:
        np.testing.assert_array_equal(links.value, value)


def test_explicit_zeros_and_negative_values_stay():
    raw = group_raw({"data": [0.0, -1.0], "indices": [0, 2]}, shape=np.array([3]))
    links = decode([raw], [1], CCCLayout(Form.CELLS, Counting.FILE), context_of([0] * 3), problems_of())
    total = select(links, np.arange(3)).total
    assert total.nnz == 2
    assert total[1, 2] == -1


def test_rows_send_and_columns_receive_after_any_reordering():
    context = context_of([0] * 3)
    raws = [csr_raw(np.array([[0.0, 0.0, 7.0]])), None, None]
    total = select(decoded(raws, context), [2, 0]).total
    assert total.toarray().tolist() == [[0, 0], [7, 0]]


def test_millions_of_links_are_selected_without_a_dense_matrix():
    from cellnet_sd.components.ccc import CCCLinks

    n, m = 200_000, 1_000_000
    rng = np.random.default_rng(0)
    ends = rng.integers(0, n, (2, m))
    links = CCCLinks(np.arange(n), ends[0], ends[1], np.full(m, -1, np.int32), np.ones(m, np.float32), (), n)
    rows = rng.permutation(n)[: n // 2]
    tables = select(links, rows)
    kept = np.isin(ends[0], rows)
    assert tables.total.sum() == np.count_nonzero(kept & np.isin(ends[1], rows))
    assert tables.n_dropped == np.count_nonzero(kept & ~np.isin(ends[1], rows))


# --- absent and malformed --------------------------------------------------------------------------------------------


def test_no_ccc_anywhere_is_no_links_and_no_problem():
    context = context_of([0] * 2)
    assert detect([None, None], [0, 1], context) is None
    links = decode([None, None], [0, 1], None, context, problems_of())
    assert len(links) == 0
    assert select(links, [0, 1]).total.shape == (2, 2)


N = 5
FILE = CCCLayout(Form.CELLS, Counting.FILE)
NAMES = CCCLayout(Form.CELLS, Counting.NAMES)
SQUARE = CCCLayout(Form.NEIGHBOURS, Counting.NAMES)
PAIRS = CCCLayout(Form.PAIRS_BY_CELLS, Counting.FILE, n_pairs=2, pairs=("a", "b"), named=True)
SCORES = CCCLayout(Form.SCORES, Counting.NOTHING, n_pairs=2, pairs=("a", "b"), named=True)
GROUPS = CCCLayout(Form.CELLS, Counting.FILE, grouped=True)


def row_of(*values):
    return csr_raw(np.array([values], np.float32))


@pytest.mark.parametrize(
    ("raw", "layout", "reason"),
    [
        (Unreadable("filter 32015 is not there"), FILE, "filter 32015"),
        (row_of(1, 2, 3), FILE, r"shape \(1, 3\) does not fit"),
        (csr_raw(np.ones((3, N))), PAIRS, "3 pairs, where 2 are expected"),
        (csr_raw(np.ones((2, N)), pairs=["a", "b", "c"]), PAIRS, "2 pairs, where 3 are expected"),
        (csr_raw(np.ones((3, 1))), SCORES, "3 pairs, where 2 are expected"),
        (group_raw({"data": [1.0], "indices": [N]}), FILE, f"column index {N} is outside the {N} columns"),
        (group_raw({"data": [1.0], "row": [2], "col": [1]}), FILE, "row index 2 is outside the 1 rows"),
        (group_raw({"data": [np.nan], "indices": [1]}), FILE, "NaN or infinite"),
        (group_raw({"data": [1.0, 2.0], "indices": [1, 1]}), FILE, r"entry \(0, 1\) is stored twice"),
        (csr_raw(np.ones((1, 2)), barcodes=["c0", "c9"]), NAMES, "listed cell 'c9' is not in the file"),
        (csr_raw(np.ones((1, 2)), barcodes=["c1", "c1"]), NAMES, "listed twice"),
        (csr_raw(np.ones((1, 2)), ids=np.array([0, N])), NAMES, f"listed cell {N} is outside the {N} cells"),
        (csr_raw(np.ones((1, 2)), ids=np.array([0.5, 1.5])), NAMES, "names of cells are expected"),
        (csr_raw(np.ones((1, 2)), barcodes=["c1"]), NAMES, r"does not fit .* listed with it .*1 cells"),
        (csr_raw(np.ones((1, 2))), NAMES, "no list of cells"),
        (csr_raw(np.ones((2, 2)), names=["c2", "c3"]), SQUARE, "the cell itself is not among"),
        (group_raw({"A": row_of(1, 2, 3)}), GROUPS, r"shape \(1, 3\)"),
        (group_raw({"A": group_raw({"B": group_raw({"C": row_of(1)})})}), GROUPS, "A-B: a group of C is no sparse"),
        (group_raw({"A": np.array(3.0)}), GROUPS, "A: a dataset of 0 axes"),
        (group_raw({}), GROUPS, "the group is empty"),
        (row_of(*range(N)), GROUPS, "one matrix where other cells have a group of matrices"),
        (group_raw({"A": row_of(*range(N))}), FILE, "a group of matrices where other cells have one matrix"),
        (group_raw({"data": [1.0], "indices": [1]}), SCORES, "the shape of the scores is not stored"),
        (group_raw({"data": [1.0], "row": [1], "col": [1]}, shape=np.array([2**40, 2**40])), SCORES, "more than 1,000"),
        (Raw(np.array(["text"], dtype=object)), FILE, "the dataset holds object"),
    ],
)
def test_a_malformed_cell_is_reported_with_its_reason_and_left_out(raw, layout, reason):
    context = context_of([0] * N)
    with pytest.raises(MalformedCellError, match=f"cell 'c0', CCC: .*{reason}"):
        decode([raw], [0], layout, context, problems_of())
    problems = problems_of("skip")
    links = decode([raw, None], [0, 1], layout, context, problems)
    assert problems.rows.tolist() == [0]
    assert len(links) == 0
    assert links.rows.tolist() == []


def test_a_malformed_cell_in_a_batch_leaves_the_others_alone():
    context = context_of([0] * 3)
    raws = [row_of(1, 0, 2), group_raw({"data": [1.0, 2.0], "indices": [0, 7]}), row_of(0, 3, 0)]
    problems = problems_of("skip")
    links = decode(raws, [0, 1, 2], detect(raws, range(3), context), context, problems)
    assert problems.rows.tolist() == [1]
    assert select(links, np.arange(3)).total.toarray().tolist() == [[1, 0, 2], [0, 0, 0], [0, 3, 0]]


def test_a_name_of_several_cells_is_malformed():
    context = context_of([0, 0, 1], ["a", "a", "b"])
    raw = csr_raw(np.ones((1, 1)), barcodes=["a"])
    with pytest.raises(MalformedCellError, match="'a' is the name of several cells"):
        decode([raw], [2], NAMES, context, problems_of())


def test_names_are_asked_for_only_when_cells_are_listed():
    def never():
        raise AssertionError

    context = context_of([0] * 3)
    quiet = type(context)(context.n_file, context.slide_of_row, context.rows_of_slide, never)
    raws = [row_of(1, 2, 3)]
    assert len(decode(raws, [0], detect(raws, [0], quiet), quiet, problems_of())) == 3


def test_ccc_read_from_a_real_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("CCC")
        group["matrix"] = np.array([[0, 2.0]])
        group["barcodes"] = np.array(["c1", "c0"], dtype=h5py.string_dtype())
        raw = raw_of(group)
    context = context_of([0] * 3)
    links = decode([raw], [2], detect([raw], [2], context), context, problems_of())
    assert (links.sender.tolist(), links.receiver.tolist(), links.value.tolist()) == ([2], [0], [2.0])


def test_names_are_asked_for_once_however_many_cells_list_others_by_number():
    asked = []

    def names():
        asked.append(1)
        return [f"c{row}" for row in range(6)]

    context = context_of([0] * 6, names)
    for row in range(6):
        assert context.rows_of_cells(np.array([5 - row]), row).tolist() == [5 - row]
        assert context.rows_of_cells([f"c{row}"], row).tolist() == [row]
    assert len(asked) == 1
