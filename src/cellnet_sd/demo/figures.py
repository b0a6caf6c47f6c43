"""The figures of the demonstration."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cellnet_sd import keys
from cellnet_sd.demo.analysis import DOMAIN
from cellnet_sd.drawing.style import ACCENT, FADED, UNKNOWN_COLOUR, bare, colours_of, new_figure

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from spatialdata import SpatialData

_SLIDES_SHOWN: Final = 4
_SIDE: Final = 3.6
"""Side of a panel, inches."""
_LEGEND: Final = 1.0
_HEAD: Final = 0.35
_GAP: Final = 0.22
_MARGIN: Final = 0.06
_DOMAIN_COLOURS: Final = 7
_SMALLEST: Final = 0.007
"""Least radius of a cell relative to the view, so that it can be seen."""
_FAINT: Final = 0.25
_MIDDLE: Final = 0.55


def plainly(name: str) -> str:
    """Return the name of a column as words."""
    return name.replace("_", " ")


def colours(obs: "pd.DataFrame", key: str) -> dict[str, str]:
    """Return the colours of a column: those of domains are none of those of cell types."""
    return colours_of(obs, key, _DOMAIN_COLOURS if key == DOMAIN else 0)


# --- slides ----------------------------------------------------------------------------------------------------------


def slides_figure(sdata: "SpatialData", colour_by: Sequence[str]) -> "Figure":
    """Draw each slide: its image, then its cells by each of the columns `colour_by` of the table."""
    obs = sdata[keys.TABLE].obs
    slides = [slide for slide in obs[keys.SLIDE].cat.categories if keys.region(slide) in sdata.shapes][:_SLIDES_SHOWN]
    views = [View.of(sdata, slide) for slide in slides]
    side = _SIDE * max(view.height / view.width for view in views)
    width, height = (1 + len(colour_by)) * _SIDE, len(slides) * (side + _GAP) + _HEAD + _LEGEND
    with new_figure(width, height) as figure:
        for place, view in enumerate(views):
            bottom = height - _HEAD - (place + 1) * (side + _GAP) + _GAP
            corners = [(column * _SIDE + _GAP, bottom) for column in range(1 + len(colour_by))]
            row = [_panel(figure, corner, (_SIDE - _GAP, side)) for corner in corners]
            draw_slide(sdata, view, row, colour_by)
            if place == 0:
                for ax, key in zip(row, ("H&E", *colour_by), strict=True):
                    ax.set_title(plainly(key))
        for ax, key in zip(row[1:], colour_by, strict=True):
            legend_below(ax, colours(obs, key))
    return figure


def _panel(figure: "Figure", corner: tuple[float, float], size: tuple[float, float]) -> "Axes":
    width, height = figure.get_size_inches()
    return figure.add_axes((corner[0] / width, corner[1] / height, size[0] / width, size[1] / height))


@dataclass(frozen=True)
class View:
    """The part of a slide where its cells are; lengths in pixels of the slide.

    Parameters
    ----------
    slide
        Name of the slide.
    left, top, width, height
        The part.
    """

    slide: str
    left: float
    top: float
    width: float
    height: float

    @classmethod
    def of(cls, sdata: "SpatialData", slide: str) -> "View":
        """Return the part with the cells of `slide`, and a margin."""
        left, top, right, bottom = sdata[keys.region(slide)].total_bounds
        margin = _MARGIN * max(right - left, bottom - top, 1.0)
        return cls(slide, left - margin, top - margin, right - left + 2 * margin, bottom - top + 2 * margin)


def draw_slide(sdata: "SpatialData", view: View, row: Sequence["Axes"], colour_by: Sequence[str]) -> None:
    """Draw a slide into panels: its image, then its cells by each of `colour_by`."""
    import spatialdata_plot  # noqa: F401  (gives SpatialData its .pl)

    cells, image = keys.region(view.slide), _image(sdata, view.slide)
    obs = sdata[keys.TABLE].obs
    smallest = _SMALLEST * max(view.width, view.height)
    enlarged = max(1.0, float(smallest / sdata[cells]["radius"].median()))
    plain = {"coordinate_systems": view.slide, "title": "", "legend_loc": "none", "colorbar": False}
    if image:
        sdata.pl.render_images(image).pl.show(ax=row[0], **plain)
    for ax, key in zip(row[1:], colour_by, strict=True):
        base = sdata.pl.render_images(image, alpha=_FAINT) if image else sdata
        look = {"color": key, "palette": colours(obs, key), "table_name": keys.TABLE, "scale": enlarged}
        base.pl.render_shapes(cells, **look).pl.show(ax=ax, **plain)
    for ax in row:
        bare(ax)
        ax.set_aspect("equal")
        ax.set_xlim(view.left, view.left + view.width)
        ax.set_ylim(view.top + view.height, view.top)
    row[0].set_xlabel("")
    row[0].set_ylabel(view.slide, fontsize=9, color=FADED)


def _image(sdata: "SpatialData", slide: str) -> str | None:
    """Return the name of the slide's image, if it has one that is placed on the slide."""
    from spatialdata.transformations import get_transformation

    name = keys.wsi_image(slide)
    if name not in sdata.images or slide not in get_transformation(sdata.images[name], get_all=True):
        return None
    return name


def legend_below(ax: "Axes", colours: dict[str, str]) -> None:
    """Write what colours mean below a panel."""
    from matplotlib.lines import Line2D

    dots = [Line2D([], [], marker="o", linestyle="", color=colour, label=name) for name, colour in colours.items()]
    ax.legend(handles=dots, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, frameon=False, handletextpad=0.1)


# --- UMAP ------------------------------------------------------------------------------------------------------------


def umap_figure(adata: "AnnData", colour_by: Sequence[str]) -> "Figure":
    """Draw the UMAP, a panel for each column of `obs`."""
    order = np.random.default_rng(0).permutation(adata.n_obs)
    place = adata.obsm["X_umap"][order]
    size = float(np.clip(12_000 / adata.n_obs, 0.5, 30))
    width, height = len(colour_by) * _SIDE, _SIDE + _LEGEND
    with new_figure(width, height) as figure:
        room = {"left": 0.02, "right": 0.98, "top": 1 - 0.35 / height, "bottom": _LEGEND / height}
        for ax, key in zip(
            figure.subplots(1, len(colour_by), squeeze=False, gridspec_kw=room)[0], colour_by, strict=True
        ):
            of_label = colours(adata.obs, key)
            shown = adata.obs[key].astype("str").iloc[order].map(of_label).fillna(UNKNOWN_COLOUR)
            ax.scatter(place[:, 0], place[:, 1], s=size, c=shown.tolist(), linewidths=0)
            bare(ax)
            ax.set_title(plainly(key))
            legend_below(ax, of_label)
    return figure


# --- communication ---------------------------------------------------------------------------------------------------


def communication_figure(sent: "pd.DataFrame", planted: Collection[tuple[str, str]] = ()) -> "Figure":
    """Draw the share of all signal that goes from each group (rows) to each group (columns).

    Parameters
    ----------
    sent
        Signal from group to group.
    planted
        Pairs to outline.
    """
    side = 0.62 * len(sent) + 0.6
    longest = max(len(str(name)) for name in sent.index) * 0.075
    left, bottom = longest + 0.45, longest * 0.75 + 0.5
    with new_figure(left + side + 1.0, bottom + side + 0.4) as figure:
        draw_communication(_panel(figure, (left, bottom), (side, side)), sent, planted)
        bar = _panel(figure, (left + side + 0.15, bottom), (0.14, side))
        figure.colorbar(figure.axes[0].images[0], cax=bar, label="share of all signal, %")
    return figure


def draw_communication(ax: "Axes", sent: "pd.DataFrame", planted: Collection[tuple[str, str]] = ()) -> None:
    """Draw the heat map of `communication_figure` into a panel."""
    from matplotlib.patches import Rectangle

    share = 100 * sent / max(float(sent.to_numpy().sum()), 1e-12)
    names, n = [str(name) for name in share.index], len(share)
    ax.imshow(share, cmap="Blues", vmin=0)
    ax.set_xticks(range(n), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(n), names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("receiver")
    ax.set_ylabel("sender")
    top = float(share.to_numpy().max())
    for (row, column), value in np.ndenumerate(share.to_numpy()):
        if value >= 0.5:
            colour = "white" if value > _MIDDLE * top else "#222222"
            ax.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)
    for sender, receiver in planted:
        corner = (share.columns.get_loc(receiver) - 0.5, share.index.get_loc(sender) - 0.5)
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=ACCENT, linewidth=1.8, clip_on=False))
    ax.set_title("who signals to whom" + (" (outlined: planted)" if planted else ""), loc="left")
