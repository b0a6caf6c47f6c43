"""What was found out about a file by looking at samples of it, and what the caller chose instead. Plain data."""

import math
from numbers import Real
from pathlib import Path
from typing import get_args

import msgspec

from cellnet_sd.components.ccc.layouts import CCCLayout, CCCLayoutName
from cellnet_sd.components.expression import ExpressionKind
from cellnet_sd.components.images.decode import Frame
from cellnet_sd.layout import Component
from cellnet_sd.rows import CellOrder
from cellnet_sd.sources.facts import ScanFinding
from cellnet_sd.sources.paths import source_path


class Choices(msgspec.Struct, frozen=True):
    """What the caller says of a file, against or beyond what it says of itself; `None` leaves it to the file."""

    slide_key: str | None = None
    cell_order: CellOrder | None = None
    gene_list: Path | None = None
    expression: ExpressionKind | None = None
    mpp: float | None = None
    wsi_scale: float | None = None
    ccc_layout: CCCLayoutName | None = None

    def __post_init__(self) -> None:
        words = (("expression", ExpressionKind), ("cell_order", CellOrder), ("ccc_layout", CCCLayoutName))
        for name, known in words:
            if (value := getattr(self, name)) is not None and value not in get_args(known):
                msg = f"{name}={value!r} is not one of {', '.join(map(repr, get_args(known)))}."
                raise ValueError(msg)
        for name in ("mpp", "wsi_scale"):
            if (value := getattr(self, name)) is not None and not _is_positive(value):
                msg = f"{name}={value!r} is not a positive number."
                raise ValueError(msg)


def _is_positive(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf


class SlideFinding(msgspec.Struct, frozen=True):
    """One slide: its name, its scale, and how its WSI image lies on it."""

    name: str
    original: str
    n_cells: int
    mpp: float | None = None
    """Micrometres per pixel of the slide."""
    mpp_words: str = "neither stated nor to be measured"
    wsi_row: int | None = None
    """A row whose WSI patch shows this slide."""
    wsi_frame: Frame | None = None
    """Its size and type."""
    wsi_scale: float | None = None
    """Slide pixels per pixel of the WSI image."""
    wsi_words: str = "no WSI image"
    frames: dict[str, Frame] = {}
    """The common frame of its cell and tissue patches, by level, if the patches of the file are not all alike."""

    @property
    def mpp_text(self) -> str:
        """µm per pixel, for a reader."""
        return "unknown" if self.mpp is None else f"{self.mpp:.4g}"


class Findings(msgspec.Struct, frozen=True):
    """What a file was taken to be."""

    order: CellOrder
    scan: ScanFinding = ScanFinding()
    slides_by: str = ""
    slides: tuple[SlideFinding, ...] = ()
    n_genes: int = 0
    expression: ExpressionKind | None = None
    expression_words: str = "none"
    nnz_per_cell: float = 0.0
    """Mean number of stored values per profile, in the sample."""
    frames: dict[str, Frame] = {}
    """The common frame of the patches, by level: `cell`, `tissue`, `wsi`."""
    anchor_words: str = "not checked"
    anchored: tuple[int, int] = (0, 0)
    """Of how many cells looked at the cell patch is the centre of the tissue patch, and how many were looked at."""
    ccc: CCCLayout | None = None
    reach_words: str = "not checked"
    errors: dict[Component, str] = {}
    """Components that cannot be told for sure: reading them raises a `LayoutError` with this message."""
    scan_notes: tuple[str, ...] = ()
    """What the user should know of the scan, in full sentences."""
    notes: tuple[str, ...] = ()
    """What the user should know, in full sentences."""

    def frame_of(self, slide: SlideFinding, level: str) -> Frame | None:
        """Return the common frame of a slide's patches: its own, else that of the file; `None` if there is none."""
        own = slide.wsi_frame if level == "wsi" else slide.frames.get(level)
        return own or self.frames.get(level)

    @property
    def slides_words(self) -> str:
        """How many slides there are, if one, or by what they are told apart."""
        return "one slide" if len(self.slides) == 1 else f"slides told apart by {self.slides_by}"


def absolute(path: str | Path | None) -> Path | None:
    """Return the absolute path of a file the caller named: it must be found from other processes too."""
    return None if path is None else source_path(path)
