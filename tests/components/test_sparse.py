"""Every encoding of a matrix against the dense matrix it was made from."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from ccc_cells import group_raw, memory_file, raw_of
from cellnet_sd.components.sparse import (
    Coordinates,
    MalformedValueError,
    coordinates_from_raw,
    faults,
    vector_from_raw,
)
from cellnet_sd.sources.base import Raw
from spell_arrays import write_matrix


def matrix_of(raw: Raw) -> sp.coo_array:
    """Return a stored matrix, its entries checked; an axis of unknown length ends at its highest index."""
    entries = coordinates_from_raw(raw)
    for reason in faults([entries]).values():
        raise MalformedValueError(reason)
    highest = (int(index.max(initial=-1)) + 1 for index in (entries.row, entries.col))
    shape = tuple(end if stated is None else stated for stated, end in zip(entries.shape, highest, strict=True))
    return sp.coo_array((entries.data, (entries.row, entries.col)), shape=shape)


ENCODINGS = ("csr", "csc", "10x", "coo", "dense")


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(["f4", "f8", "i1", "u2", "i4", "i8"]))
    return (rng.integers(0, 100, shape) * (rng.random(shape) < 0.5)).astype(dtype)


@given(matrix=matrices(), encoding=st.sampled_from(ENCODINGS))
def test_every_encoding_gives_the_matrix_back(matrix, encoding):
    with memory_file() as file:
        stored = raw_of(write_matrix(file, "m", matrix, encoding, dtype=matrix.dtype.str))
    read = matrix_of(stored)
    assert read.dtype == matrix.dtype
    np.testing.assert_array_equal(read.toarray(), matrix)


@given(matrix=matrices(), turned=st.booleans())
def test_every_vector_is_read_across_or_down(matrix, turned):
    vector = matrix[:1]
    for encoding in ENCODINGS:
        with memory_file() as file:
            stored = raw_of(write_matrix(file, "m", vector.T if turned else vector, encoding, dtype=matrix.dtype.str))
        indices, values = vector_from_raw(stored, vector.shape[1])
        dense = np.zeros(vector.shape[1], matrix.dtype)
        dense[indices] = values
        np.testing.assert_array_equal(dense, vector[0])
        assert (np.diff(indices) > 0).all()


@pytest.mark.parametrize("make", [sp.csr_matrix, sp.csc_matrix])
def test_without_shape_or_format_the_number_of_columns_is_unknown(make):
    made = make(np.array([[0, 3, 0, 5]]))
    stored = group_raw({"data": made.data, "indices": made.indices, "indptr": made.indptr})
    entries = coordinates_from_raw(stored)
    assert entries.shape == ((1, None) if make is sp.csr_matrix else (4, None))
    indices, values = vector_from_raw(stored, 4)
    assert indices.tolist() == [1, 3]
    assert values.tolist() == [3, 5]


def test_a_square_matrix_without_format_is_column_wise_as_10x_writes():
    made = sp.csc_matrix(np.array([[0, 1], [2, 0]]))
    stored = group_raw({"data": made.data, "indices": made.indices, "indptr": made.indptr, "shape": [2, 2]})
    np.testing.assert_array_equal(matrix_of(stored).toarray(), made.toarray())


@pytest.mark.parametrize(
    "attrs",
    [
        {"encoding-type": b"csc_matrix", "shape": np.array([1, 3])},
        {"encoding-type": np.array(["csc_matrix"], dtype=object), "shape": np.array([1, 3])},
        {"h5sparse_format": "csc", "h5sparse_shape": np.array([1, 3])},
        {"format": "csc", "shape": np.array([1, 3])},
    ],
)
def test_the_format_is_told_by_every_spelling(attrs):
    made = sp.csc_matrix(np.array([[0, 7, 8]]))
    stored = group_raw({"data": made.data, "indices": made.indices, "indptr": made.indptr}, **attrs)
    np.testing.assert_array_equal(matrix_of(stored).toarray(), made.toarray())


@pytest.mark.parametrize("dtype", ["f2", ">f4", ">i8"])
def test_dtypes_that_scipy_refuses_are_read_all_the_same(dtype):
    stored = np.array([[0, 1.5, 3]]).astype(dtype)
    read = coordinates_from_raw(Raw(stored))
    assert read.data.dtype == np.dtype(dtype)
    assert read.col.tolist() == [1, 2]
    assert read.data.tolist() == stored[0, 1:].tolist()


def test_explicit_zeros_are_kept():
    stored = group_raw({"data": [0.0, 2.0], "indices": [4, 1]}, shape=np.array([6]))
    matrix = matrix_of(stored)
    assert matrix.nnz == 2
    assert matrix.shape == (1, 6)


def test_a_huge_stated_shape_costs_no_memory():
    stored = group_raw({"data": [1.0], "row": [2**40], "col": [5]}, shape=np.array([2**50, 2**50]))
    assert coordinates_from_raw(stored).shape == (2**50, 2**50)


def _csr(**changes):
    return {"data": [1.0, 2.0], "indices": [0, 2], "indptr": [0, 1, 2], **changes}


SHAPE = {"shape": np.array([2, 3]), "encoding-type": "csr_matrix"}


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (group_raw(_csr(data=[1.0]), **SHAPE), "1 values in data, 2 in indices"),
        (group_raw(_csr(indices=[0, 3]), **SHAPE), "column index 3 is outside the 3 columns"),
        (group_raw(_csr(indices=[0, -1]), **SHAPE), "column index -1 is outside"),
        (group_raw(_csr(indices=[0.0, 2.0]), **SHAPE), "indices holds float64"),
        (group_raw(_csr(indices=np.array([0, 2**63], "u8")), **SHAPE), "beyond any index"),
        (group_raw(_csr(indptr=[0, 2, 1]), **SHAPE), "indptr does not run from 0"),
        (group_raw(_csr(indptr=[0, 3, 2]), **SHAPE), "indptr decreases"),
        (group_raw(_csr(indptr=[]), **SHAPE), "indptr does not run"),
        (group_raw(_csr(indptr=[0, 2]), **SHAPE), "does not fit csr of shape"),
        (group_raw(_csr(data=[1.0, np.nan]), **SHAPE), "NaN or infinite"),
        (group_raw(_csr(data=[1.0, -np.inf]), **SHAPE), "NaN or infinite"),
        (group_raw(_csr(data=["a", "b"]), **SHAPE), "data holds object"),
        (group_raw(_csr(data=[[1.0, 2.0]]), **SHAPE), "data is of 2 axes"),
        (group_raw(_csr(data=group_raw({})), **SHAPE), "data is a group"),
        (group_raw(_csr(indices=[1, 1], indptr=[0, 2, 2]), **SHAPE), r"entry \(0, 1\) is stored twice"),
        (group_raw(_csr(), shape=np.array([2, 3]), **{"encoding-type": "array"}), "sparse format 'array'"),
        (group_raw(_csr(), shape=np.array([2.0, 3.0])), "one or two lengths"),
        (group_raw(_csr(), shape=np.array([-2, 3])), "one or two lengths"),
        (group_raw(_csr(), shape=np.array([5, 6])), "does not fit any format"),
        (
            group_raw({"data": [1.0], "row": [3], "col": [0]}, shape=np.array([2, 3])),
            "row index 3 is outside the 2 rows",
        ),
        (group_raw({"data": [1.0], "row": [-3], "col": [0]}), "row index -3 is negative"),
        (group_raw({"data": [1.0], "indices": [0]}, shape=np.array([2, 3])), "without indptr"),
        (group_raw({"things": [1.0]}), "a group of things is no sparse matrix"),
        (group_raw({}), "a group of nothing"),
        (Raw(np.float32(3).reshape(())), "a dataset of 0 axes"),
        (Raw(np.zeros((2, 2, 2))), "a dataset of 3 axes"),
        (Raw(np.zeros(3, complex)), "the dataset holds complex128"),
    ],
)
def test_what_is_malformed_says_why(stored, reason):
    with pytest.raises(MalformedValueError, match=reason):
        matrix_of(stored)


def test_a_vector_of_another_length_is_malformed():
    with pytest.raises(MalformedValueError, match=r"shape \(1, 3\) where a vector of 4 is expected"):
        vector_from_raw(Raw(np.zeros(3)), 4)


def test_faults_of_many_matrices_are_told_apart():
    def entries(row, col, data, shape):
        return Coordinates(np.array(row, np.int64), np.array(col, np.int64), np.array(data), shape)

    good = entries([0, 0, 1], [0, 2, 1], [1.0, 2.0, 3.0], (2, 3))
    unordered = entries([1, 0, 0], [1, 2, 0], [1.0, 2.0, 3.0], (2, 3))
    twice = entries([1, 0, 1], [1, 2, 1], [1.0, 2.0, 3.0], (2, 3))
    outside = entries([0], [3], [np.nan], (2, 3))
    empty = entries([], [], [], (2, 3))
    found = faults([good, twice, unordered, empty, outside, good])
    assert found == {1: "entry (1, 1) is stored twice", 4: "column index 3 is outside the 3 columns"}
    assert faults([]) == {}
