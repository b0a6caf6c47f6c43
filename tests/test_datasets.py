"""The synthetic tissue, every value read back by plain h5py and compared with its truth."""

import ast
import gzip
import json

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from cellnet_sd.datasets import synthetic
from cellnet_sd.errors import OutputExistsError
from cellnet_sd.layout import ATTRIBUTES

N = 1_000


@pytest.fixture(scope="module")
def tissue(tmp_path_factory):
    return synthetic(tmp_path_factory.mktemp("synthetic") / "demo.h5", n_cells=N, n_genes=120, n_slides=2)


@pytest.fixture(scope="module")
def file(tissue):
    with h5py.File(tissue.path) as file:
        yield file


@pytest.fixture(scope="module")
def groups(tissue, file):
    return [file[f"{cell.slide}/{name}"] for name, cell in tissue.cells.set_index("name").iterrows()]


@pytest.fixture(scope="module")
def expression(file, groups):
    values = np.stack([cell["expression"][()] for cell in groups])
    return pd.DataFrame(values, columns=file["gene_names"].asstr()[()])


@pytest.fixture(scope="module")
def signals(groups):
    """Per pair, a dense (N, N) matrix: rows send."""
    cells = [cell["CCC"] for cell in groups]
    parts = [("data", "indices", "indptr")] * len(cells)
    rows = [
        sparse.csr_matrix(tuple(cell[key][()] for key in keys), shape=cell.attrs["shape"]).toarray()
        for cell, keys in zip(cells, parts, strict=True)
    ]
    return np.stack(rows, axis=1)


def padded(slide, by=150):
    return np.pad(slide, ((by, by), (by, by), (0, 0)), constant_values=255)


def test_rows_are_in_the_order_of_the_file(tissue, file):
    assert list(file) == ["gene_names", "ccc_pairs", "slide_1", "slide_2"]
    stored = [(slide, name) for slide in ("slide_1", "slide_2") for name in file[slide]]
    assert stored == list(zip(tissue.cells["slide"], tissue.cells["name"], strict=True))
    assert tissue.cells["name"].is_unique
    assert file.attrs["mpp"] == 1.0


@pytest.mark.parametrize(("level", "side"), [("cell_patch", 64), ("tissue_patch", 200)])
def test_patches_are_cropped_from_the_slide(tissue, groups, level, side):
    slides = {name: padded(slide) for name, slide in tissue.slides.items()}
    for cell, group in zip(tissue.cells.itertuples(), groups, strict=True):
        top, left = 150 + cell.y - side // 2, 150 + cell.x - side // 2
        window = slides[cell.slide][top : top + side, left : left + side]
        np.testing.assert_array_equal(group[f"images/{level}"][()], window)


def test_the_cell_patch_is_the_centre_of_the_tissue_patch(groups):
    for group in groups[::50]:
        np.testing.assert_array_equal(group["images/tissue_patch"][68:132, 68:132], group["images/cell_patch"][()])


def test_the_slide_image_is_shared_and_holds_block_means(tissue, file, groups):
    for name, slide in tissue.slides.items():
        mine = [group for group, other in zip(groups, tissue.cells["slide"], strict=True) if other == name]
        small = mine[0]["images/WSI_patch"]
        assert all(group["images/WSI_patch"] == small for group in mine)
        block = slide.shape[0] // small.shape[0]
        assert slide.shape[:2] == (block * small.shape[0], block * small.shape[1])
        assert max(small.shape) <= 256
        corner = slide[block : 2 * block, 2 * block : 3 * block, 0].astype(np.float32)
        assert small[1, 2, 0] == np.rint(corner.mean())


def test_attributes_tell_what_is_true(tissue, groups):
    corners = []
    for cell, group in zip(tissue.cells.itertuples(), groups, strict=True):
        attributes = json.loads(group["attributes.json"].asstr()[()])
        assert tuple(attributes) == ATTRIBUTES
        assert attributes["Position_in_WSI"] == f"({cell.x}, {cell.y})"
        assert attributes["cell_type"] == cell.cell_type
        assert attributes["cell_diameter"] == f"{cell.diameter} µm"
        assert cell.domain not in group["attributes.json"].asstr()[()]
        x, y = ast.literal_eval(attributes["Position_in_tissue"])
        corners.append((cell.slide, cell.x - x, cell.y - y))
    assert len(set(corners)) == 2
    assert min(min(x, y) for _, x, y in corners) >= 0


def test_captions_tell_the_type_but_not_the_domain(tissue, groups):
    words = {name: name.lower().split()[0] for name in tissue.cells["cell_type"].unique()}
    captions = [group["caption.txt"].asstr()[()] for group in groups]
    for cell, caption in zip(tissue.cells.itertuples(), captions, strict=True):
        assert words[cell.cell_type] in caption.lower().split(", showing")[0]
        assert "breast" in caption
        assert cell.domain not in caption
    assert len(set(captions)) > 50


def test_neighbours_in_captions_are_the_neighbours(tissue, groups):
    cells = tissue.cells[tissue.cells["slide"] == "slide_1"]
    near = cKDTree(cells[["x", "y"]]).query(cells[["x", "y"]], k=13)[1][:, 1:]
    for row in range(0, len(cells), 25):
        most = cells["cell_type"].iloc[near[row]].value_counts()
        said = groups[row]["caption.txt"].asstr()[()].split("mainly ")[1].lower()
        assert any(name.lower().split()[0] in said for name in most.index[most == most.iloc[0]])


def test_markers_are_high_in_their_type(tissue, expression):
    means = np.expm1(expression).groupby(tissue.cells["cell_type"].to_numpy()).mean()
    for name, genes in tissue.markers.items():
        for gene in genes:
            assert means[gene].idxmax() == name
            assert means.loc[name, gene] > 5 * means.drop(index=name)[gene].max()


def test_signals_obey_their_definition(tissue, file, expression, signals):
    pairs = [f"{pair.ligand}-{pair.receptor}" for pair in tissue.pairs.itertuples()]
    assert file["ccc_pairs"].asstr()[()].tolist() == pairs
    assert signals.shape == (len(pairs), N, N)
    distance = cdist(tissue.cells[["x", "y"]], tissue.cells[["x", "y"]])
    slides, types = tissue.cells["slide"].to_numpy(), tissue.cells["cell_type"].to_numpy()
    for pair, signal in zip(tissue.pairs.itertuples(), signals, strict=True):
        i, j = np.nonzero(signal)
        assert len(i) > 50
        assert (slides[i] == slides[j]).all()
        assert distance[i, j].max() <= 200
        strength = pd.Series(signal[i, j]).groupby([types[i], types[j]]).sum()
        assert strength.idxmax() == (pair.sender, pair.receiver)
        assert 0.3 < strength.max() / strength.sum() < 1  # others signal too: the planted ones have to be found
        ligand, receptor = expression[pair.ligand].to_numpy(), expression[pair.receptor].to_numpy()
        expected = ligand[i] * receptor[j] * np.exp(-distance[i, j] / 60)
        np.testing.assert_allclose(signal[i, j], expected, rtol=1e-4)
        assert np.bincount(i).max() <= 12


def test_the_truth_lies_beside_the_file(tissue):
    stored = pd.read_csv(tissue.path.with_name("demo.truth.csv.gz"))
    pd.testing.assert_frame_equal(stored, tissue.cells, check_dtype=False)


def test_domains_come_back_from_the_neighbours_but_not_from_single_cells(tissue):
    types = pd.get_dummies(tissue.cells["cell_type"]).to_numpy(float)
    around = np.empty_like(types)
    for name in tissue.slides:
        here = (tissue.cells["slide"] == name).to_numpy()
        xy = tissue.cells.loc[here, ["x", "y"]].to_numpy()
        around[here] = types[here][cKDTree(xy).query(xy, k=21)[1]].mean(axis=1)
    found = KMeans(4, n_init=10, random_state=0).fit_predict(around)
    assert adjusted_rand_score(tissue.cells["domain"], found) >= 0.8
    assert adjusted_rand_score(tissue.cells["domain"], tissue.cells["cell_type"]) < 0.6


def contents(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if hasattr(item, "shape") else None)
    return found


def test_equal_arguments_give_equal_files(tmp_path):
    small = {"n_cells": 60, "n_genes": 40, "n_slides": 1}
    made = [synthetic(tmp_path / f"{name}.h5", seed=seed, **small) for name, seed in [("a", 3), ("b", 3), ("c", 4)]]
    stored = [contents(tissue.path) for tissue in made]
    assert len(stored[0]) > 60 * 6
    np.testing.assert_equal(stored[0], stored[1])
    assert any(not np.array_equal(stored[0][key], stored[2][key]) for key in stored[0] if "expression" in key)
    truths = [tissue.path.with_name(f"{tissue.path.stem}.truth.csv.gz") for tissue in made]
    assert gzip.decompress(truths[0].read_bytes()).replace(b",a,", b",b,") == gzip.decompress(truths[1].read_bytes())


def test_one_slide_lies_at_the_root_under_the_stem(tmp_path):
    tissue = synthetic(tmp_path / "lone.h5", n_cells=40, n_genes=30, n_slides=1, mpp=0.5, n_pairs=0, compression=None)
    assert list(tissue.slides) == ["lone"]
    assert set(tissue.cells["slide"]) == {"lone"}
    assert tissue.pairs.empty
    with h5py.File(tissue.path) as file:
        assert list(file)[:2] == ["gene_names", "Cell_000001"]
        assert list(file["Cell_000001"]) == ["expression", "images", "attributes.json", "caption.txt"]
        assert file["Cell_000001/images/tissue_patch"].shape == (400, 400, 3)
        assert file["Cell_000001/images/tissue_patch"].chunks is None


def test_existing_output_is_kept_unless_asked(tmp_path):
    small = {"n_cells": 40, "n_genes": 30, "n_slides": 1}
    (tmp_path / "a.truth.csv.gz").write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match=r"a\.truth\.csv\.gz"):
        synthetic(tmp_path / "a.h5", **small)
    assert [path.name for path in tmp_path.iterdir()] == ["a.truth.csv.gz"]
    synthetic(tmp_path / "a.h5", overwrite=True, **small)
    assert pd.read_csv(tmp_path / "a.truth.csv.gz").shape == (40, 7)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_cells": 30, "n_slides": 2}, "needs 20 cells"),
        ({"n_slides": 0}, "n_slides=0"),
        ({"mpp": 5.0}, "px apart"),
        ({"mpp": 0.0}, "mpp=0.0"),
        ({"noise": -1.0}, "negative"),
        ({"n_genes": 10}, "n_genes=10"),
        ({"n_pairs": 99}, "n_pairs=99"),
        ({"compression": "lzf"}, "lzf"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        synthetic(tmp_path / "a.h5", **{"n_cells": 40, "n_genes": 30, "n_slides": 1, **wrong})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), (None, False)])
def test_a_bar_is_shown_when_asked(tmp_path, capsys, monkeypatch, progress, shown):
    import tqdm

    bars = []
    monkeypatch.setattr(
        tqdm, "tqdm", lambda **options: bars.append(tqdm.std.tqdm(**{**options, "delay": 0})) or bars[0]
    )
    synthetic(tmp_path / "a.h5", n_cells=40, n_genes=30, n_slides=1, progress=progress)
    assert ("40/40" in capsys.readouterr().err) is shown
    assert bars[0].total == 40
