"""Where cells are written: each slide keeps its own scales, and each cell a group of its own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cellnet_sd as cn
from cellnet_sd.errors import LayoutError
from cellnet_sd.grouping import Grouping
from truth_checks import quiet

SCALE = st.sampled_from([None, 0.5, 2.0])


def cells(slides: list[str], groups: Any, **known: Mapping[str, float | None]) -> ad.AnnData:
    """Return cells as they were read: their groups by slide, or of each; and the scales of their slides."""
    obs = pd.DataFrame({"slide": pd.Categorical(slides)}, index=[f"Cell_{row}" for row in range(len(slides))])
    adata = ad.AnnData(np.eye(len(slides), dtype=np.float32), obs=obs)
    if isinstance(groups, dict):
        known = {**known, "containers": groups}
    else:
        adata.obs["container"] = pd.Categorical(groups)
    adata.uns["cellnet_sd"] = {what: json.dumps(value) for what, value in known.items()}
    return adata


def grouping(adata: ad.AnnData, shown: Any = "stuv") -> Grouping:
    return Grouping.of(adata, np.array(adata.obs["slide"].astype(str), dtype=object), shown)


def scales(found: Grouping, key: str) -> list[float | None]:
    """Return what a reader of the groups takes the scale of each cell's slide to be."""
    taken = []
    for group in found.groups:
        parents = [group.rsplit("/", up)[0] for up in range(group.count("/") + 1)]
        stated = [found.attrs[each][key] for each in (*parents, "") if key in found.attrs.get(each, {})]
        taken.append(next(iter(stated), None))
    return taken


@given(
    slides=st.lists(st.sampled_from("stuv"), min_size=1, max_size=8),
    group_of=st.fixed_dictionaries({slide: st.sampled_from(["", "a", "a/b", "c"]) for slide in "stuv"}),
    mpp=st.fixed_dictionaries(dict.fromkeys("stuv", SCALE)),
    wsi_scale=st.fixed_dictionaries(dict.fromkeys("stuv", SCALE)),
)
def test_each_slide_keeps_its_scales_whatever_group_it_was_in(
    slides: list[str], group_of: dict[str, str], mpp: dict[str, float | None], wsi_scale: dict[str, float | None]
) -> None:
    found = grouping(cells(slides, group_of, mpp=mpp, wsi_scale=wsi_scale))
    assert scales(found, "mpp") == [mpp[slide] for slide in slides]
    assert scales(found, "wsi_scale") == [wsi_scale[slide] for slide in slides]
    assert not found.unsaid


def test_slides_that_share_a_group_state_there_what_they_share() -> None:
    mpp = {"s": 0.5, "t": 0.5, "u": 2.0}
    found = grouping(cells(["s", "t", "u"], {"s": "", "t": "", "u": "U"}, mpp=mpp))
    assert found.groups.tolist() == ["", "", "U"]
    assert found.attrs == {"": {"mpp": 0.5}, "U": {"mpp": 2.0}}


def test_slides_that_lie_in_several_groups_are_parted_within_them() -> None:
    found = grouping(cells(["s", "t", "s"], ["a", "a", "b"], mpp={"s": 0.5, "t": 2.0}))
    assert found.groups.tolist() == ["a/s", "a/t", "b/s"]
    assert scales(found, "mpp") == [0.5, 2.0, 0.5]


def test_a_scale_that_no_group_can_state_is_named() -> None:
    adata = cells(["t", "s"], ["a/s", "a"], mpp={"s": 0.5, "t": None})
    adata.obs["slide"] = ["", "s"]  # the cell without a slide would be where the others of the group go
    (said,) = grouping(adata).unsaid
    assert said == "mpp of slide s, 0.5, is not written: slides of other scales lie in its group"


def test_slides_of_one_group_without_images_are_parted(tmp_path: Path) -> None:
    adata = cells(["s", "t", "u"], {"s": "", "t": "", "u": "U"})
    with quiet():
        back = cn.read_anndata(cn.write(adata, tmp_path / "out.h5"))
    assert back.obs["slide"].tolist() == ["s", "t", "u"]


# --- names -----------------------------------------------------------------------------------------------------------


def test_cells_of_one_name_are_an_error_that_names_it_and_the_way_out(tmp_path: Path) -> None:
    adata = cells(["s"] * 4, {"s": ""})
    adata.obs_names = ["a", "b", "b", "b"]
    with pytest.raises(LayoutError, match=r"2 cells .*, such as 'b'.* adata\.obs_names_make_unique\(\)"):
        cn.write(adata, tmp_path / "out.h5")
    assert not list(tmp_path.iterdir())
    adata.obs_names_make_unique()
    with quiet():
        assert cn.read_anndata(cn.write(adata, tmp_path / "out.h5")).obs_names.tolist() == ["a", "b", "b-1", "b-2"]


def test_names_that_end_alike_are_an_error_unless_their_slides_differ(tmp_path: Path) -> None:
    adata = cells(["s", "t"], ["", ""])
    adata.obs_names = ["s/Cell_1", "t/Cell_1"]
    assert grouping(adata).groups.tolist() == ["s", "t"]
    adata.obs["slide"] = "s"
    with pytest.raises(LayoutError, match=r"1 cell .*, such as 't/Cell_1'.* Rename"):
        cn.write(adata, tmp_path / "out.h5")


@pytest.mark.parametrize("name", ["out.zarr", "out.h5ad", "out.ZARR"])
def test_names_of_stores_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"cellnet_sd\.convert .* sdata\.write"):
        cn.write(cells(["s"], {"s": ""}), tmp_path / name)
    assert not list(tmp_path.iterdir())
