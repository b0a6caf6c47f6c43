"""How figures look: colours that colour-blind readers can tell apart, text that fits, figures that show once."""

import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#222222"
FADED: Final = "#6b6b6b"
UNKNOWN_COLOUR: Final = "#b8b8b8"
ACCENT: Final = "#d55e00"
BAR: Final = "#5b7fa6"

# Okabe & Ito's palette without black, its yellow last; then Paul Tol's "muted" ones that differ from these.
_COLOURS: Final = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#f0e442",
    "#332288",
    "#999933",
    "#882255",
    "#88ccee",
    "#117733",
    "#ddcc77",
    "#aa4499",
    "#44aa99",
)
N_COLOURS: Final = len(_COLOURS)
UNKNOWN: Final = frozenset({"", "nan", "na", "none", "unknown", "unassigned", "not_a_niche"})
"""Labels, in lower case, that say that there is none."""

_RC: Final = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FADED,
    "axes.labelcolor": INK,
    "xtick.color": FADED,
    "ytick.color": FADED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
}
_CHARACTER_PT: Final = 0.53
"""Mean width of a character relative to the size of the font."""


@contextmanager
def new_figure(width: float, height: float) -> Iterator["Figure"]:
    """Give an empty figure, `width` by `height` inches, and this module's style while it is filled.

    pyplot makes it, so that a notebook knows how to draw it, and lets go of it at once: it shows once, as the value of
    its cell.
    """
    from matplotlib import pyplot as plt
    from matplotlib import rc_context

    # before rc_context, which would take back what a notebook's backend sets when the first figure loads it
    figure = plt.figure(figsize=(width, height), facecolor="white")
    plt.close(figure)
    with rc_context(dict(_RC)):
        yield figure


def is_known(label: object) -> bool:
    """Whether a label says anything."""
    return str(label).strip().lower() not in UNKNOWN


def palette(labels: Iterable[object], first: int = 0) -> dict[str, str]:
    """Return a colour for each of the labels, in their order; grey for those that say nothing.

    Parameters
    ----------
    labels
        The labels.
    first
        Which colour comes first, so that two columns of one figure do not share theirs.
    """
    names = list(dict.fromkeys(str(label) for label in labels))
    known = [name for name in names if is_known(name)]
    colours = {name: _COLOURS[(first + place) % N_COLOURS] for place, name in enumerate(known)}
    return {name: colours.get(name, UNKNOWN_COLOUR) for name in names}


def colours_of(obs: "pd.DataFrame", label: str, first: int = 0) -> dict[str, str]:
    """Return a colour for each value of a column, the same in every figure; none if there is no such column."""
    if label not in obs:
        return {}
    column = obs[label]
    values = column.cat.categories if hasattr(column, "cat") else column.dropna().astype("str").unique()
    return palette(sorted(map(str, values)), first)


def wrapped(text: str, width: float, size: float, lines: int) -> str:
    """Return `text` broken into at most `lines` lines that fit into `width` inches in a font of `size` points."""
    characters = max(int(width * 72 / (size * _CHARACTER_PT)), 8)
    return "\n".join(textwrap.wrap(" ".join(text.split()), characters, max_lines=lines, placeholder=" …"))


def bare(ax: "Axes") -> None:
    """Take ticks and frame from a panel."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
