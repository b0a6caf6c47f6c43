"""What CCC is taken to be, and when it is refused."""

import numpy as np
import pytest

from ccc_cells import context_of, csr_raw, group_raw, problems_of
from cellnet_sd.components.ccc import Counting, Form, decode, detect, select
from cellnet_sd.errors import CellNetWarning, LayoutError
from cellnet_sd.sources.base import Raw, Unreadable

ONE = [0] * 6
TWO = [0, 0, 1, 1, 1, 1]


def of_shape(*shape):
    return Raw(np.ones(shape, np.float32))


def taken(raw, slides=ONE, rows=None, **options):
    rows = list(range(len(slides))) if rows is None else rows
    return detect([raw] * len(rows), rows, context_of(slides, **options))


@pytest.mark.parametrize(
    ("shape", "slides", "form", "counting"),
    [
        ((6,), ONE, Form.CELLS, Counting.FILE),
        ((1, 6), ONE, Form.CELLS, Counting.FILE),
        ((6, 1), ONE, Form.CELLS, Counting.FILE),
        ((3, 6), ONE, Form.PAIRS_BY_CELLS, Counting.FILE),
        ((6, 3), ONE, Form.CELLS_BY_PAIRS, Counting.FILE),
        ((3,), ONE, Form.SCORES, Counting.NOTHING),
        ((3, 1), ONE, Form.SCORES, Counting.NOTHING),
        ((2, 3), ONE, Form.SCORES, Counting.NOTHING),
        ((1, 1), [0], Form.CELLS, Counting.FILE),
        ((3, 1), [0], Form.PAIRS_BY_CELLS, Counting.FILE),
        ((3,), [0], Form.SCORES, Counting.NOTHING),
        ((4, 6), [0, 0, 0, 1, 1, 1], Form.PAIRS_BY_CELLS, Counting.FILE),
        ((1, 3), [0, 0, 0, 1, 1, 1], Form.CELLS, Counting.SLIDE),
        ((5, 3), [0, 0, 0, 1, 1, 1], Form.PAIRS_BY_CELLS, Counting.SLIDE),
        ((3, 5), [0, 0, 0, 1, 1, 1], Form.CELLS_BY_PAIRS, Counting.SLIDE),
        ((1, 6), [0, 1, 1, 1, 1, 1], Form.CELLS, Counting.FILE),
        ((1, 3), [0, 0, 0, 1, 1, 2], Form.CELLS, Counting.SLIDE),
    ],
)
def test_an_axis_as_long_as_there_are_cells_is_the_cell_axis(shape, slides, form, counting):
    rows = [0] if shape == (1, 3) else None
    layout = taken(of_shape(*shape), slides, rows)
    assert (layout.form, layout.counting) == (form, counting)


def test_slides_of_different_size_tell_an_axis_that_counts_the_slide():
    context = context_of(TWO)
    raws = [of_shape(3, 2 if slide == 0 else 4) for slide in TWO]
    layout = detect(raws, range(6), context)
    assert (layout.form, layout.counting, layout.n_pairs) == (Form.PAIRS_BY_CELLS, Counting.SLIDE, 3)


def test_the_number_of_pairs_equal_to_the_cells_of_one_slide_is_settled_by_the_other():
    raws = [of_shape(4, 2 if slide == 0 else 4) for slide in TWO]
    assert detect(raws, range(6), context_of(TWO)).form is Form.PAIRS_BY_CELLS
    with pytest.raises(LayoutError, match="pairs_by_cells"):
        detect(raws[2:], range(2, 6), context_of(TWO))


@pytest.mark.parametrize(
    ("raw", "names", "words"),
    [
        (of_shape(6, 6), None, ("cells_by_pairs", "neighbours", "pairs_by_cells")),
        (of_shape(6), 6, ("cells", "scores")),
        (of_shape(1, 6), 6, ("cells", "scores")),
        (of_shape(3, 6), 6, ("pairs_by_cells", "scores")),
        (csr_raw(np.ones((3, 3)), barcodes=["c0", "c1", "c2"]), 3, ("neighbours", "neighbours_by_pairs")),
        (group_raw({"A": of_shape(6, 6)}), None, ("groups",)),
        (group_raw({k: csr_raw(np.ones((3, 6))).members[k] for k in ("data", "indices", "indptr")}), None, ("scores",)),
    ],
)
def test_what_may_be_two_things_is_refused_with_the_shapes_and_the_way_out(raw, names, words):
    names = None if names is None else tuple(f"p{i}" for i in range(names))
    with pytest.raises(LayoutError) as error:
        taken(raw, pair_names=names, file="atlas.h5")
    message = str(error.value)
    assert "atlas.h5: CCC of cell 'c0' has shape (" in message
    assert "6 cells" in message
    for word in words:
        assert f"ccc_layout={word!r}" in message


@pytest.mark.parametrize(
    ("override", "form"),
    [
        ("pairs_by_cells", Form.PAIRS_BY_CELLS),
        ("cells_by_pairs", Form.CELLS_BY_PAIRS),
        ("neighbours", Form.NEIGHBOURS),
        ("scores", Form.SCORES),
    ],
)
def test_the_override_decides_what_a_square_over_all_cells_is(override, form):
    matrix = np.arange(36.0).reshape(6, 6)
    context = context_of(ONE, override=override)
    layout = detect([Raw(matrix)], [2], context)
    assert (layout.form, layout.name) == (form, override)
    tables = select(decode([Raw(matrix)], [2], layout, context, problems_of()), np.arange(6), pairs=True)
    if override == "scores":
        assert tables.scores.toarray()[2].tolist() == matrix.ravel().tolist()
    elif override == "neighbours":
        assert tables.total.toarray()[2].tolist() == matrix[2].tolist()
    else:
        along = matrix if override == "pairs_by_cells" else matrix.T
        assert [m.toarray()[2].tolist() for m in tables.by_pair.values()] == along.tolist()


def test_the_override_decides_between_cells_and_scores():
    names = tuple("abcdef")
    assert taken(of_shape(6), pair_names=names, override="scores").pairs == names
    assert taken(of_shape(6), pair_names=names, override="cells").form is Form.CELLS


def test_the_override_groups_takes_the_own_row_of_squares_over_all_cells():
    matrix = np.arange(36.0).reshape(6, 6)
    context = context_of(ONE, override="groups")
    raw = group_raw({"A": Raw(matrix)})
    layout = detect([raw], [2], context)
    links = decode([raw], [2], layout, context, problems_of())
    assert select(links, np.arange(6)).total.toarray()[2].tolist() == matrix[2].tolist()


def test_the_override_tells_listed_neighbours_by_pairs_from_a_square():
    raw = csr_raw(np.arange(9.0).reshape(3, 3), barcodes=["c1", "c0", "c2"])
    context = context_of(ONE, pair_names=("x", "y", "z"), override="neighbours_by_pairs")
    layout = detect([raw], [0], context)
    assert layout.name == "neighbours_by_pairs"
    tables = select(decode([raw], [0], layout, context, problems_of()), np.arange(6), pairs=True)
    assert tables.by_pair["y"].toarray()[0].tolist() == [4, 1, 7, 0, 0, 0]


@pytest.mark.parametrize("override", ["cells", "pairs_by_cells", "neighbours", "neighbours_by_pairs", "groups"])
def test_an_override_that_does_not_fit_is_refused(override):
    with pytest.raises(LayoutError, match="ccc_layout"):
        taken(of_shape(2, 3), override=override)


def test_groups_are_refused_where_the_override_says_one_matrix():
    with pytest.raises(LayoutError, match="groups of matrices"):
        taken(group_raw({"A": of_shape(1, 6)}), override="scores")


def test_a_shape_that_fits_nothing_is_refused():
    with pytest.raises(LayoutError, match="cannot be told"):
        taken(group_raw({"A": of_shape(2, 3)}))


def test_a_list_of_cells_that_fits_no_axis_is_refused():
    with pytest.raises(LayoutError, match="2 cells listed with it"):
        taken(csr_raw(np.ones((1, 6)), barcodes=["c0", "c1"]))


def test_an_absurd_number_of_pairs_is_refused():
    entries = {"data": [1.0], "row": [0], "col": [0]}
    with pytest.raises(LayoutError, match="more than the 1,000,000"):
        taken(group_raw(entries, shape=np.array([2**30, 2**30])))


def test_malformed_and_absent_cells_of_the_sample_decide_nothing():
    raws = [None, Unreadable("broken"), of_shape(1, 5), of_shape(2, 2, 2), of_shape(3, 6), of_shape(3, 6)]
    assert detect(raws, range(6), context_of(ONE)).form is Form.PAIRS_BY_CELLS


# --- the pairs -------------------------------------------------------------------------------------------------------


def test_pairs_are_named_by_the_cell_before_the_file():
    raw = csr_raw(np.ones((2, 6)), ccc_pairs=["L1-R1", "L2-R2"])
    assert taken(raw, pair_names=("a", "b")).pairs == ("L1-R1", "L2-R2")


def test_ligands_and_receptors_name_the_scores_of_their_grid():
    raw = csr_raw(np.array([[1.0, 0, 2], [0, 3, 0]]), ligands=["L1", "L2"], receptors=["R1", "R2", "R3"])
    layout = taken(raw)
    assert layout.pairs == ("L1-R1", "L1-R2", "L1-R3", "L2-R1", "L2-R2", "L2-R3")
    scores = select(decode([raw], [1], layout, context_of(ONE), problems_of()), [1]).scores
    assert scores.toarray().tolist() == [[1, 0, 2, 0, 3, 0]]


def test_names_that_are_not_as_many_as_the_pairs_are_not_used_and_said_so():
    with pytest.warns(CellNetWarning, match="2 pairs are named but CCC has 3"):
        layout = taken(of_shape(3, 6), pair_names=("a", "b"))
    assert layout.pairs == ("pair_0", "pair_1", "pair_2")
    assert not layout.named


def test_names_that_repeat_are_numbered_and_said_so():
    with pytest.warns(CellNetWarning, match="repeat"):
        layout = taken(of_shape(4, 6), pair_names=("a", "a", "a_2", "a"))
    assert layout.pairs == ("a", "a_3", "a_2", "a_4") or len(set(layout.pairs)) == 4


def test_the_sum_over_named_pairs_has_no_pair():
    layout = taken(of_shape(1, 6), pair_names=("a", "b"))
    assert (layout.form, layout.pairs) == (Form.CELLS, ())
    assert taken(of_shape(1, 6), pair_names=("a",)).pairs == ("a",)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (of_shape(1, 6), "the signal of the cell to all cells of the file (ccc_layout='cells')"),
        (
            of_shape(3, 6),
            "3 pairs by all cells of the file; the pairs are not named (ccc_layout='pairs_by_cells')",
        ),
        (
            group_raw({"A": of_shape(6)}),
            "a group of matrices, one per ligand-receptor pair, each the signal of the cell to all cells of the file "
            "(ccc_layout='groups')",
        ),
        (
            csr_raw(np.ones((2, 2)), ids=["c0", "c1"]),
            "the signals among the cells listed with it, of which the cell's own row is taken "
            "(ccc_layout='neighbours')",
        ),
    ],
)
def test_a_layout_describes_itself_in_plain_words(raw, text):
    assert taken(raw).describe() == text
