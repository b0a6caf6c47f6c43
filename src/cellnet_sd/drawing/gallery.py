"""The gallery: cards of several cells on one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd import keys
from cellnet_sd.drawing.cards import LEVELS, Card, card_height, card_width, draw_card
from cellnet_sd.drawing.style import colours_of, is_known, new_figure
from cellnet_sd.drawing.subject import Rows, Subject, diverse_rows, subject
from cellnet_sd.errors import SelectionError
from cellnet_sd.layout import CELL_DIAMETER, LABELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SPACE: Final = 0.16
"""Between cards, inches."""


@dataclass(frozen=True)
class Contents:
    """What cards show; see `cellnet_sd.pl.gallery`."""

    levels: tuple[str, ...]
    genes: Sequence[str] | None
    n_genes: int
    label: str

    def __post_init__(self) -> None:
        for level in self.levels:
            if level not in LEVELS:
                msg = f"level={level!r} is not one of {', '.join(map(repr, LEVELS))}."
                raise ValueError(msg)


def draw_gallery(
    obj: Any,
    contents: Contents,
    *,
    cells: Any,
    n: int,
    n_columns: int | None,
    seed: int,
    source: str | Path | None,
    table: str,
) -> "Figure":
    """Draw the cards of some cells; see `cellnet_sd.pl.gallery`."""
    of = subject(obj, source=source, table=table)
    if contents.label not in LABELS:  # those are drawn where they are there
        of.require([contents.label])
    labels = of.obs.get(contents.label)
    rows = diverse_rows(labels, len(of.obs), n, seed) if cells is None else of.rows(cells)
    if not len(rows):
        msg = "There is no cell to draw."
        raise ValueError(msg)
    return _page(make_cards(of, rows, contents), n_columns or min(2, len(rows)))


def _page(cards: Sequence[Card], n_columns: int) -> "Figure":
    width = card_width(len(cards[0].images), with_genes=any(card.genes for card in cards))
    height = card_height(cards, width)
    n_rows = -(-len(cards) // n_columns)
    across, up = width + _SPACE, height + _SPACE
    with new_figure(n_columns * across + _SPACE, n_rows * up + _SPACE) as figure:
        for place, card in enumerate(cards):
            row, column = divmod(place, n_columns)
            corner = (_SPACE + column * across, _SPACE + (n_rows - 1 - row) * up)
            draw_card(figure, card, corner, (width, height))
    return figure


# --- from cells to cards ---------------------------------------------------------------------------------------------


def make_cards(of: Subject, rows: Rows, contents: Contents) -> list[Card]:
    """Return the cards of the cells at `rows`."""
    images = {level: of.patches(level, rows) for level in contents.levels}
    genes = _genes(of, rows, contents)
    captions = of.captions(rows)
    obs = of.obs.iloc[rows]
    colours = colours_of(of.obs, contents.label)
    places = _in_wsi(of, rows)
    cards = []
    for number, (name, cell) in enumerate(obs.iterrows()):
        label = str(cell[contents.label]) if contents.label in obs else ""
        cards.append(
            Card(
                name=str(name),
                label=label,
                colour=colours.get(label, "none"),
                facts=_facts(cell, contents.label),
                caption=captions[number],
                images={level: None if stack is None else stack[number] for level, stack in images.items()},
                genes=genes[number],
                diameter=float(cell.get(CELL_DIAMETER, np.nan)),
                slide=str(cell.get(keys.SLIDE, "")),
                in_wsi=places[number],
            )
        )
    return cards


def _facts(cell: Any, label: str) -> str:
    """Return the labels of a cell that say something, each once, and its diameter."""
    told = [str(cell[name]) for name in LABELS if name in cell and name != label and is_known(cell[name])]
    diameter = cell.get(CELL_DIAMETER, np.nan)
    if np.isfinite(diameter):
        told.append(f"{diameter:g} µm")
    return "  ·  ".join(dict.fromkeys(told))


def _genes(of: Subject, rows: Rows, contents: Contents) -> list[list[tuple[str, float]]]:
    if contents.genes is None and not contents.n_genes:
        return [[] for _ in rows]
    profiles = of.profiles(rows)
    if contents.genes is None:
        return [_most(of.genes, profile, contents.n_genes) for profile in profiles]
    places = [_place(of.genes, gene) for gene in contents.genes]
    return [[(of.genes[place], float(profile[place])) for place in places] for profile in profiles]


def _most(genes: Sequence[str], profile: NDArray[np.float32], n: int) -> list[tuple[str, float]]:
    top = np.argsort(-profile, kind="stable")[:n]
    return [(genes[place], float(profile[place])) for place in top if profile[place] > 0]


def _place(genes: Sequence[str], gene: str) -> int:
    try:
        return genes.index(gene)
    except ValueError:
        msg = f"genes={gene!r} is not one of the {len(genes):,} genes."
        raise SelectionError(msg) from None


def _in_wsi(of: Subject, rows: Rows) -> list[tuple[float, float]]:
    """Return the place of each cell on its WSI image, in pixels of that image."""
    scales = of.wsi_scales()
    slides = of.obs[keys.SLIDE].astype(str).to_numpy()[rows] if keys.SLIDE in of.obs else [""] * len(rows)
    divisors = np.array([scales.get(slide) or np.nan for slide in slides], dtype=np.float64)
    # pixel i of the image covers the slide's pixels from i * scale, and its middle is drawn at i
    places = (of.positions(rows) + 0.5) / divisors[:, None] - 0.5
    return [(float(x), float(y)) for x, y in places]
