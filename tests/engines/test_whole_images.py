"""How much of the images of a file is decoded to index it: a WSI image may be hundreds of megabytes."""

import io
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import cellnet_sd as cn
from cellnet_sd import slide_scales
from cellnet_sd.components.images import spelling
from cellnet_sd.errors import CellNetError
from cellnet_sd.layout import PATCHES, Component
from cellnet_sd.sources import native_values
from truth_checks import quiet

SHAPE = (40, 60, 3)


def write_images(path: Path, numbers: list[int], *, damaged: frozenset[int] = frozenset(), **options: Any) -> Path:
    """Write cells with the deflated images of some numbers, each its own copy; those of damaged ones cannot inflate."""
    with h5py.File(path, "w") as root:
        for row, number in enumerate(numbers):
            cell = root.create_group(f"Cell_{row}")
            cell["expression"] = np.arange(3, dtype="f4")
            image = np.full(SHAPE, number, np.uint8)
            storage = {"chunks": SHAPE, "compression": "gzip", **options}
            dataset = cell.create_dataset("images/WSI_patch", data=image, **storage)
            if row in damaged:
                dataset.id.write_direct_chunk((0, 0, 0), bytes([number] * 50))
    return path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the bytes of every chunk that is inflated."""
    sizes: list[int] = []
    inflated = native_values.inflated

    def noting(data: Any, size: int) -> bytearray:
        sizes.append(size)
        return inflated(data, size)

    monkeypatch.setattr(native_values, "inflated", noting)
    return sizes


@pytest.mark.parametrize("chunks", [SHAPE, (20, 60, 3)])
def test_copies_that_are_stored_alike_are_not_decoded_to_be_compared(
    tmp_path: Path, decoded: list[int], chunks: tuple[int, ...]
) -> None:
    path = write_images(tmp_path / "copies.h5", [7, 7, 8, 7, 8, 8], chunks=chunks)
    with quiet():
        numbers = cn.open(path, index=False)._source.index.wsi
    assert numbers.tolist() == [0, 0, 1, 0, 1, 1]
    assert sum(decoded) == 2 * np.prod(SHAPE)  # each once, to see that it is an image


@pytest.mark.parametrize("engine", ["auto", "h5py"])
def test_images_beyond_the_first_look_are_taken_for_what_their_shape_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    monkeypatch.setattr(spelling, "_LOOKED_AT", 3 * int(np.prod(SHAPE)))
    path = write_images(tmp_path / "many.h5", [1, 2, 3, 4, 5], damaged=frozenset({1, 4}))
    with quiet():
        file = cn.open(path, index=False, engine=engine)
        assert file._source.index.wsi.tolist() == [0, -1, 1, 2, 3]
        assert [(d.row, d.component) for d in file._source.index.defects] == [(1, Component.WSI_PATCH)]
        assert (file.patches("wsi")[3].values == 4).all()
        with pytest.raises(CellNetError, match="Cell_4"):
            _ = file.patches("wsi")[4].values


@pytest.mark.parametrize(
    ("numbers", "damaged"),
    [
        ([1, 2, 1, 3, 4, 2], {0, 3, 4}),
        ([1, 1, 1, 1, 2], {0, 1, 2, 3}),
        ([1, 2, 3, 3, 3, 4], {2, 3, 4}),
    ],
)
def test_the_first_look_is_as_long_in_both_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: list[int], damaged: set[int]
) -> None:
    path = write_images(tmp_path / "many.h5", numbers, damaged=frozenset(damaged))
    for n_images in range(len(numbers) + 1):
        monkeypatch.setattr(spelling, "_LOOKED_AT", n_images * int(np.prod(SHAPE)))
        with quiet():
            ours, theirs = (cn.open(path, index=False, engine=e)._source.index for e in ("native", "h5py"))
        assert np.array_equal(ours.wsi, theirs.wsi)
        assert {d.row for d in ours.defects} == {d.row for d in theirs.defects}
    assert {d.row for d in ours.defects} == damaged  # the last look was long enough for all


@pytest.mark.parametrize("engine", ["native", "h5py"])
def test_an_image_that_does_not_fit_into_the_first_look_leaves_it_to_smaller_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    monkeypatch.setattr(spelling, "_LOOKED_AT", int(np.prod(SHAPE)))
    path = write_images(tmp_path / "sizes.h5", [1, 2], damaged=frozenset({1}))
    with h5py.File(path, "a") as root:
        del root["Cell_0/images/WSI_patch"]
        root["Cell_0/images/WSI_patch"] = np.ones((100, 100, 3), np.uint8)
    with quiet():
        assert cn.open(path, index=False, engine=engine)._source.index.wsi.tolist() == [0, -1]


@pytest.mark.parametrize("engine", ["native", "h5py"])
def test_chunks_that_are_cut_otherwise_are_other_images(tmp_path: Path, engine: Any) -> None:
    a, b, c = (zlib.compress(bytes([value]) * 300) for value in (1, 2, 3))  # what follows a stream is passed over
    with h5py.File(tmp_path / "cut.h5", "w") as root:
        for row, halves in enumerate([(a, b + c), (a + b, c)]):
            root[f"Cell_{row}/expression"] = np.arange(3, dtype="f4")
            options = {"chunks": (10, 10, 3), "compression": "gzip"}
            image = root.create_dataset(f"Cell_{row}/images/WSI_patch", (20, 10, 3), "u1", **options)
            for half, stored in enumerate(halves):
                image.id.write_direct_chunk((10 * half, 0, 0), stored)
    with quiet():
        assert cn.open(tmp_path / "cut.h5", index=False, engine=engine)._source.index.wsi.tolist() == [0, 1]


@pytest.mark.parametrize("engine", ["native", "h5py"])
def test_a_damaged_patch_tells_nothing_of_the_size_of_the_others(tmp_path: Path, engine: Any) -> None:
    with h5py.File(tmp_path / "damaged.h5", "w") as root:
        for row, shape in enumerate([(6, 8, 3)] * 4 + [(60, 80, 3)]):
            root[f"Cell_{row}/expression"] = np.arange(3, dtype="f4")
            patch = root.create_dataset(
                f"Cell_{row}/images/cell_patch",
                shape,
                "u1",
                chunks=shape,
                compression="gzip",
                data=np.ones(shape, "u1"),
            )
        patch.id.write_direct_chunk((0, 0, 0), b"no deflated bytes")
    with quiet():
        frame = cn.open(tmp_path / "damaged.h5", index=False, engine=engine)._source.index.findings.frames["cell"]
    assert (frame.shape, frame.padded) == ((6, 8, 3), False)


@pytest.mark.parametrize("engine", ["native", "h5py"])
def test_an_image_whose_axes_cannot_be_told_is_left_out_with_the_reason(tmp_path: Path, engine: Any) -> None:
    with h5py.File(tmp_path / "axes.h5", "w") as root:
        for row, shape in enumerate([(20, 30, 3), (4, 10, 3)]):
            root[f"Cell_{row}/expression"] = np.arange(3, dtype="f4")
            root[f"Cell_{row}/images/WSI_patch"] = np.ones(shape, np.uint8)
    with quiet():
        _, second = cn.open(tmp_path / "axes.h5", index=False, engine=engine)._source.index.findings.slides
    assert (second.wsi_row, second.wsi_frame) == (None, None)
    assert "as well as" in second.wsi_words


def encoded(image: np.ndarray, *, half: bool) -> np.ndarray:
    """Return the bytes of a PNG, or the first half of them, which end behind the header."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    data = np.frombuffer(buffer.getvalue(), np.uint8)
    return data[: len(data) // 2] if half else data


@pytest.mark.parametrize("engine", ["auto", "h5py"])
def test_encoded_images_beyond_the_first_look_are_taken_for_what_their_headers_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    monkeypatch.setattr(spelling, "_LOOKED_AT", 3 * int(np.prod(SHAPE)))
    noise = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)
    with h5py.File(tmp_path / "encoded.h5", "w") as root:
        for row, image in enumerate(noise):
            root[f"Cell_{row}/expression"] = np.arange(3, dtype="f4")
            root[f"Cell_{row}/images/WSI_patch"] = encoded(image, half=row in (1, 4))
    with quiet():
        file = cn.open(tmp_path / "encoded.h5", index=False, engine=engine)
        assert file._source.index.wsi.tolist() == [0, -1, 1, 2, 3]
        assert np.array_equal(file.patches("wsi")[3].values, noise[3])
        with pytest.raises(CellNetError, match="Cell_4"):
            _ = file.patches("wsi")[4].values


def test_no_more_images_are_decoded_to_be_registered_than_a_file_may_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = cn.datasets.synthetic(tmp_path / "tissue.h5", n_cells=400, n_genes=40, n_slides=2)
    with quiet():
        first, second = cn.open(truth.path, index=False)._source.index.findings.slides
        assert None not in (first.wsi_scale, second.wsi_scale)
        assert first.wsi_frame is not None
        monkeypatch.setattr(slide_scales, "_PER_STORED", 0)
        monkeypatch.setattr(slide_scales, "_REGISTERED", first.wsi_frame.nbytes)
        bounded, other = cn.open(truth.path, index=False)._source.index.findings.slides
        assert bounded == first
        assert other.wsi_scale is None
        assert "Pass wsi_scale=" in other.wsi_words
        said = str(cn.info(truth.path, index=False))
        assert "Pass wsi_scale=" in said


@pytest.mark.parametrize("engine", ["native", "h5py"])
@pytest.mark.parametrize("level", ["cell", "tissue", "wsi"])
def test_sizes_that_no_file_can_hold_are_defects_and_tell_nothing_of_the_others(
    tmp_path: Path, engine: Any, level: str
) -> None:
    shapes = [(4, 5), (2**40, 2**20, 3), (2**40, 2**40), (3, 2**50), (20_000, 20_000, 3), (4, 6)]
    with h5py.File(tmp_path / "huge.h5", "w", libver="latest") as root:
        for row, shape in enumerate(shapes):
            root[f"Cell_{row}/expression"] = np.arange(3, dtype="f4")
            chunks = tuple(min(side, 100) for side in shape)
            root.create_dataset(f"Cell_{row}/{PATCHES[level]}", shape, "u1", chunks=chunks, compression="gzip")
    with quiet():
        index = cn.open(tmp_path / "huge.h5", index=False, engine=engine)._source.index
    assert [(defect.row, defect.component) for defect in index.defects] == [
        (row, PATCHES[level]) for row in range(1, 5)
    ]
    assert index.findings.frames[level].shape == (4, 6, 1)
