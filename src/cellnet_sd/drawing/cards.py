"""One cell as a card: its patches, its genes, its attributes, its caption."""

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
HEIGHT: Final = 3.05
_MARGIN: Final = 0.16
_TOP: Final = 0.36
_CAPTION_SIZE: Final = 8.0
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


def draw_card(figure: "Figure", card: Card, left: float, bottom: float, width: float) -> None:
    """Draw a card; `left`, `bottom` and `width` in inches from the figure's corner."""
    place = _Placer(figure, left, bottom)
    place.box(width)
    _write(place, card, width)
    x, y = _MARGIN, HEIGHT - _TOP - PANEL
    for level, image in card.images.items():
        ax = place.axes(x, y, PANEL, PANEL)
        _DRAW[level](ax, card, image)
        x += PANEL + _GAP
    if card.genes:
        _draw_genes(place.axes(x + _GENES, y, _BARS, PANEL), card.genes)


@dataclass(frozen=True)
class _Placer:
    """Places things by inches from the corner of a card."""

    figure: "Figure"
    left: float
    bottom: float

    def _share(self, x: float, y: float) -> tuple[float, float]:
        width, height = self.figure.get_size_inches()
        return x / width, y / height

    def axes(self, x: float, y: float, width: float, height: float) -> "Axes":
        corner, size = self._share(self.left + x, self.bottom + y), self._share(width, height)
        return self.figure.add_axes((*corner, *size))

    def text(self, x: float, y: float, words: str, **look: Any) -> None:
        self.figure.text(*self._share(self.left + x, self.bottom + y), words, **look)

    def box(self, width: float) -> None:
        from matplotlib.patches import Rectangle

        corner, size = self._share(self.left, self.bottom), self._share(width, HEIGHT)
        look = {"facecolor": "white", "edgecolor": "#d9d9d9", "linewidth": 0.8, "zorder": -1}
        self.figure.add_artist(Rectangle(corner, *size, transform=self.figure.transFigure, **look))


def _write(place: _Placer, card: Card, width: float) -> None:
    room = width - 2 * _MARGIN
    title = HEIGHT - _TOP / 2
    place.text(_MARGIN, title, "●", color=card.colour, fontsize=12, va="center")
    head = wrapped(f"{card.label}" if card.label else card.name, room * 0.6, 10.5, 1)
    place.text(_MARGIN + 0.2, title, head, fontsize=10.5, fontweight="bold", va="center")
    if card.label:
        name = wrapped(card.name, room * 0.36, 8, 1)
        place.text(width - _MARGIN, title, name, fontsize=8, color=FADED, va="center", ha="right")
    below = HEIGHT - _TOP - PANEL - 0.27
    place.text(_MARGIN, below, wrapped(card.facts, room, 8, 1), fontsize=8, va="top", color=FADED)
    words = wrapped(card.caption, room, _CAPTION_SIZE, 4)
    place.text(_MARGIN, below - 0.2, words, fontsize=_CAPTION_SIZE, va="top", linespacing=1.25)


# --- images --------------------------------------------------------------------------------------------------------------


def _show(ax: "Axes", image: NDArray[Any] | None, title: str) -> bool:
    bare(ax)
    ax.set_xlabel(title, fontsize=7.5, color=FADED, labelpad=3)
    if image is None:
        ax.set_facecolor("#f2f2f2")
        ax.text(0.5, 0.5, "not stored", transform=ax.transAxes, ha="center", va="center", fontsize=8, color=FADED)
        return False
    # a grey image is (y, x, 1)
    ax.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", interpolation="nearest")
    return True


def _draw_cell(ax: "Axes", card: Card, image: NDArray[Any] | None) -> None:
    if _show(ax, image, "cell patch") and image is not None:
        ax.set_xlabel(f"cell patch, {image.shape[1]} × {image.shape[0]} px", fontsize=7.5, color=FADED, labelpad=3)


def _draw_tissue(ax: "Axes", card: Card, image: NDArray[Any] | None) -> None:
    if not _show(ax, image, f"tissue patch, {TISSUE_WINDOW_UM:.0f} µm") or image is None:
        return
    from matplotlib.patches import Circle, Rectangle

    height, width = image.shape[:2]
    px_per_um = width / TISSUE_WINDOW_UM
    # the pixel that a position names is the one at h // 2
    x, y = width // 2, height // 2
    if np.isfinite(card.diameter) and card.diameter > 0:
        radius = card.diameter / 2 * px_per_um
        ax.add_patch(Circle((x, y), radius, fill=False, edgecolor=ACCENT, linewidth=1.4))
    box = cell_box(card.images.get("cell"), image)
    if box is not None:
        left, top, side_x, side_y = box
        look = {"fill": False, "edgecolor": "black", "linewidth": 0.9, "linestyle": (0, (4, 2))}
        ax.add_patch(Rectangle((left - 0.5, top - 0.5), side_x, side_y, **look))
    _scale_bar(ax, width, height, px_per_um)


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


def _draw_wsi(ax: "Axes", card: Card, image: NDArray[Any] | None) -> None:
    slide = wrapped(card.slide, PANEL, 7.5, 1)
    if not _show(ax, image, f"slide {slide}") or image is None:
        return
    ax.set_anchor("N")
    x, y = card.in_wsi
    if np.isfinite([x, y]).all():
        ax.plot(x, y, "o", markersize=8, markerfacecolor="none", markeredgecolor="white", markeredgewidth=3.2)
        ax.plot(x, y, "o", markersize=8, markerfacecolor="none", markeredgecolor=ACCENT, markeredgewidth=1.6)


_DRAW: Final = {"cell": _draw_cell, "tissue": _draw_tissue, "wsi": _draw_wsi}
LEVELS: Final = tuple(_DRAW)


# --- genes ---------------------------------------------------------------------------------------------------------------


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
    for place, value in zip(places, values, strict=True):
        ax.text(value, place, f" {value:.3g}", va="center", fontsize=7, color=FADED)
    ax.set_xlabel("expression", fontsize=7.5, color=FADED, labelpad=3)
