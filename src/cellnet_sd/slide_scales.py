"""How large the pixels of each slide are: micrometres per pixel, and the scale of its WSI image."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from cellnet_sd import placement
from cellnet_sd.cellindex import CellIndex, Rows
from cellnet_sd.components import images
from cellnet_sd.errors import LayoutError
from cellnet_sd.findings import Findings, SlideFinding
from cellnet_sd.keys import SPATIAL
from cellnet_sd.layout import MPP_KEYS, WSI_SCALE_KEYS, Component
from cellnet_sd.samples import SAMPLE, decoded, looked_at, sample_rows
from cellnet_sd.sources.base import Source

BY_CALLER: Final = "as the caller says"
_PAIRS_SAMPLED: Final = 24
_REGISTERED: Final = 2**29
"""Bytes of WSI images that are decoded to be registered in any case."""
_PER_STORED: Final = 64
"""Likewise, for each byte of the file: deflated images may be a thousand times more."""


def find_scales(source: Source, findings: Findings) -> Findings:
    """Return the findings with the scales of the slides, and how their WSI images lie on them."""
    rows_of_slides = source.index.rows_of_slides()
    left = max(_REGISTERED, _PER_STORED * source.identity.size)
    slides = []
    for slide, rows in zip(findings.slides, rows_of_slides, strict=True):
        slide = _with_wsi(source, findings, _with_mpp(source, findings, slide, rows), rows)
        if slide.wsi_frame is not None and slide.wsi_scale is None:
            slide, nbytes = _registered(source, findings, slide, rows, left)
            left -= nbytes
        slides.append(slide)
    return msgspec.structs.replace(findings, slides=tuple(slides))


def _stated_number(index: CellIndex, keys: Sequence[str], rows: Rows) -> tuple[float, str] | None:
    """Return the number that the cells' containers, or the root, state under one of `keys`, and where."""
    containers = {str(container) for container in index.containers[rows].unique()} if len(rows) else set()
    parents = [parent for container in containers for parent in _parents(container)]
    for container in [*sorted(set(parents), key=len, reverse=True), ""]:
        values = index.stated[container].values if container in index.stated else {}
        for key in keys:
            if isinstance(value := values.get(key), int | float) and np.isfinite(value) and value > 0:
                return float(value), f"{key!r} of {container or 'the root'}"
    return None


def _parents(container: str) -> list[str]:
    parts = container.split("/")
    return ["/".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _with_mpp(source: Source, findings: Findings, slide: SlideFinding, rows: Rows) -> SlideFinding:
    """Return a slide with micrometres per pixel, as said or as measured."""
    if source.choices.mpp is not None:
        return msgspec.structs.replace(slide, mpp=source.choices.mpp, mpp_words=BY_CALLER)
    if (stated := _stated_number(source.index, MPP_KEYS, rows)) is not None:
        return msgspec.structs.replace(slide, mpp=stated[0], mpp_words=stated[1])
    positions = source.index.obsm.get(SPATIAL)
    frame = findings.frame_of(slide, "tissue")
    if positions is None or frame is None or frame.padded:
        return slide
    have = rows[source.index.has(Component.TISSUE_PATCH, rows)]
    pairs = placement.neighbour_pairs(positions[have], min(frame.height, frame.width), _PAIRS_SAMPLED)
    use = have[np.unique(pairs)]
    if not len(use):
        return slide
    found = placement.window_mpp(decoded(source, frame, "tissue", use), positions[use])
    return msgspec.structs.replace(slide, mpp=found.mpp, mpp_words=found.words)


def _with_wsi(source: Source, findings: Findings, slide: SlideFinding, rows: Rows) -> SlideFinding:
    """Return a slide with its WSI image, and the scale of that where it is said."""
    index = source.index
    shown = rows[index.wsi[rows] >= 0]
    if not len(shown) or "wsi" not in findings.frames:
        return slide
    raws = looked_at(source, Component.WSI_PATCH, shown[:1])
    try:
        frame = images.detect_frame(raws, Component.WSI_PATCH, str(source.path))
    except LayoutError as error:  # what others of the file settle, this one may leave open
        return msgspec.structs.replace(slide, wsi_words=str(error))
    slide = msgspec.structs.replace(slide, wsi_row=int(shown[0]), wsi_frame=frame)
    if source.choices.wsi_scale is not None:
        return msgspec.structs.replace(slide, wsi_scale=source.choices.wsi_scale, wsi_words=BY_CALLER)
    if (stated := _stated_number(index, WSI_SCALE_KEYS, rows)) is not None:
        return msgspec.structs.replace(slide, wsi_scale=stated[0], wsi_words=stated[1])
    return slide


def _registered(
    source: Source, findings: Findings, slide: SlideFinding, rows: Rows, most: int
) -> tuple[SlideFinding, int]:
    """Return a slide with the scale of its WSI image, by the tissue patches of the cells at `rows`.

    And the bytes that were decoded of the image: it is let be if they are more than `most`.
    """
    positions, window = source.index.obsm.get(SPATIAL), findings.frame_of(slide, "tissue")
    use = sample_rows(source.index, Component.TISSUE_PATCH, 2 * SAMPLE, among=rows)
    assert slide.wsi_frame is not None  # it has an image
    if positions is None or window is None or not len(use):
        words = "its scale is unknown: no positions or no tissue patches"
        return msgspec.structs.replace(slide, wsi_words=words), 0
    if slide.wsi_frame.nbytes > most:
        words = (
            f"its scale is not looked for: WSI images take over {_PER_STORED} times the file's bytes. Pass wsi_scale="
        )
        return msgspec.structs.replace(slide, wsi_words=words), 0
    image = decoded(source, slide.wsi_frame, "wsi", np.array([slide.wsi_row]))[0]
    found = placement.register_wsi(image, decoded(source, window, "tissue", use), positions[use])
    return msgspec.structs.replace(slide, wsi_scale=found.scale, wsi_words=found.words), slide.wsi_frame.nbytes
