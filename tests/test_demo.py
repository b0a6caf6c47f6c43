"""The demonstration: it runs, what it says comes from the data, and what it shows can be repeated."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import adjusted_rand_score

from cellnet_sd.demo import DemoResult, run
from cellnet_sd.demo.analysis import DOMAIN, choose_labels
from cellnet_sd.demo.scores import planted_first
from cellnet_sd.demo.telling import Teller

pytestmark = pytest.mark.thorough

FIGURES = ["slides.png", "umap.png", "communication.png", "cells.png", "composition.png"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "new" / "folder"


@pytest.fixture(scope="module")
def demo(folder: Path) -> tuple[DemoResult, list[str]]:
    said: list[str] = []
    return run(None, folder, n_cells=2_000, say=said.append), said


def truth_of(folder: Path, result: DemoResult) -> pd.DataFrame:
    return pd.read_csv(folder / "tissue.truth.csv.gz").set_index("name").loc[result.sdata["table"].obs_names]


def test_scores_are_those_of_the_data(demo: tuple[DemoResult, list[str]], folder: Path) -> None:
    result, _ = demo
    obs, truth = result.sdata["table"].obs, truth_of(folder, result)
    assert result.scores is not None
    assert result.scores.domains == adjusted_rand_score(truth["domain"], obs[DOMAIN])
    assert result.scores.clusters == adjusted_rand_score(truth["cell_type"], obs["leiden"])
    first = result.enriched.stack().sort_values(ascending=False).index[: len(result.planted)]
    assert result.scores.pairs == np.mean([pair in result.planted for pair in first])


def test_the_truth_is_found_and_chance_finds_nothing(demo: tuple[DemoResult, list[str]]) -> None:
    result, _ = demo
    assert result.scores.domains >= 0.8
    assert result.scores.clusters >= 0.8
    assert result.scores.markers == 1
    assert result.scores.pairs == 1
    assert abs(result.shuffled.domains) < 0.05
    assert abs(result.shuffled.clusters) < 0.05
    assert result.shuffled.pairs < 0.7


def test_signal_is_summed_by_type(demo: tuple[DemoResult, list[str]]) -> None:
    result, _ = demo
    adata = result.sdata["table"]
    types = pd.get_dummies(adata.obs["cell_type"]).to_numpy(dtype=float)
    expected = types.T @ (adata.obsp["ccc_connectivities"] @ types)
    np.testing.assert_allclose(result.sent, expected, rtol=1e-4)


def test_scores_are_said(demo: tuple[DemoResult, list[str]]) -> None:
    result, said = demo
    line = next(line for line in said if line.strip().startswith("spatial domains ="))
    assert f"{result.scores.domains:.2f}" in line
    assert line.split()[-1] in {"0.00", f"{result.shuffled.domains:.2f}"}


def test_figures_are_images_and_are_named(demo: tuple[DemoResult, list[str]], folder: Path) -> None:
    result, said = demo
    assert [path.name for path in result.figures] == FIGURES
    for path in result.figures:
        assert path.parent == folder
        assert any(str(path) in line for line in said)
        with Image.open(path) as image:
            assert min(image.size) > 200
            assert len(np.unique(np.asarray(image.convert("L")))) > 50


def test_calls_are_told_as_they_are_made() -> None:
    said: list[str] = []
    tell = Teller(said.append)
    path = Path("somewhere/x.h5")
    tell.name(path, "path")
    with pytest.raises(FileNotFoundError):
        tell.call("cn.read", path, genes=["A", "B"], into="sdata")
    assert said == ["   >>> sdata = cn.read(path, genes=['A', 'B'])"]


def test_the_calls_told_name_what_exists(demo: tuple[DemoResult, list[str]]) -> None:
    _, said = demo
    told = [line.split(">>> ")[1] for line in said if line.startswith("   >>> ")]
    for name in (
        "cn.datasets.synthetic",
        "cn.read",
        "sc.pp.pca",
        "sc.tl.umap",
        "sq.gr.spatial_autocorr",
        "cn.pl.gallery",
    ):
        assert sum(name in call for call in told) == 1
    for call in told:
        compile(call, "<told>", "exec")


def test_planted_pairs_count_among_as_many() -> None:
    class Tissue:
        pairs = pd.DataFrame({"sender": ["a", "b"], "receiver": ["b", "a"]})

    scores = pd.DataFrame([[np.nan, 5.0], [1.0, 3.0]], index=["a", "b"], columns=["a", "b"])
    assert planted_first(scores, Tissue()) == 0.5


# --- files of others -------------------------------------------------------------------------------------------------


def test_labels_that_say_nothing_are_left_for_clusters() -> None:
    from anndata import AnnData

    adata = AnnData(obs=pd.DataFrame({"cell_type": pd.Categorical(["unassigned", "unassigned"])}, index=["a", "b"]))
    assert choose_labels(adata) == ("leiden", "cell_type is 'unassigned' for all cells")
    adata.obs["cell_type"] = pd.Categorical(["T-cell", "B-cell"])
    assert choose_labels(adata) == ("cell_type", "")
    del adata.obs["cell_type"]
    assert choose_labels(adata).key == "leiden"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lung", "her2st"])
def test_real_files_have_no_truth_and_all_figures(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    said: list[str] = []
    result = run(request.getfixturevalue(name), tmp_path, say=said.append)
    assert [path.name for path in result.figures] == FIGURES
    assert result.scores is None
    assert not result.planted
    by_cluster = any("'unassigned' for all cells" in line for line in said)
    assert by_cluster == (name == "her2st")
    assert list(result.sent.index) == list(
        result.sdata["table"].obs["leiden" if by_cluster else "cell_type"].cat.categories
    )
