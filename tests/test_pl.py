"""Figures: what is on them is what is in the file."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

import cellnet_sd as cn
from cellnet_sd.datasets import SyntheticTissue
from cellnet_sd.drawing.cards import cell_box
from cellnet_sd.drawing.style import N_COLOURS, UNKNOWN_COLOUR, palette, wrapped
from cellnet_sd.drawing.subject import diverse_rows
from cellnet_sd.errors import SelectionError

LEVELS = ("cell", "tissue", "wsi")


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> SyntheticTissue:
    path = tmp_path_factory.mktemp("pl") / "tissue.h5"
    return cn.datasets.synthetic(path, n_cells=120, n_genes=80, progress=False)


def panels(figure: Figure, n_images: int = 3, *, genes: bool = True) -> list[list[Any]]:
    """Return the axes of each card."""
    per_card = n_images + genes
    assert len(figure.axes) % per_card == 0
    return [figure.axes[start : start + per_card] for start in range(0, len(figure.axes), per_card)]


def shown(ax: Any) -> np.ndarray:
    return np.asarray(ax.images[0].get_array())


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


# --- gallery: contents -----------------------------------------------------------------------------------------------


def test_images_are_the_patches(tissue: SyntheticTissue) -> None:
    cells = [3, 70, 119]
    figure = cn.pl.gallery(tissue.path, cells=cells)
    for row, axes in zip(cells, panels(figure), strict=True):
        for level, ax in zip(LEVELS, axes, strict=False):
            with h5py.File(tissue.path) as root:
                stored = root[f"{tissue.cells['slide'][row]}/{tissue.cells['name'][row]}"]
                name = "WSI_patch" if level == "wsi" else f"{level}_patch"
                np.testing.assert_array_equal(shown(ax), stored[f"images/{name}"][()])


def test_every_kind_of_object_gives_the_same_cards(tissue: SyntheticTissue) -> None:
    cells = tissue.cells["name"][[5, 80]].tolist()
    sdata = cn.read(tissue.path)
    with cn.open(tissue.path) as handle:
        objects = [tissue.path, str(tissue.path), handle, sdata, sdata["table"], cn.read_anndata(tissue.path)]
        figures = [cn.pl.gallery(obj, cells=cells) for obj in objects]
    for figure in figures[1:]:
        assert words(figure) == words(figures[0])
        for ax, other in zip(figure.axes, figures[0].axes, strict=True):
            assert [bar.get_width() for bar in ax.patches if isinstance(bar, Rectangle)] == [
                bar.get_width() for bar in other.patches if isinstance(bar, Rectangle)
            ]
            assert [tuple(line.get_xydata().ravel()) for line in ax.lines] == [
                tuple(line.get_xydata().ravel()) for line in other.lines
            ]


def test_words_are_those_of_the_cell(tissue: SyntheticTissue) -> None:
    truth = tissue.cells.iloc[40]
    adata = cn.read_anndata(tissue.path)
    text = words(cn.pl.gallery(tissue.path, cells=[truth["name"]]))
    assert {truth["cell_type"], truth["name"], truth["slide"]} <= set(text)
    caption = adata.obs["caption"].iloc[40]
    assert caption in {" ".join(one.split()) for one in text}
    facts = next(one for one in text if "µm" in one and "·" in one)
    assert f"{truth['diameter']:g} µm" in facts
    assert "Breast" in facts


def test_bars_are_the_most_expressed_genes(tissue: SyntheticTissue) -> None:
    adata = cn.read_anndata(tissue.path)
    profile = pd.Series(adata.X[[7]].toarray().ravel(), index=adata.var_names)
    expected = profile.sort_values(ascending=False, kind="stable").head(4)
    (axes,) = panels(cn.pl.gallery(adata, cells=[7], n_genes=4))
    bars = axes[-1]
    assert [label.get_text() for label in bars.get_yticklabels()] == expected.index.tolist()
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], expected)


def test_genes_are_shown_as_asked(tissue: SyntheticTissue) -> None:
    adata = cn.read_anndata(tissue.path)
    genes = ["CD3E", "EPCAM", "COL1A1"]
    figure = cn.pl.gallery(adata, cells=[7, 100], genes=genes)
    for row, axes in zip([7, 100], panels(figure), strict=True):
        assert [label.get_text() for label in axes[-1].get_yticklabels()] == genes
        np.testing.assert_allclose([bar.get_width() for bar in axes[-1].patches], adata[[row], genes].X.toarray()[0])


def test_cells_come_in_the_order_asked_even_from_a_backed_table(tissue: SyntheticTissue) -> None:
    adata = cn.read_anndata(tissue.path, backed=True)
    figure = cn.pl.gallery(adata, cells=[100, 7], genes=["EPCAM"])
    memory = cn.read_anndata(tissue.path)
    for row, axes in zip([100, 7], panels(figure), strict=True):
        assert axes[-1].patches[0].get_width() == memory[row, "EPCAM"].X.toarray()[0, 0]


def test_the_ring_is_the_place_on_the_slide(tissue: SyntheticTissue) -> None:
    (axes,) = panels(cn.pl.gallery(tissue.path, cells=[30]))
    x, y = axes[2].lines[0].get_xydata()[0]
    truth = tissue.cells.iloc[30]
    scale = tissue.slides[truth["slide"]].shape[1] / shown(axes[2]).shape[1]
    assert abs((x + 0.5) * scale - (truth["x"] + 0.5)) <= scale / 2
    assert abs((y + 0.5) * scale - (truth["y"] + 0.5)) <= scale / 2


def test_the_circle_is_the_cell_and_the_box_its_patch(tissue: SyntheticTissue) -> None:
    (axes,) = panels(cn.pl.gallery(tissue.path, cells=[30]))
    window = shown(axes[1])
    (circle,) = [patch for patch in axes[1].patches if isinstance(patch, Circle)]
    (box,) = [patch for patch in axes[1].patches if isinstance(patch, Rectangle)]
    np.testing.assert_allclose(circle.radius, tissue.cells["diameter"][30] / 2 * window.shape[1] / 200)
    left, top = round(box.get_x() + 0.5), round(box.get_y() + 0.5)
    inside = window[top : top + round(box.get_height()), left : left + round(box.get_width())]
    np.testing.assert_array_equal(inside, shown(axes[0]))


def test_a_cell_patch_that_is_not_the_centre_gets_no_box() -> None:
    rng = np.random.default_rng(0)
    tissue = rng.integers(0, 255, (50, 50, 3), dtype=np.uint8)
    assert cell_box(tissue[15:35, 15:35], tissue) == (15, 15, 20, 20)
    assert cell_box(tissue[14:34, 15:35], tissue) is None
    assert cell_box(np.zeros((60, 60, 3), np.uint8), tissue) is None
    assert cell_box(None, tissue) is None


def test_a_level_that_is_not_stored_is_said_to_be_missing(tissue: SyntheticTissue, tmp_path: Path) -> None:
    path = tmp_path / "poor.h5"
    path.write_bytes(tissue.path.read_bytes())
    with h5py.File(path, "r+") as root:
        for slide in ("slide_1", "slide_2"):
            for cell in root[slide].values():
                del cell["images/tissue_patch"]
                del cell["caption.txt"]
    (axes,) = panels(cn.pl.gallery(path, cells=[3]))
    assert not axes[1].images
    assert [text.get_text() for text in axes[1].texts] == ["not stored"]
    assert axes[0].images
    assert axes[2].images


def test_a_table_without_expression_has_no_bars(tissue: SyntheticTissue) -> None:
    adata = cn.read_anndata(tissue.path, expression=False)
    assert len(cn.pl.gallery(adata, cells=[3]).axes) == 3


# --- gallery: choice and layout --------------------------------------------------------------------------------------


def test_by_default_all_cell_types_are_among_the_cells(tissue: SyntheticTissue) -> None:
    text = words(cn.pl.gallery(tissue.path))
    assert set(tissue.cells["cell_type"]) <= set(text)
    assert len(panels(cn.pl.gallery(tissue.path))) == 6


def test_cells_are_chosen_as_elsewhere(tissue: SyntheticTissue) -> None:
    adata = cn.read_anndata(tissue.path)
    mask = np.arange(adata.n_obs) < 2
    chosen = [adata.obs_names[:2].tolist(), [0, 1], slice(2), mask]
    texts = [words(cn.pl.gallery(adata, cells=cells)) for cells in chosen]
    assert all(text == texts[0] for text in texts)
    with pytest.raises(SelectionError, match="a mask of 5, there are 120 cells"):
        cn.pl.gallery(adata, cells=mask[:5])


def test_the_seed_decides(tissue: SyntheticTissue) -> None:
    adata = cn.read_anndata(tissue.path)
    same, again, other = (words(cn.pl.gallery(adata, n=3, seed=seed)) for seed in (1, 1, 2))
    assert same == again
    assert same != other


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=30), st.integers(1, 8), st.integers(0, 3))
def test_chosen_rows_are_as_diverse_as_they_can_be(labels: list[str], n: int, seed: int) -> None:
    rows = diverse_rows(pd.Series(labels), len(labels), n, seed)
    assert len(set(rows.tolist())) == len(rows) == min(n, len(labels))
    chosen = [labels[row] for row in rows]
    assert len(set(chosen)) == min(n, len(set(labels)))
    assert chosen == sorted(chosen)


def test_unknown_labels_come_last() -> None:
    rows = diverse_rows(pd.Series(["unassigned"] * 20 + ["T-cell"] * 3), 23, 3, 0)
    assert sorted(rows.tolist()) == [20, 21, 22]


@pytest.mark.parametrize(
    ("options", "n_axes"), [({"levels": ["cell"]}, 2), ({"levels": "cell"}, 2), ({"n_genes": 0}, 3), ({}, 4)]
)
def test_levels_and_genes_decide_on_the_panels(tissue: SyntheticTissue, options: dict[str, Any], n_axes: int) -> None:
    assert len(cn.pl.gallery(tissue.path, cells=[1], **options).axes) == n_axes


def test_a_mask_chooses_cells(tissue: SyntheticTissue) -> None:
    mask = np.zeros(120, dtype=bool)
    mask[[4, 9]] = True
    assert set(tissue.cells["name"][[4, 9]]) <= set(words(cn.pl.gallery(tissue.path, cells=mask)))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"cells": ["nobody"]}, SelectionError),
        ({"cells": [120]}, SelectionError),
        ({"genes": ["NOGENE"]}, SelectionError),
        ({"levels": ["tisue"]}, ValueError),
        ({"label": "celltype"}, SelectionError),
        ({"cells": []}, ValueError),
    ],
)
def test_what_is_not_there_is_refused(tissue: SyntheticTissue, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        cn.pl.gallery(tissue.path, **options)


def test_what_is_no_object_of_cells_is_refused() -> None:
    with pytest.raises(TypeError, match="int is none of"):
        cn.pl.gallery(3)


@pytest.mark.parametrize("long", [False, True])
def test_texts_neither_overlap_nor_leave_the_page(tissue: SyntheticTissue, *, long: bool) -> None:
    adata = cn.read_anndata(tissue.path)
    if long:
        adata.obs["caption"] = adata.obs["caption"] * 6
        adata.obs["cell_type"] = adata.obs["cell_type"].astype(str) + " of a rather long-winded subtype" * 3
    figure = cn.pl.gallery(adata, n=4)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
    boxes += [ax.get_tightbbox() for ax in figure.axes]
    for place, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        for other in boxes[place + 1 :]:
            across = min(box.x1, other.x1) - max(box.x0, other.x0)
            down = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(across, down) <= 1


def test_pyplot_keeps_no_figure_and_no_style(tissue: SyntheticTissue) -> None:
    before = dict(plt.rcParams)
    cn.pl.gallery(tissue.path, cells=[1])
    cn.pl.composition(tissue.path)
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == before


# --- composition -----------------------------------------------------------------------------------------------------


def test_bars_are_cells_by_slide_and_type(tissue: SyntheticTissue) -> None:
    figure = cn.pl.composition(tissue.path)
    main = figure.axes[0]
    expected = pd.crosstab(tissue.cells["slide"], tissue.cells["cell_type"])
    assert [label.get_text() for label in main.get_yticklabels()] == expected.index.tolist()
    for container in main.containers:
        drawn = [bar.get_width() for bar in container]
        assert drawn == expected[container.get_label()].tolist()
    assert {text.get_text() for text in main.get_legend().get_texts()} == set(expected.columns)


def test_labels_with_one_value_are_a_line_and_the_others_panels(tissue: SyntheticTissue) -> None:
    figure = cn.pl.composition(tissue.path)
    assert [ax.get_title(loc="left") for ax in figure.axes[1:]] == ["cell disease state"]
    (line,) = words(figure)
    assert "tissue: Breast" in line
    assert "cell disease state" not in line


def test_columns_can_be_chosen(tissue: SyntheticTissue) -> None:
    adata = cn.read_anndata(tissue.path)
    figure = cn.pl.composition(adata, by="cell_type", label="slide", others=["cell_disease_state", "tissue"])
    assert len(figure.axes) == 2
    counts = adata.obs["cell_disease_state"].value_counts()
    assert [bar.get_width() for bar in figure.axes[1].patches] == counts.tolist()


def test_many_values_are_taken_together(tissue: SyntheticTissue) -> None:
    adata = cn.read_anndata(tissue.path)
    adata.obs["cell_type"] = [f"type {row % 40:02}" for row in range(120)]
    adata.obs["slide"] = [f"slide {row % 30:02}" for row in range(120)]
    main = cn.pl.composition(adata).axes[0]
    assert len(main.containers) == N_COLOURS
    assert main.containers[-1].get_label() == f"{40 - N_COLOURS + 1} others"
    assert sum(bar.get_width() for bar in main.patches) == 120
    names = [label.get_text() for label in main.get_yticklabels()]
    assert names[-1] == "11 others"
    assert len(names) == 20


def test_missing_labels_are_counted(tissue: SyntheticTissue) -> None:
    adata = cn.read_anndata(tissue.path)
    adata.obs["cell_type"] = adata.obs["cell_type"].where(np.arange(120) > 9)
    main = cn.pl.composition(adata).axes[0]
    missing = next(container for container in main.containers if container.get_label() == "missing")
    assert sum(bar.get_width() for bar in missing) == 10


def test_a_column_that_is_not_there_is_refused(tissue: SyntheticTissue) -> None:
    with pytest.raises(SelectionError, match="'patient'"):
        cn.pl.composition(tissue.path, by="patient")


# --- style -----------------------------------------------------------------------------------------------------------


def test_colours_differ_and_unknown_is_grey() -> None:
    colours = palette([*(f"type {n}" for n in range(N_COLOURS)), "unassigned"])
    assert colours.pop("unassigned") == UNKNOWN_COLOUR
    assert len(set(colours.values())) == N_COLOURS


@given(st.text(max_size=400), st.floats(0.5, 9), st.integers(1, 5))
def test_wrapped_text_keeps_to_its_lines(text: str, width: float, lines: int) -> None:
    assert len(wrapped(text, width, 8, lines).split("\n")) <= lines


# --- real files ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::cellnet_sd.errors.CellNetWarning")
def test_the_lung_cells_as_cards(lung: Path) -> None:
    figure = cn.pl.gallery(lung)
    for axes in panels(figure):
        assert len(axes[1].patches) == 2
        assert len(axes[2].lines) == 2
