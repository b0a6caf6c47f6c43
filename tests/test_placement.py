"""Anchor, micrometres per pixel and WSI scale: on slides made here, where the truth is known, and on the real files."""

import ast
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cellnet_sd.placement import anchor_agrees, neighbour_pairs, register_wsi, window_mpp


def slide_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a slide (H, W, 3), uint8, with structure on many scales."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width))
    for cell in (8, 30, 120, 500):
        coarse = Image.fromarray(rng.random((height // cell + 3, width // cell + 3)).astype(np.float32))
        fine = coarse.resize(((width // cell + 3) * cell, (height // cell + 3) * cell), Image.Resampling.BICUBIC)
        total += np.asarray(fine)[:height, :width]
    total = (total - total.min()) / np.ptp(total)
    return (np.stack([total, 0.7 * total, 0.9 * total], axis=-1) * 250).astype(np.uint8)


def cut(slide: np.ndarray, positions: np.ndarray, side: int) -> np.ndarray:
    """Return the windows (n, side, side, c) by the anchor rule, white past the slide's edge."""
    padded = np.pad(slide, ((side, side), (side, side), (0, 0)), constant_values=255)
    starts = positions - side // 2 + side
    return np.stack([padded[y : y + side, x : x + side] for x, y in starts])


def shrink(slide: np.ndarray, scale: float) -> np.ndarray:
    """Return the slide reduced by `scale`: each pixel the mean of the slide pixels it covers."""
    height, width = (int(side / scale) for side in slide.shape[:2])
    box = (0, 0, width * scale, height * scale)
    return np.asarray(Image.fromarray(slide).resize((width, height), Image.Resampling.BOX, box=box))


def scattered(slide: np.ndarray, n: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.integers(0, slide.shape[1], n), rng.integers(0, slide.shape[0], n)])


SLIDE = slide_image(900, 1200)
SPOTS = scattered(SLIDE, 60)


# --- the anchor ------------------------------------------------------------------------------------------------------


@given(h=st.integers(1, 40), w=st.integers(1, 40), side=st.sampled_from([40, 41]))
def test_the_anchor_rule_holds_for_windows_of_one_slide(h, w, side):
    tissue = cut(SLIDE, SPOTS[:5], side)
    top, left = side // 2 - h // 2, side // 2 - w // 2
    cells = tissue[:, top : top + h, left : left + w].copy()
    assert anchor_agrees(cells, tissue).all()
    cells[2, h // 2, w // 2, 1] ^= 1
    assert anchor_agrees(cells, tissue).tolist() == [True, True, False, True, True]


def test_windows_cut_by_the_same_rule_share_their_anchor():
    assert anchor_agrees(cut(SLIDE, SPOTS, 24), cut(SLIDE, SPOTS, 61)).all()
    assert not anchor_agrees(cut(SLIDE, SPOTS + 1, 24), cut(SLIDE, SPOTS, 61)).any()


@pytest.mark.parametrize("cells", [np.zeros((2, 9, 8, 3), "u1"), np.zeros((2, 4, 4, 1), "u1"), np.zeros((2, 4, 4, 3))])
def test_patches_that_cannot_be_the_centre_do_not_agree(cells):
    assert anchor_agrees(cells, np.zeros((2, 8, 8, 3), np.uint8)).tolist() == [False, False]


# --- micrometres per pixel -------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=30),
    st.integers(1, 40),
    st.integers(1, 12),
)
def test_neighbour_pairs_are_close_distinct_and_few(spots, window, most):
    positions = np.array(spots, dtype=float).reshape(-1, 2)
    pairs = neighbour_pairs(positions, window, most)
    assert len(pairs) <= most
    assert len({tuple(pair) for pair in pairs.tolist()}) == len(pairs)
    apart = np.abs(positions[pairs[:, 0]] - positions[pairs[:, 1]]).max(axis=1)
    assert ((apart > 0) & (apart < window)).all()
    assert (pairs[:, 0] < pairs[:, 1]).all()
    gaps = np.abs(positions[:, None] - positions[None]).max(axis=2)
    if len(spots) <= 4 * most and ((gaps > 0) & (gaps < window)).any():
        assert len(pairs)


def test_positions_that_are_unknown_are_not_paired():
    positions = np.array([[0, 0], [np.nan, 1], [1, 1], [np.nan, np.nan]], dtype=float)
    assert neighbour_pairs(positions, 10, 5).tolist() == [[0, 2]]
    assert neighbour_pairs(positions[1:2], 10, 5).shape == (0, 2)


@pytest.mark.parametrize("side", [100, 101])
@pytest.mark.parametrize("is_float", [False, True])
def test_overlapping_windows_give_micrometres_per_pixel(side, is_float):
    windows = cut(SLIDE, SPOTS, side)
    found = window_mpp(windows / 255 if is_float else windows, SPOTS.astype(float))
    assert found.mpp == 200 / side
    assert found.differing == 0
    assert found.pixels > 1000
    assert f"200 µm are {side} px" in found.words


def test_white_past_the_edge_does_not_break_agreement():
    corner = np.array([[0, 0], [12, 5], [30, 9], [1199, 899], [1180, 890]])
    windows = cut(SLIDE, corner, 100)
    assert (windows[0] == 255).all(axis=-1).sum() > 7000
    # One window was cut at the slide's edge and padded elsewhere: its white is no pixel of the slide either.
    windows[1, :60] = 255
    assert window_mpp(windows, corner.astype(float)).mpp == 2.0


def test_resized_windows_do_not_give_micrometres_per_pixel():
    windows = np.stack([np.asarray(Image.fromarray(w).resize((90, 90))) for w in cut(SLIDE, SPOTS, 100)])
    found = window_mpp(windows, SPOTS.astype(float))
    assert found.mpp is None
    assert found.differing > 1000
    assert f"{found.differing:,} differ" in found.words


def test_one_wrong_pixel_is_seen():
    spots = np.array([[300, 300], [310, 300]])
    windows = cut(SLIDE, spots, 100)
    windows[0, 50, 50, 0] ^= 1
    found = window_mpp(windows, spots.astype(float))
    assert (found.mpp, found.pairs, found.pixels, found.differing) == (None, 1, 9000, 1)


@pytest.mark.parametrize(
    ("windows", "positions", "words"),
    [
        (cut(SLIDE, SPOTS[:1], 100), SPOTS[:1], "no tissue patches overlap"),
        (cut(SLIDE, np.array([[200, 200], [900, 200]]), 100), np.array([[200, 200], [900, 200]]), "no tissue patches"),
        (np.full((60, 100, 100, 3), 90, np.uint8), SPOTS, "too plain"),
        (np.full((60, 100, 100, 3), 255, np.uint8), SPOTS, "no tissue patches overlap"),
        (np.full((60, 100, 80, 3), 90, np.uint8), SPOTS, "100 by 80 px are no 200 µm square"),
    ],
    ids=["one cell", "far apart", "plain", "white", "no square"],
)
def test_where_nothing_is_shown_there_is_no_scale(windows, positions, words):
    found = window_mpp(windows, positions.astype(float))
    assert found.mpp is None
    assert words in found.words


# --- the WSI scale ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "side"), [(7.5, 64), (12, 65), (16, 94), (40, 64)])
def test_the_scale_is_found(scale, side):
    found = register_wsi(shrink(SLIDE, scale), cut(SLIDE, SPOTS, side), SPOTS.astype(float))
    assert found.scale == pytest.approx(scale, rel=2e-3)
    assert found.snapped == (scale == int(scale))
    assert not found.snapped or found.scale == scale
    assert found.r > 0.9
    assert f"r = {found.r:.2f}" in found.words


@pytest.mark.parametrize("form", ["grey", "rgba", "float"])
def test_luminance_of_every_pixel_format_serves(form):
    def formed(image: np.ndarray) -> np.ndarray:
        alpha = np.full((*image.shape[:-1], 1), 255, np.uint8)
        return {"grey": image[..., :1], "rgba": np.concatenate([image, alpha], axis=-1), "float": image / 255}[form]

    found = register_wsi(formed(shrink(SLIDE, 16)), formed(cut(SLIDE, SPOTS, 94)), SPOTS.astype(float))
    assert found.scale == 16


def test_a_large_wsi_is_registered_on_a_shrunk_copy():
    slide = slide_image(2400, 3000)
    spots = scattered(slide, 80)
    found = register_wsi(shrink(slide, 2.5), cut(slide, spots, 64), spots.astype(float))
    assert found.scale == pytest.approx(2.5, rel=1e-3)
    assert not found.snapped


def test_unknown_positions_are_left_out():
    positions = SPOTS.astype(float)
    positions[::7] = np.nan
    assert register_wsi(shrink(SLIDE, 16), cut(SLIDE, SPOTS, 94), positions).scale == 16


@pytest.mark.parametrize("seed", range(2))
def test_an_unrelated_image_has_no_scale(seed):
    windows, positions = cut(SLIDE, SPOTS, 94), SPOTS.astype(float)
    other = shrink(slide_image(900, 1200, seed=10 + seed), 16)
    noise = np.random.default_rng(seed).integers(0, 256, other.shape, dtype=np.uint8)
    for image in (other, noise, shrink(SLIDE, 16)[::-1]):
        found = register_wsi(image, windows, positions)
        assert found.scale is None
        assert "WSI scale unknown" in found.words


@pytest.mark.parametrize(
    ("image", "windows", "positions"),
    [
        (np.full((50, 70, 3), 200, np.uint8), cut(SLIDE, SPOTS, 94), SPOTS.astype(float)),
        (shrink(SLIDE, 16), np.full((60, 94, 94, 3), 200, np.uint8), SPOTS.astype(float)),
        (shrink(SLIDE, 16), cut(SLIDE, SPOTS[:8], 94), SPOTS[:8].astype(float)),
        (shrink(SLIDE, 16), cut(SLIDE, SPOTS, 94), np.full((60, 2), np.nan)),
        (shrink(SLIDE, 16), cut(SLIDE, SPOTS, 94), np.zeros((60, 2))),
        (shrink(SLIDE, 16), cut(SLIDE, SPOTS, 94), 1e15 * SPOTS),
        (SLIDE[:1, :1], cut(SLIDE, SPOTS, 94), SPOTS.astype(float)),
    ],
    ids=["flat image", "flat patches", "few patches", "no positions", "one position", "far away", "one pixel"],
)
def test_where_nothing_can_be_compared_there_is_no_scale(image, windows, positions):
    found = register_wsi(image, windows, positions)
    assert found.scale is None
    assert "WSI scale unknown" in found.words


# --- the real files --------------------------------------------------------------------------------------------------


def slides(path: Path) -> list[tuple[Any, ...]]:
    """Return WSI, tissue patches, cell patches and positions of each slide of a file, by a plain h5py loop."""
    found: dict[bytes, tuple[Any, list[Any], list[Any], list[Any]]] = {}
    with h5py.File(path) as file:
        root = file.get("NCBI858", file)
        for cell in root.values():
            if not isinstance(cell, h5py.Group):
                continue
            wsi = cell["images/WSI_patch"][()]
            slide = found.setdefault(wsi.tobytes(), (wsi, [], [], []))
            slide[1].append(cell["images/tissue_patch"][()])
            slide[2].append(cell["images/cell_patch"][()])
            slide[3].append(ast.literal_eval(json.loads(cell["attributes.json"][()])["Position_in_WSI"]))
    return [(wsi, np.stack(t), np.stack(c), np.array(p, float)) for wsi, t, c, p in found.values()]


@pytest.mark.parametrize(
    ("name", "count", "scale", "mpp"), [("lung_xenium.h5", 1, 16, 200 / 94), ("her2st_two_slides.h5", 2, 96, 200 / 274)]
)
def test_real_slides_are_placed(data_dir, name, count, scale, mpp):
    found = slides(data_dir / name)
    assert len(found) == count
    for wsi, tissue, cells, positions in found:
        assert anchor_agrees(cells, tissue).all()
        window = window_mpp(tissue, positions)
        assert window.mpp == pytest.approx(mpp)
        assert window.differing == 0
        assert window.pixels > 100_000
        registration = register_wsi(wsi, tissue, positions)
        assert registration.scale == scale
        assert registration.snapped
        assert registration.r > 0.85
        assert register_wsi(wsi[:, ::-1], tissue, positions).scale is None
