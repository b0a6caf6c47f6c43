"""One cell as a card: its patches, its genes, its attributes, its caption."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.drawing.style import ACCENT, BAR, FADED, bare, wrapped
from cellnet_sd.layout import TISSUE_WINDOW_UM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL: Final = 1.55
"""Side of an image, inches."""
_GAP: Final = 0.14
_GENES: Final = 0.72
"""Room for the names of genes, inches."""
_BARS: Final = 1.15
_MARGIN: Final = 0.16
_TOP: Final = 0.36
_LABELS: Final = 0.22
"""Room for the words below images, inches."""
_FACTS: Final = 0.24
_CAPTION_SIZE: Final = 8.0
_CAPTION_LINE: Final = 0.15
_CAPTION_LINES: Final = 5
_SCALE_BAR_UM: Final = 50.0


@dataclass(frozen=True)
class Card:
    """What is on a card.

    Parameters
    ----------
    name, label
        Of the cell, and its cell type.
    colour
        Of the label.
    facts
        Attributes in words.
    caption
        The caption, or `""`.
    images
        Its patches, (y, x, c), by level; `None` where there is none.
    genes
        Names and expression of the genes to show, the first on top.
    diameter
        In µm; NaN if unknown.
    slide
        Name of its slide.
    in_wsi
        Its place on the WSI image, x then y, in pixels of that image; NaN if unknown.
    """

    name: str
    label: str
    colour: str
    facts: str
    caption: str
    images: dict[str, NDArray[Any] | None]
    genes: list[tuple[str, float]]
    diameter: float
    slide: str
    in_wsi: tuple[float, float] = field(default=(float("nan"), float("nan")))


def card_width(n_images: int, *, with_genes: bool) -> float:
    """Return the width of a card in inches."""
    genes = _GAP + _GENES + _BARS if with_genes else 0.0
    return 2 * _MARGIN + n_images * (PANEL + _GAP) - _GAP + genes


def card_height(cards: Sequence[Card], width: float) -> float:
    """Return the height in inches of cards of one page: as the longest caption needs."""
    lines = max(len(_caption(card, width).splitlines()) for card in cards)
    return _TOP + PANEL + _LABELS + _FACTS + lines * _CAPTION_LINE + _MARGIN


def draw_card(figure: "Figure", card: Card, corner: tuple[float, float], size: tuple[float, float]) -> None:
    """Draw a card; `corner` (left, bottom) and `size` (width, height) in inches."""
    place = _Placer(figure, *corner, *size)
    place.box()
    _write(place, card)
    x, y = _MARGIN, place.height - _TOP - PANEL
    for level, image in card.images.items():
        title = _DRAW[level](place.axes(x, y, PANEL, PANEL), card, image)
        place.text(x + PANEL / 2, y - 0.06, title, fontsize=7.5, color=FADED, ha="center", va="top")
        x += PANEL + _GAP
    if card.genes:
        _draw_genes(place.axes(x + _GENES, y, _BARS, PANEL), card.genes)
        place.text(x + _GENES, y - 0.06, "expression", fontsize=7.5, color=FADED, va="top")


@dataclass(frozen=True)
class _Placer:
    """Places things by inches from the corner of a card."""

    figure: "Figure"
    left: float
    bottom: float
    width: float
    height: float

    def _share(self, x: float, y: float) -> tuple[float, float]:
        width, height = self.figure.get_size_inches()
        return x / width, y / height

    def axes(self, x: float, y: float, width: float, height: float) -> "Axes":
        corner, size = self._share(self.left + x, self.bottom + y), self._share(width, height)
        return self.figure.add_axes((*corner, *size))

    def text(self, x: float, y: float, words: str, **look: Any) -> None:
        self.figure.text(*self._share(self.left + x, self.bottom + y), words, **look)

    def box(self) -> None:
        from matplotlib.patches import Rectangle

        corner, size = self._share(self.left, self.bottom), self._share(self.width, self.height)
        look: dict[str, Any] = {"facecolor": "white", "edgecolor": "#d9d9d9", "linewidth": 0.8, "zorder": -1}
        self.figure.add_artist(Rectangle(corner, *size, transform=self.figure.transFigure, **look))


def _write(place: _Placer, card: Card) -> None:
    room = place.width - 2 * _MARGIN
    title = place.height - _TOP / 2
    place.text(_MARGIN, title, "●", color=card.colour, fontsize=12, va="center")
    head = wrapped(card.label or card.name, room * 0.6, 10.5, 1)
    place.text(_MARGIN + 0.2, title, head, fontsize=10.5, fontweight="bold", va="center")
    if card.label:
        name = wrapped(card.name, room * 0.36, 8, 1)
        place.text(place.width - _MARGIN, title, name, fontsize=8, color=FADED, va="center", ha="right")
    below = place.height - _TOP - PANEL - _LABELS - 0.03
    place.text(_MARGIN, below, wrapped(card.facts, room, 8, 1), fontsize=8, va="top", color=FADED)
    words = _caption(card, place.width)
    place.text(_MARGIN, below - _FACTS + 0.04, words, fontsize=_CAPTION_SIZE, va="top", linespacing=1.25)


def _caption(card: Card, width: float) -> str:
    return wrapped(card.caption, width - 2 * _MARGIN, _CAPTION_SIZE, _CAPTION_LINES)


# --- images ----------------------------------------------------------------------------------------------------------


def _show(ax: "Axes", image: NDArray[Any] | None) -> None:
    bare(ax)
    if image is None:
        ax.set_facecolor("#f2f2f2")
        ax.text(0.5, 0.5, "not stored", transform=ax.transAxes, ha="center", va="center", fontsize=8, color=FADED)
        return
    # a grey image is (y, x, 1)
    ax.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", interpolation="nearest")


def _draw_cell(ax: "Axes", card: Card, image: NDArray[Any] | None) -> str:  # noqa: ARG001
    _show(ax, image)
    return "cell patch" if image is None else f"cell patch, {image.shape[1]} × {image.shape[0]} px"


def _draw_tissue(ax: "Axes", card: Card, image: NDArray[Any] | None) -> str:
    from matplotlib.patches import Circle, Rectangle

    _show(ax, image)
    if image is None:
        return "tissue patch"
    height, width = image.shape[:2]
    px_per_um = width / TISSUE_WINDOW_UM
    if np.isfinite(card.diameter) and card.diameter > 0:
        # the pixel that a position names is the one at width // 2, height // 2
        centre, radius = (width // 2, height // 2), card.diameter / 2 * px_per_um
        ax.add_patch(Circle(centre, radius, fill=False, edgecolor=ACCENT, linewidth=1.4))
    box = cell_box(card.images.get("cell"), image)
    if box is not None:
        left, top, side_x, side_y = box
        look: dict[str, Any] = {"fill": False, "edgecolor": "black", "linewidth": 0.9, "linestyle": (0, (4, 2))}
        ax.add_patch(Rectangle((left - 0.5, top - 0.5), side_x, side_y, **look))
    _scale_bar(ax, width, height, px_per_um)
    return f"tissue patch, {TISSUE_WINDOW_UM:.0f} µm"


def cell_box(cell: NDArray[Any] | None, tissue: NDArray[Any]) -> tuple[int, int, int, int] | None:
    """Return where the cell patch lies in the tissue patch (left, top, width, height), `None` if not at its centre."""
    if cell is None or cell.shape[0] > tissue.shape[0] or cell.shape[1] > tissue.shape[1]:
        return None
    height, width = cell.shape[:2]
    top, left = tissue.shape[0] // 2 - height // 2, tissue.shape[1] // 2 - width // 2
    if not np.array_equal(tissue[top : top + height, left : left + width], cell):
        return None
    return left, top, width, height


def _scale_bar(ax: "Axes", width: int, height: int, px_per_um: float) -> None:
    from matplotlib.patheffects import withStroke

    length = _SCALE_BAR_UM * px_per_um
    x, y = width * 0.05, height * 0.94
    halo = [withStroke(linewidth=3, foreground="white")]
    ax.plot([x, x + length], [y, y], color="black", linewidth=2, solid_capstyle="butt", path_effects=halo)
    words = f"{_SCALE_BAR_UM:.0f} µm"
    ax.text(x + length / 2, y - height * 0.02, words, fontsize=6.5, ha="center", va="bottom", path_effects=halo)


def _draw_wsi(ax: "Axes", card: Card, image: NDArray[Any] | None) -> str:
    _show(ax, image)
    if image is not None and np.isfinite(card.in_wsi).all():
        look: dict[str, Any] = {"markersize": 8, "markerfacecolor": "none", "clip_on": False}
        ax.plot(*card.in_wsi, "o", markeredgecolor="white", markeredgewidth=3.2, **look)
        ax.plot(*card.in_wsi, "o", markeredgecolor=ACCENT, markeredgewidth=1.6, **look)
    return wrapped(card.slide, PANEL, 7.5, 1)


_DRAW: Final = {"cell": _draw_cell, "tissue": _draw_tissue, "wsi": _draw_wsi}
LEVELS: Final = tuple(_DRAW)


# --- genes -----------------------------------------------------------------------------------------------------------


def _draw_genes(ax: "Axes", genes: list[tuple[str, float]]) -> None:
    names = [wrapped(name, _GENES - 0.08, 7.5, 1) for name, _ in genes]
    values = [value for _, value in genes]
    places = np.arange(len(genes))
    ax.barh(places, values, color=BAR, height=0.68)
    ax.set_yticks(places, names, fontsize=7.5)
    ax.set_ylim(len(genes) - 0.5, -0.5)
    ax.set_xlim(0, max([*values, 1e-9]) * 1.28)
    ax.tick_params(axis="y", length=0, pad=3)
    ax.set_xticks([])
    ax.spines[["bottom", "top", "right"]].set_visible(False)
    for place, value in enumerate(values):
        ax.text(value, place, f" {value:.3g}", va="center", fontsize=7, color=FADED)
