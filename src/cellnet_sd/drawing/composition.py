"""What a file is made of, as bars."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cellnet_sd.drawing.style import BAR, FADED, N_COLOURS, UNKNOWN_COLOUR, colours_of, new_figure, wrapped
from cellnet_sd.drawing.subject import subject
from cellnet_sd.layout import LABELS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BARS_SHOWN: Final = 20
_VALUES_SHOWN: Final = 10
_MAIN: Final = 6.0
"""Width of the main panel, inches."""
_SIDE: Final = 2.6
_NAMES: Final = 1.7
"""Room for names left of bars, inches."""
_LEGEND: Final = 2.1
_LEGEND_LINE: Final = 0.2
_ROW: Final = 0.34
_REST: Final = "others"


def draw_composition(obj: Any, *, by: str, label: str, others: Sequence[str] | None, table: str) -> "Figure":
    """Draw what cells there are; see `cellnet_sd.pl.composition`."""
    of = subject(obj, table=table)
    of.require([by, label, *(others or ())])
    obs = of.obs
    names = [name for name in (LABELS if others is None else others) if name in obs and name != label]
    counts = {name: _counts(obs[name], _VALUES_SHOWN) for name in names}
    crossed = _crossed(obs, by, label)
    several = {name: count for name, count in counts.items() if len(count) > 1}
    return _draw(crossed, colours_of(obs, label), several, _constants(counts), by)


def _counts(column: "pd.Series", shown: int) -> "pd.Series":
    """Return how many cells have each value, the most frequent first; the rest together."""
    import pandas as pd

    counts = column.astype("str").fillna("missing").value_counts()
    counts = counts[counts > 0]
    if len(counts) <= shown:
        return counts
    rest = pd.Series({f"{len(counts) - shown + 1:,} {_REST}": counts.iloc[shown - 1 :].sum()})
    return pd.concat([counts.iloc[: shown - 1], rest])


def _crossed(obs: "pd.DataFrame", by: str, label: str) -> "pd.DataFrame":
    """Return cells by `by` (rows, in their order) and `label` (columns, the most frequent first)."""
    import pandas as pd

    kept = _counts(obs[label], N_COLOURS)
    labels = obs[label].astype("str").fillna("missing")
    values = _lumped(labels, kept).rename(label)
    slides = obs[by].astype("str").fillna("missing")
    bars = _lumped(slides, _counts(slides, _BARS_SHOWN))
    # the bars in the order of the file, those taken together last
    order = dict.fromkeys([*slides[bars == slides], *bars])
    return pd.crosstab(bars, values).loc[list(order), list(kept.index)]


def _lumped(values: "pd.Series", counts: "pd.Series") -> "pd.Series":
    """Return values, those that `counts` takes together by its name for them."""
    return values.where(values.isin(counts.index), counts.index[-1])


def _constants(counts: dict[str, "pd.Series"]) -> str:
    return "  ·  ".join(f"{_plainly(name)}: {count.index[0]}" for name, count in counts.items() if len(count) == 1)


# --- drawing ---------------------------------------------------------------------------------------------------------


def _draw(
    crossed: "pd.DataFrame", colours: dict[str, str], counts: dict[str, "pd.Series"], constants: str, by: str
) -> "Figure":
    width = _NAMES + _MAIN + _LEGEND + len(counts) * (_NAMES + _SIDE + 0.5) + 0.3
    head, foot = 0.75 if constants else 0.5, 0.65
    most = max([len(crossed), *(len(count) for count in counts.values())])
    body = max(most * _ROW, crossed.shape[1] * _LEGEND_LINE - foot, 2 * _ROW)
    height = head + body + foot
    with new_figure(width, height) as figure:

        def panel(left: float, wide: float, n_bars: int) -> "Axes":
            tall = n_bars * _ROW
            return figure.add_axes((left / width, (height - head - tall) / height, wide / width, tall / height))

        _stacked(panel(_NAMES, _MAIN, len(crossed)), crossed, colours, by)
        left = _NAMES + _MAIN + _LEGEND
        for name, count in counts.items():
            _plain(panel(left + _NAMES, _SIDE, len(count)), count, name)
            left += _NAMES + _SIDE + 0.5
        if constants:
            words = wrapped(f"All cells: {constants}", width - 0.4, 8, 1)
            figure.text(0.2 / width, 1 - 0.2 / height, words, fontsize=8, color=FADED, va="center")
    return figure


def _stacked(ax: "Axes", crossed: "pd.DataFrame", colours: dict[str, str], by: str) -> None:
    places, start = np.arange(len(crossed)), np.zeros(len(crossed))
    for name in crossed.columns:
        cells = crossed[name].to_numpy()
        look: dict[str, Any] = {
            "color": colours.get(name, UNKNOWN_COLOUR),
            "height": 0.72,
            "edgecolor": "white",
            "linewidth": 0.5,
        }
        ax.barh(places, cells, left=start, label=name, **look)
        start = start + cells
    _dress(ax, [str(name) for name in crossed.index], start)
    ax.set_title(f"cells by {_plainly(by)} and {_plainly(crossed.columns.name)}", loc="left")
    ax.legend(bbox_to_anchor=(1.02, 1.0), loc="upper left", frameon=False, borderaxespad=0, handlelength=1.0)


def _plain(ax: "Axes", count: "pd.Series", name: str) -> None:
    ax.barh(np.arange(len(count)), count.to_numpy(), color=BAR, height=0.72)
    _dress(ax, [str(value) for value in count.index], count.to_numpy())
    ax.set_title(_plainly(name), loc="left")


def _plainly(column: object) -> str:
    return str(column).replace("_", " ")


def _dress(ax: "Axes", names: Sequence[str], totals: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.set_yticks(np.arange(len(names)), [wrapped(name, _NAMES - 0.15, 8, 2) for name in names])
    ax.set_ylim(len(names) - 0.45, -0.55)
    ax.set_xlim(0, max(totals) * 1.14)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("cells")
    for place, total in enumerate(totals):
        ax.text(total, place, f" {total:,.0f}", va="center", fontsize=8, color=FADED)
