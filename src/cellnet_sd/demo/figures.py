"""The figures of the demonstration."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cellnet_sd import keys
from cellnet_sd.drawing.style import ACCENT, FADED, bare, colours_of, new_figure, style

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
_SMALLEST: Final = 0.006
"""Least radius of a cell relative to the slide, so that it can be seen."""
_FAINT: Final = 0.25
_MIDDLE: Final = 0.55


def plainly(name: str) -> str:
    """Return the name of a column as words."""
    return name.replace("_", " ")


# --- slides ----------------------------------------------------------------------------------------------------------


def slides_figure(sdata: "SpatialData", colour_by: Sequence[str]) -> "Figure":
    """Draw each slide: its image, then its cells by each of the columns `colour_by` of the table."""
    obs = sdata[keys.TABLE].obs
    slides = [slide for slide in obs[keys.SLIDE].cat.categories if keys.region(slide) in sdata.shapes][:_SLIDES_SHOWN]
    with style():
        width, height = (1 + len(colour_by)) * _SIDE, len(slides) * _SIDE + _LEGEND
        figure = new_figure(width, height)
        room = {"left": 0.02, "right": 0.98, "top": 1 - 0.35 / height, "bottom": _LEGEND / height}
        axes = figure.subplots(len(slides), 1 + len(colour_by), squeeze=False, gridspec_kw=room | {"hspace": 0.08})
        for row, slide in zip(axes, slides, strict=True):
            _draw_slide(sdata, slide, row, colour_by)
        for ax, key in zip(axes[0], ("H&E", *colour_by), strict=True):
            ax.set_title(plainly(key))
        for ax, key in zip(axes[-1][1:], colour_by, strict=True):
            _legend_below(ax, colours_of(obs, key))
    return figure


def _draw_slide(sdata: "SpatialData", slide: str, row: Sequence["Axes"], colour_by: Sequence[str]) -> None:
    import spatialdata_plot  # noqa: F401  (gives SpatialData its .pl)

    cells, image = keys.region(slide), _image(sdata, slide)
    obs = sdata[keys.TABLE].obs
    extent = np.ptp(np.column_stack([sdata[cells].geometry.x, sdata[cells].geometry.y]), axis=0).max()
    enlarged = max(1.0, float(_SMALLEST * extent / sdata[cells]["radius"].median()))
    plain = {"coordinate_systems": slide, "title": "", "legend_loc": "none", "colorbar": False}
    if image:
        sdata.pl.render_images(image).pl.show(ax=row[0], **plain)
    for ax, key in zip(row[1:], colour_by, strict=True):
        base = sdata.pl.render_images(image, alpha=_FAINT) if image else sdata
        look = {"color": key, "palette": colours_of(obs, key), "table_name": keys.TABLE, "scale": enlarged}
        base.pl.render_shapes(cells, **look).pl.show(ax=ax, **plain)
    for ax in row:
        bare(ax)
        ax.set_xlim(row[1].get_xlim())
        ax.set_ylim(row[1].get_ylim())
    row[0].set_ylabel(slide, fontsize=9, color=FADED)


def _image(sdata: "SpatialData", slide: str) -> str | None:
    """Return the name of the slide's image, if it has one that is placed on the slide."""
    from spatialdata.transformations import get_transformation

    name = keys.wsi_image(slide)
    if name not in sdata.images or slide not in get_transformation(sdata.images[name], get_all=True):
        return None
    return name


def _legend_below(ax: "Axes", colours: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    dots = [Line2D([], [], marker="o", linestyle="", color=colour, label=name) for name, colour in colours.items()]
    ax.legend(handles=dots, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, frameon=False, handletextpad=0.1)


# --- UMAP ------------------------------------------------------------------------------------------------------------


def umap_figure(adata: "AnnData", colour_by: Sequence[str]) -> "Figure":
    """Draw the UMAP, a panel for each column of `obs`."""
    order = np.random.default_rng(0).permutation(adata.n_obs)
    place = adata.obsm["X_umap"][order]
    size = float(np.clip(12_000 / adata.n_obs, 0.5, 30))
    with style():
        width, height = len(colour_by) * _SIDE, _SIDE + _LEGEND
        figure = new_figure(width, height)
        room = {"left": 0.02, "right": 0.98, "top": 1 - 0.35 / height, "bottom": _LEGEND / height}
        for ax, key in zip(
            figure.subplots(1, len(colour_by), squeeze=False, gridspec_kw=room)[0], colour_by, strict=True
        ):
            colours = colours_of(adata.obs, key)
            shown = adata.obs[key].astype("str").iloc[order].map(colours).fillna("#b8b8b8")
            ax.scatter(place[:, 0], place[:, 1], s=size, c=shown.tolist(), linewidths=0)
            bare(ax)
            ax.set_title(plainly(key))
            _legend_below(ax, colours)
    return figure


# --- communication -------------------------------------------------------------------------------------------------------


def communication_figure(sent: "pd.DataFrame", planted: Collection[tuple[str, str]] = ()) -> "Figure":
    """Draw the share of all signal that goes from each group (rows) to each group (columns).

    Parameters
    ----------
    sent
        Signal from group to group.
    planted
        Pairs to outline.
    """
    with style():
        side = 0.62 * len(sent) + 0.6
        width, height = side + 2.6, side + 2.3
        figure = new_figure(width, height)
        ax = figure.add_axes((1.7 / width, 1.6 / height, side / width, side / height))
        draw_communication(ax, sent, planted)
        bar = figure.add_axes(((1.85 + side) / width, 1.6 / height, 0.14 / width, side / height))
        figure.colorbar(ax.images[0], cax=bar, label="share of all signal, %")
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
