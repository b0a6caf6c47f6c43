"""Slides: by what they are told apart, in the order of precedence, and their names."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import cellnet_sd as cn
from cellnet_sd.errors import LayoutError
from truth_checks import quiet, table

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)


def write_cells(
    path: Path,
    *,
    attributes: Sequence[Any] | None = None,
    containers: Sequence[str] | None = None,
    wsi: Sequence[int | None] | None = None,
    **options: Any,
) -> Path:
    """Write cells that differ in an attribute document, in the group they lie in, or in their WSI image."""
    n = len(attributes or containers or wsi or ())
    with h5py.File(path, "w", track_order=True, **options) as root:
        root["gene_names"] = ["A"]
        for row in range(n):
            container = root.require_group((containers or [""] * n)[row] or "/")
            cell = container.create_group(f"Cell_{row}")
            cell["expression"] = np.array([row + 0.5], "f4")
            if attributes is not None and attributes[row] is not None:
                cell["attributes.json"] = json.dumps(attributes[row])
            if wsi is not None and (number := wsi[row]) is not None:
                cell["images/WSI_patch"] = IMAGES[number]
    return path


def slides_of(path: Path, **options: Any) -> list[str]:
    """Return the slide of each cell as the table has it, after checking everything that hangs on it."""
    adata = table(path, **options)
    slides: list[str] = adata.obs["slide"].tolist()
    assert adata.obs["region"].tolist() == [f"{slide}_cells" for slide in slides]
    found = cn.info(path, index=False, **options)
    assert found.slides == {slide: slides.count(slide) for slide in dict.fromkeys(slides)}
    with quiet(), cn.open(path, index=False, **options) as f:
        assert f.obs["slide"].tolist() == slides
    for slide in set(slides):
        part = table(path, slides=[slide], **options)
        assert part.obs["source_row"].tolist() == [row for row, name in enumerate(slides) if name == slide]
        assert part.obs["slide"].cat.categories.tolist() == [slide]
    return slides


# --- one signal ------------------------------------------------------------------------------------------------------

KEYS = ["slide", "slide_id", "slide_name", "sample", "sample_id", "section", "section_id", "wsi", "wsi_id", "Slide_ID"]


@pytest.mark.parametrize("key", KEYS)
def test_an_attribute_tells_slides_apart(tmp_path: Path, key: str) -> None:
    path = write_cells(tmp_path / "a.h5", attributes=[{key: name} for name in "xyx"])
    assert slides_of(path) == ["x", "y", "x"]
    assert repr(key) in str(cn.info(path, index=False))


def test_numbers_name_slides_too(tmp_path: Path) -> None:
    assert slides_of(write_cells(tmp_path / "a.h5", attributes=[{"slide": n} for n in (10, 9, 10)])) == [
        "10",
        "9",
        "10",
    ]


@pytest.mark.parametrize("key", ["dataset_title", "study_link", "tissue"])
def test_what_names_studies_does_not_name_slides(tmp_path: Path, key: str) -> None:
    assert slides_of(write_cells(tmp_path / "a.h5", attributes=[{key: "x"}, {key: "y"}])) == ["a", "a"]


def test_the_group_tells_slides_apart(tmp_path: Path) -> None:
    assert slides_of(write_cells(tmp_path / "a.h5", containers=["s1", "s1", "s2"])) == ["s1", "s1", "s2"]


def test_nested_groups_are_named_by_as_much_of_their_path_as_tells_them_apart(tmp_path: Path) -> None:
    nested = ["study/s1", "study/s1", "study/s2"]
    assert slides_of(write_cells(tmp_path / "a.h5", containers=nested)) == ["s1", "s1", "s2"]
    clashing = ["a/s1", "b/s1", "a/s1"]
    assert slides_of(write_cells(tmp_path / "b.h5", containers=sorted(clashing))) == ["a_s1", "a_s1", "b_s1"]


def test_one_group_names_the_one_slide(tmp_path: Path) -> None:
    assert slides_of(write_cells(tmp_path / "a.h5", containers=["NCBI858", "NCBI858"])) == ["NCBI858", "NCBI858"]


def test_images_tell_slides_apart_and_are_numbered_as_they_are_met(tmp_path: Path) -> None:
    assert slides_of(write_cells(tmp_path / "a.h5", wsi=[2, 0, 2, 0, 0])) == ["a_1", "a_2", "a_1", "a_2", "a_2"]


def test_images_that_are_hard_links_are_one_slide(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "a.h5", wsi=[0, 1, None])
    with h5py.File(path, "a") as root:
        root["Cell_2"].create_group("images")["WSI_patch"] = root["Cell_0/images/WSI_patch"]
    assert slides_of(path) == ["a_1", "a_2", "a_1"]


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"chunks": (2, 6, 3)}])
def test_images_that_begin_alike_and_differ_are_never_merged_in_silence(tmp_path: Path, options: Any) -> None:
    path = write_cells(tmp_path / "a.h5", wsi=[None, None])
    big = np.zeros((60, 60, 3), np.uint8)  # more than the 4 KiB that are hashed
    if options.get("chunks"):
        options = {"chunks": (40, 60, 3)}
    with h5py.File(path, "a") as root:
        root.create_dataset("Cell_0/images/WSI_patch", data=big, **options)
        big[-1, -1] = 255
        root.create_dataset("Cell_1/images/WSI_patch", data=big, **options)
    try:
        assert slides_of(path) == ["a_1", "a_2"]
    except LayoutError as error:
        assert "slide_key=" in str(error)  # noqa: PT017  # either outcome keeps them apart


def test_nothing_that_differs_is_one_slide_named_after_the_file(tmp_path: Path) -> None:
    assert slides_of(write_cells(tmp_path / "a.h5", attributes=[{}, None])) == ["a", "a"]
    assert slides_of(write_cells(tmp_path / "b.h5", wsi=[0, 0])) == ["b", "b"]
    assert slides_of(write_cells(tmp_path / "c.h5", attributes=[{"slide": "x"}] * 2)) == ["x", "x"]


# --- several signals -------------------------------------------------------------------------------------------------


def test_the_first_signal_with_more_than_one_value_wins(tmp_path: Path) -> None:
    documents = [{"slide": "one", "sample": sample} for sample in "xxy"]
    path = write_cells(tmp_path / "a.h5", attributes=documents, containers=["g", "h", "h"])
    assert slides_of(path) == ["x", "x", "y"]
    path = write_cells(tmp_path / "b.h5", attributes=[{"slide": "one"}] * 3, containers=["g", "h", "h"])
    assert slides_of(path) == ["g", "h", "h"]


def test_cells_of_which_the_signal_says_nothing_are_on_a_slide_of_their_own(tmp_path: Path) -> None:
    documents = [{"slide": "x"}, {"slide": None}, {"slide": "y"}, {}, None]
    assert slides_of(write_cells(tmp_path / "a.h5", attributes=documents)) == ["x", "a", "y", "a", "a"]


def test_images_split_what_the_signal_merged_and_only_that(tmp_path: Path) -> None:
    documents = [{"slide": slide} for slide in "xyxxy"]
    path = write_cells(tmp_path / "a.h5", attributes=documents, wsi=[0, 1, 2, 0, 1])
    assert slides_of(path) == ["x_1", "y", "x_2", "x_1", "y"]
    with quiet() as caught:
        cn.read_anndata(path, index=False)
    assert any("slide" in str(warning.message) for warning in caught)
    assert "split" in str(cn.info(path, index=False))


def test_an_image_shared_by_two_slides_does_not_merge_them(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "a.h5", attributes=[{"slide": "x"}, {"slide": "y"}], wsi=[0, 0])
    assert slides_of(path) == ["x", "y"]


def test_cells_without_an_image_stay_on_a_slide_that_has_one(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "a.h5", attributes=[{"slide": "x"}, {"slide": "x"}, {"slide": "y"}], wsi=[0, None, 1])
    assert slides_of(path) == ["x", "x", "y"]


# --- slide_key= ------------------------------------------------------------------------------------------------------


@pytest.fixture
def rich(tmp_path: Path) -> Path:
    """Return a file in which everything that may tell slides apart tells them apart differently."""
    documents = [{"slide": a, "block": b, "Sample": "s"} for a, b in ("xp", "xq", "yq", "yq")]
    return write_cells(tmp_path / "a.h5", attributes=documents, containers=["g", "g", "g", "h"], wsi=[0, 1, 1, 2])


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("slide", ["x", "x", "y", "y"]),
        ("block", ["p", "q", "q", "q"]),
        ("Sample", ["s", "s", "s", "s"]),
        ("container", ["g", "g", "g", "h"]),
        ("WSI_patch", ["a_1", "a_2", "a_2", "a_3"]),
    ],
)
@pytest.mark.parametrize("index", [True, False])
def test_slide_key_chooses(rich: Path, key: str, expected: list[str], index: bool) -> None:
    if index:
        cn.index(rich)
    assert slides_of(rich, slide_key=key) == expected
    assert slides_of(rich) == ["x_1", "x_2", "y_1", "y_2"]


@pytest.mark.parametrize("key", ["nothing", "sample", ""])
def test_a_slide_key_that_names_nothing_lists_what_there_is(rich: Path, key: str) -> None:
    with pytest.raises(LayoutError, match="slide_key=") as caught:
        cn.read_anndata(rich, slide_key=key, index=False)
    for name in ("'container'", "'WSI_patch'", "'slide'", "'block'", "'Sample'"):
        assert name in str(caught.value)


# --- names -----------------------------------------------------------------------------------------------------------

AWKWARD = {
    ("a b", "a:b", "a/b"): ["a_b", "a_b_2", "a_b_3"],
    ("Lung", "lung", "LUNG"): ["Lung", "lung_2", "LUNG_3"],
    ("__x", "_index", "..", ".x"): ["_x", "_index_", "a", "x"],
    ("", " ", "_", "é µ"): ["a", "a_2", "a_3", "é_µ"],
    ("x", "x_2", "X"): ["x", "x_2", "X_3"],
}


@pytest.mark.parametrize("names", AWKWARD)
def test_names_become_legal_and_unique_and_the_originals_are_kept(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = write_cells(tmp_path / "a.h5", attributes=[{"slide": name} for name in names])
    slides = slides_of(path)
    assert slides == AWKWARD[names]
    assert len({slide.lower() for slide in slides}) == len(names)
    adata = table(path)
    assert json.loads(adata.uns["cellnet_sd"]["slides"]) == dict(zip(slides, names, strict=True))
    for row, name in enumerate(names):
        assert table(path, slides=[name]).obs["source_row"].tolist() == [row]


@pytest.mark.parametrize("names", AWKWARD)
def test_elements_with_these_names_are_written_and_read_back(tmp_path: Path, names: tuple[str, ...]) -> None:
    import spatialdata as sd

    documents = [{"slide": name, "Position_in_WSI": f"({row}, 1)"} for row, name in enumerate(names)]
    path = write_cells(tmp_path / "a.h5", attributes=documents, wsi=range(len(names)))
    with quiet():
        sdata = cn.read(path, index=False)
        sdata.write(tmp_path / "a.zarr")
    again = sd.read_zarr(tmp_path / "a.zarr")
    slides = sdata["table"].obs["slide"].tolist()
    assert set(again.shapes) == {f"{slide}_cells" for slide in slides}
    assert set(again.coordinate_systems) == set(sdata.coordinate_systems)
    assert all(type(system) is str for system in sdata.coordinate_systems)


# --- user blocks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [512, 8192])
def test_a_file_with_a_user_block_is_read_like_any_other(tmp_path: Path, size: int) -> None:
    documents = [{"slide": slide} for slide in "xxy"]
    path = write_cells(tmp_path / "a.h5", attributes=documents, wsi=[0, 1, 2], userblock_size=size)
    with path.open("r+b") as file:
        file.write(b"#!/bin/sh\n")
    assert slides_of(path) == ["x_1", "x_2", "y"]
    stack = cn.patches(path, "wsi")
    np.testing.assert_array_equal(stack.values, IMAGES[:3])
    cn.index(path)
    assert table(path, index=None).X.toarray()[:, 0].tolist() == [0.5, 1.5, 2.5]
