"""Draw cell-cell communication: what it is, and the readings and encodings it is stored in."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from spell_arrays import write_matrix

SPARSE = ("csr", "csc", "10x", "coo")
ROW_ENCODINGS = (*SPARSE, "dense", "vector", "data+indices")
PLACES = ("group attribute", "group dataset", "container attribute", "root attribute", "root dataset", "none")
PAIR_KEYS = ("ccc_pairs", "pairs", "pair_names", "lr_pairs", "interactions", "pathways")
NEIGHBOUR_KEYS = ("barcodes", "neighbors", "neighbours", "neighbor_ids", "cell_ids", "cell_names", "names", "ids")
_PAIRS = (
    "VEGFA-KDR",
    "HLA-DRA-CD4",
    "FN1_CD44",
    "WNT",
    "COL1A1-(ITGA1+ITGB1)",
    "TGFB1:TGFBR1",
    "a b",
    "MIF",
    "C3.C3AR1",
)


@dataclass
class CccTruth:
    """What must be read: links per pair (`P, n, n`), or scores per cell (`n, P`), and the names of the pairs."""

    links: NDArray[np.float32] | None = field(default=None, repr=False)
    scores: NDArray[np.float32] | None = field(default=None, repr=False)
    pairs: list[str] | None = None
    present: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    @property
    def total(self) -> NDArray[np.float32]:
        """Return the links of all pairs together."""
        assert self.links is not None
        return self.links.sum(axis=0)


@dataclass
class CccSpelling:
    """How it is stored.

    `reading` is one of `"cell"` (1), `"pair"` (2), `"score"`, `"score column"`, `"score grid"` (3), `"ids"`,
    `"ids pair"` (4) and `"group"` (5); `scope` is `"file"` or `"slide"`: what the cell axis counts.
    """

    reading: str = "cell"
    encoding: str = "csr"
    scope: str = "file"
    dtype: str = "f4"
    pair_place: str = "none"
    pair_key: str = "ccc_pairs"
    names_key: str | None = None
    permutation: NDArray[np.int64] | None = None
    neighbours: list[list[int]] = field(default_factory=list)
    grid: tuple[int, int] = (0, 0)
    transposed: bool = False

    def write(self, cell: h5py.Group, row: int, truth: CccTruth, names: list[str], slides: list[int]) -> None:
        """Store the CCC of the cell at `row`."""
        if not truth.present[row]:
            return
        if self.reading == "group":
            self._write_group(cell, row, truth, names, slides)
            return
        made = write_matrix(cell, "CCC", self._matrix(row, truth, slides), self.encoding, dtype=self.dtype)
        self._name_axis(made, row, names, slides)
        if truth.pairs is not None and self.pair_place.startswith("group"):
            self._store(made, self.pair_key, truth.pairs, as_dataset=self.pair_place == "group dataset")

    def _matrix(self, row: int, truth: CccTruth, slides: list[int]) -> NDArray[Any]:
        if truth.scores is not None:
            shape = {"score": (1, -1), "score column": (-1, 1), "score grid": self.grid}[self.reading]
            return np.reshape(truth.scores[row], shape)
        assert truth.links is not None
        axis = self._axis(row, slides)
        if self.reading == "ids":
            ids = self.neighbours[row]
            square = np.zeros((len(ids), len(ids)), np.float32)
            square[ids.index(row)] = truth.links[0, row, ids]
            return square
        if self.reading == "ids pair":
            return truth.links[:, row, self.neighbours[row]].T
        matrix = truth.links[:, row, axis]
        return matrix.T if self.transposed else matrix

    def _axis(self, row: int, slides: list[int]) -> NDArray[np.int64]:
        """Return the rows that the cell axis counts, in its order."""
        rows = np.arange(len(slides))
        order = rows if self.permutation is None else self.permutation
        return order if self.scope == "file" else order[np.asarray(slides)[order] == slides[row]]

    def _name_axis(self, made: h5py.Group | h5py.Dataset, row: int, names: list[str], slides: list[int]) -> None:
        if self.names_key is None:
            return
        axis = self.neighbours[row] if self.reading.startswith("ids") else self._axis(row, slides)
        self._store(made, self.names_key, [names[i] for i in axis], as_dataset=True)

    def _store(self, made: h5py.Group | h5py.Dataset, key: str, values: list[str], *, as_dataset: bool) -> None:
        array = np.array(values, dtype=h5py.string_dtype())
        if as_dataset and isinstance(made, h5py.Group):
            made.create_dataset(key, data=array)
        else:
            made.attrs[key] = array

    def _write_group(self, cell: h5py.Group, row: int, truth: CccTruth, names: list[str], slides: list[int]) -> None:
        assert truth.pairs is not None
        assert truth.links is not None
        group = cell.create_group("CCC")
        axis = self._axis(row, slides)
        for pair, links in zip(truth.pairs, truth.links, strict=True):
            write_matrix(group, pair, links[row, axis][None], self.encoding, dtype=self.dtype)
        self._name_axis(group, row, names, slides)

    def write_shared(self, root: h5py.File, containers: list[h5py.Group], truth: CccTruth) -> None:
        """Store the pair names of the file or of its containers."""
        if truth.pairs is None or not self.pair_place.startswith(("root", "container")):
            return
        for group in [root] if self.pair_place.startswith("root") else containers:
            self._store(group, self.pair_key, truth.pairs, as_dataset=self.pair_place.endswith("dataset"))


def _sparse(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    values = rng.integers(1, 64, shape) * (rng.random(shape) < 0.4)
    return (values / 8).astype(np.float32)


@st.composite
def communication(draw: st.DrawFn, slides: list[int], *, unique_names: bool) -> tuple[CccTruth, CccSpelling] | None:
    """Draw the CCC of a file with the slide of each cell in `slides`; None where no reading is without doubt."""
    n, sizes = len(slides), set(Counter(slides).values())
    if n < 2 or 1 in sizes:
        return None
    taken = {1, n, *sizes}
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    readings = ["cell", "pair", "score", "score column", "score grid", "group"]
    free_k = [k for k in range(2, n) if k not in taken]
    if unique_names and free_k:
        readings += ["ids", "ids pair"]
    spelling = CccSpelling(draw(st.sampled_from(readings)), dtype=draw(st.sampled_from(["f4", "f8"])))
    n_pairs = draw(st.sampled_from([p for p in (2, 3, 4, 5, 13, 14) if p not in taken]))
    present = np.array([draw(st.integers(0, 5)) > 0 for _ in slides])
    if spelling.reading.startswith("score"):
        truth = _draw_scores(draw, rng, spelling, n_pairs, present, taken)
    elif spelling.reading.startswith("ids"):
        truth = _draw_ids(draw, rng, spelling, n_pairs, present, free_k)
    else:
        truth = _draw_links(draw, rng, spelling, n_pairs, present, slides, unique_names=unique_names)
    if truth.pairs is not None and spelling.reading != "group":
        spelling.pair_key = draw(st.sampled_from(PAIR_KEYS))
        spelling.pair_place = draw(st.sampled_from(PLACES))
        if spelling.pair_place == "none":
            truth.pairs = None
    return truth, spelling


def _draw_pairs(draw: st.DrawFn, n_pairs: int, *, as_keys: bool) -> list[str]:
    pool = [pair for pair in _PAIRS if not (as_keys and "/" in pair)] + [f"L{i}-R{i}" for i in range(20)]
    return draw(st.lists(st.sampled_from(pool), min_size=n_pairs, max_size=n_pairs, unique=True))


def _draw_scores(
    draw: st.DrawFn,
    rng: np.random.Generator,
    spelling: CccSpelling,
    n_pairs: int,
    present: NDArray[np.bool_],
    taken: set[int],
) -> CccTruth:
    pairs: list[str] | None = None
    if spelling.reading == "score":
        spelling.encoding = "vector"
        pairs = _draw_pairs(draw, n_pairs, as_keys=False)
    elif spelling.reading == "score column":
        spelling.encoding = draw(st.sampled_from([*SPARSE, "dense"]))
        pairs = _draw_pairs(draw, n_pairs, as_keys=False)
    else:
        free = [p for p in (2, 3, 4, 5, 13) if p not in taken]
        rows = draw(st.sampled_from(free))
        spelling.grid = (rows, draw(st.sampled_from([p for p in free if p != rows])))
        n_pairs = spelling.grid[0] * spelling.grid[1]
        spelling.encoding = draw(st.sampled_from([*SPARSE, "dense"]))
    return CccTruth(scores=_sparse(rng, (len(present), n_pairs)) * present[:, None], pairs=pairs, present=present)


def _draw_ids(
    draw: st.DrawFn,
    rng: np.random.Generator,
    spelling: CccSpelling,
    n_pairs: int,
    present: NDArray[np.bool_],
    free_k: list[int],
) -> CccTruth:
    n = len(present)
    k = draw(st.sampled_from(free_k))
    with_pairs = spelling.reading == "ids pair"
    n_pairs = (n_pairs if n_pairs != k else n_pairs + 20) if with_pairs else 1
    links = np.zeros((n_pairs, n, n), np.float32)
    for row in range(n):
        others = rng.permutation([i for i in range(n) if i != row])
        chosen = [*others[: k - 1].tolist(), row] if not with_pairs else others[:k].tolist()
        spelling.neighbours.append(rng.permutation(chosen).tolist())
        if present[row]:
            links[:, row, chosen] = _sparse(rng, (n_pairs, k))
    spelling.names_key = draw(st.sampled_from(NEIGHBOUR_KEYS))
    encodings = ["csr", "csc", "coo", "dense"] + (["10x"] if with_pairs else [])
    spelling.encoding = draw(st.sampled_from(encodings))
    pairs = _draw_pairs(draw, n_pairs, as_keys=False) if with_pairs and n_pairs < 20 else None
    return CccTruth(links=links, pairs=pairs, present=present)


def _draw_links(
    draw: st.DrawFn,
    rng: np.random.Generator,
    spelling: CccSpelling,
    n_pairs: int,
    present: NDArray[np.bool_],
    slides: list[int],
    *,
    unique_names: bool,
) -> CccTruth:
    n = len(slides)
    spelling.scope = draw(st.sampled_from(["file", "slide"]))
    n_pairs = 1 if spelling.reading == "cell" else n_pairs
    links = _sparse(rng, (n_pairs, n, n)) * present[None, :, None]
    if spelling.scope == "slide":
        links = links * (np.asarray(slides)[:, None] == np.asarray(slides))
    per_row = spelling.reading in ("cell", "group")
    spelling.encoding = draw(st.sampled_from(ROW_ENCODINGS if per_row else [*SPARSE, "dense"]))
    if unique_names and draw(st.booleans()):
        spelling.names_key = draw(st.sampled_from(NEIGHBOUR_KEYS))
        spelling.permutation = rng.permutation(n)
    spelling.transposed = not per_row and draw(st.booleans())
    pairs = None if spelling.reading == "cell" else _draw_pairs(draw, n_pairs, as_keys=spelling.reading == "group")
    return CccTruth(links=links.astype(np.float32), pairs=pairs, present=present)
