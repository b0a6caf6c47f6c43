"""Draw the figure of the README from a synthetic tissue: `python docs/make_figure.py`."""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from cellnet_sd import keys
from cellnet_sd.demo import run
from cellnet_sd.demo.analysis import CELL_TYPE, DOMAIN
from cellnet_sd.demo.figures import View, colours, draw_communication, draw_slide, legend_below, plainly
from cellnet_sd.demo.telling import others_quiet
from cellnet_sd.drawing.cards import card_height, card_width, draw_card
from cellnet_sd.drawing.gallery import Contents, make_cards
from cellnet_sd.drawing.style import new_figure
from cellnet_sd.drawing.subject import subject

SHOWN = ("Malignant epithelial", "T-cell", "Endothelial")
PANEL, HEAT, GAP, HEAD = 3.7, 2.75, 0.35, 0.4
FOOT = 1.05


def cards_of(sdata):
    """Return a card of one cell of each type shown: the one nearest to the middle of its slide."""
    of = subject(sdata)
    slide = (of.obs[keys.SLIDE] == "slide_1").to_numpy()
    place = of.holder.obsm[keys.SPATIAL]
    far = np.linalg.norm(place - place[slide].mean(axis=0), axis=1)
    rows = [np.where(slide & (of.obs[CELL_TYPE] == kind), far, np.inf).argmin() for kind in SHOWN]
    return make_cards(of, of.rows(rows), Contents(("cell", "tissue", "wsi"), None, 6, CELL_TYPE))


def draw(result):
    """Return the figure: a slide, its cells by type and domain, who signals to whom, and three cells."""
    sdata = result.sdata
    obs, view = sdata[keys.TABLE].obs, View.of(sdata, "slide_1")
    cards = cards_of(sdata)
    wide = card_width(3, with_genes=True)
    card = (wide, card_height(cards, wide))
    side = PANEL * view.height / view.width
    height = max(2 * side + 2 * HEAD + 2 * FOOT + 0.4, 3 * (card[1] + 0.16) + 0.16)
    width = 2 * (PANEL + GAP) + GAP + card[0] + 0.3
    with new_figure(width, height) as figure:

        def panel(left, bottom, wide, tall):
            return figure.add_axes((left / width, bottom / height, wide / width, tall / height))

        upper, lower = height - HEAD - side, FOOT + 0.1
        slides = [
            panel(GAP, upper, PANEL, side),
            panel(2 * GAP + PANEL, upper, PANEL, side),
            panel(GAP, lower, PANEL, side),
        ]
        draw_slide(sdata, view, slides, (CELL_TYPE, DOMAIN))
        slides[0].set_ylabel("")
        for ax, title in zip(slides, ("H&E", CELL_TYPE, DOMAIN), strict=True):
            ax.set_title(plainly(title), loc="left", fontweight="bold")
        for ax, key in zip(slides[1:], (CELL_TYPE, DOMAIN), strict=True):
            legend_below(ax, colours(obs, key))
        heat = panel(2 * GAP + 2 * PANEL - HEAT, lower + 0.35, HEAT, HEAT)
        draw_communication(heat, result.sent, result.planted)
        heat.set_title("", loc="left")
        heat.set_title("who signals to whom, % of all signal", loc="right", fontweight="bold")
        for place, one in enumerate(cards):
            bottom = height - 0.16 - (place + 1) * card[1] - place * (height - 0.32 - 3 * card[1]) / 2
            draw_card(figure, one, (width - card[0] - 0.16, bottom), card)
    return figure


def main():
    """Make the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "_static" / "overview.png")
    parser.add_argument("--n-cells", type=int, default=3_000)
    asked = parser.parse_args()
    output = asked.output
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, others_quiet():
        result = run(None, Path(folder), n_cells=asked.n_cells, say=print)
        draw(result).savefig(output, dpi=100)
    # 256 colours are enough, and a third of the bytes
    Image.open(output).convert("RGB").quantize(256).save(output, optimize=True)
    print(f"{output}: {output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
