"""A look at every patch, batch by batch."""

import hashlib
import warnings
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellnet_sd import placement
from cellnet_sd.cellindex import Rows
from cellnet_sd.components import images
from cellnet_sd.components.images.decode import Stored
from cellnet_sd.components.images.encoded import NotAnImageError
from cellnet_sd.components.images.spelling import CHANNELS_FIRST, CHANNELS_LAST, read_patch
from cellnet_sd.detection import WINDOWS, rows_by_frames
from cellnet_sd.errors import CellNetWarning
from cellnet_sd.keys import SPATIAL
from cellnet_sd.layout import PATCHES, POSITION_IN_WSI, Component
from cellnet_sd.matrix import batches
from cellnet_sd.samples import lenient
from cellnet_sd.sources.base import Raw, Source
from cellnet_sd.validation.tally import Tally

_ADVICE: Final = "Looking at such a patch raises: leave the cells out with where= or cells=."


class _Patches(NamedTuple):
    """Patches of one level, (n, H, W, C), of the cells at `rows`; `sizes` (n, 3) as stored, 0 where there is none."""

    rows: Rows
    pixels: NDArray[Any]
    sizes: NDArray[np.int64]

    def whole(self) -> "_Patches":
        """Return those that fill their frame."""
        kept = (self.sizes == self.pixels.shape[1:]).all(axis=1)
        return _Patches(self.rows[kept], self.pixels[kept], self.sizes[kept])


def check_windows(source: Source, tally: Tally) -> None:
    """Count the cell and tissue patches that are malformed, of another size, or do not show the same place."""
    index = source.index
    sound = {level: tally.sound(PATCHES[level]) for level in WINDOWS if level in index.findings.frames}
    rows = np.unique(np.concatenate([np.empty(0, np.int64), *sound.values()]))
    for frames, here in rows_by_frames(index, index.findings, rows):
        for batch in batches(here, 2 * sum(frame.nbytes for frame in frames.values()), "Checking patches"):
            found = {
                level: _patches(source, tally, (level, frame), np.intersect1d(batch, sound[level]))
                for level, frame in frames.items()
            }
            for level, patches in found.items():
                _check_sizes(tally, patches, PATCHES[level])
            if len(found) == len(WINDOWS):
                _check_anchor(tally, found["cell"].whole(), found["tissue"].whole())


def _patches(source: Source, tally: Tally, of: tuple[str, images.Frame], rows: Rows) -> _Patches:
    """Decode the patches of one batch, `of` a level and in a frame; malformed ones are counted and left out."""
    (level, frame), problems = of, lenient(source)
    component = PATCHES[level]
    raws = source.fetch(component, rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CellNetWarning)  # padded and widened patches are counted here, all of them
        pixels, present = images.decode(raws, rows, frame, component, problems)
    tally.add_problems(problems.found, _ADVICE)
    first = CHANNELS_FIRST in frame.stored
    sizes = np.array([_size(raw, channels_first=first) for raw in raws], dtype=np.int64).reshape(-1, 3)
    return _Patches(rows[present], pixels[present], sizes[present])


def _size(raw: Stored, *, channels_first: bool) -> tuple[int, ...]:
    """Return height, width and channels of a patch before padding; encoded ones are decoded once more for it."""
    if not isinstance(raw, Raw):
        return 0, 0, 0
    try:
        read = read_patch(raw)
    except NotAnImageError:
        return 0, 0, 0
    if read.ambiguous:
        read = read.in_order(CHANNELS_FIRST if channels_first else CHANNELS_LAST)
    return read.array.shape


def _check_sizes(tally: Tally, patches: _Patches, component: Component) -> None:
    height, width, channels = patches.pixels.shape[1:]
    smaller = (patches.sizes[:, :2] != (height, width)).any(axis=1)
    reason = f"smaller than the {height} by {width} px of the largest: padded with white when read"
    tally.add("warning", component, reason, patches.rows[smaller])
    fewer = patches.sizes[:, 2] != channels
    reason = f"fewer channels than the {channels} of others: widened when read"
    tally.add("warning", component, reason, patches.rows[fewer])


def _check_anchor(tally: Tally, cell: _Patches, tissue: _Patches) -> None:
    rows, at_cell, at_tissue = np.intersect1d(cell.rows, tissue.rows, return_indices=True)
    agrees = placement.anchor_agrees(cell.pixels[at_cell], tissue.pixels[at_tissue])
    reason = f"it is not the centre of the {Component.TISSUE_PATCH}"
    advice = "One of the two is resized, recoloured or of another cell."
    tally.add("warning", Component.CELL_PATCH, reason, rows[~agrees], advice)


# --- the whole slide -------------------------------------------------------------------------------------------------


class _SlideImage(NamedTuple):
    """The first WSI image of a slide: a hash of its pixels, and its size in its own pixels."""

    digest: bytes
    height: int
    width: int


def check_wsi(source: Source, tally: Tally) -> None:
    """Count WSI images that are malformed or not the one of their slide, and cells that lie outside of it."""
    frame = source.index.findings.frames.get("wsi")
    if frame is None:
        return
    slides: dict[int, _SlideImage] = {}
    for batch in batches(tally.sound(Component.WSI_PATCH), 2 * frame.nbytes, "Checking WSI patches"):
        found = _patches(source, tally, ("wsi", frame), batch)
        odd = [row for row, image in _slide_images(found) if _another(slides, int(source.index.slides[row]), image)]
        reason = "another image than that of the first cell of its slide, which is the one taken"
        advice = "Name what tells the slides apart with slide_key=."
        tally.add("warning", Component.WSI_PATCH, reason, np.array(odd, dtype=np.int64), advice)
    _check_extents(source, tally, slides)


def _slide_images(patches: _Patches) -> Iterator[tuple[int, _SlideImage]]:
    """Yield the row and the image of each cell, without the padding of its frame."""
    for row, pixels, (height, width, channels) in zip(patches.rows, patches.pixels, patches.sizes, strict=True):
        image = np.ascontiguousarray(pixels[:height, :width])
        digest = hashlib.blake2b(image.tobytes() + bytes([channels]), digest_size=16).digest()
        yield int(row), _SlideImage(digest, int(height), int(width))


def _another(slides: dict[int, _SlideImage], slide: int, image: _SlideImage) -> bool:
    return slides.setdefault(slide, image) != image


def _check_extents(source: Source, tally: Tally, slides: dict[int, _SlideImage]) -> None:
    """Count the cells that lie outside the WSI image of their slide, by more than one of its pixels."""
    positions = source.index.obsm.get(SPATIAL)
    if positions is None:
        return
    rows_of_slides = source.index.rows_of_slides()
    for code, image in slides.items():
        rows, scale = rows_of_slides[code], source.index.findings.slides[code].wsi_scale
        far = np.inf if scale is None else np.array([image.width + 1, image.height + 1]) * scale
        outside = ((positions[rows] < 0) | (positions[rows] > far)).any(axis=1)
        reason = f"{POSITION_IN_WSI} is outside the WSI image of its slide"
        tally.add("warning", Component.WSI_PATCH, reason, rows[outside], "Check wsi_scale= and slide_key=.")
