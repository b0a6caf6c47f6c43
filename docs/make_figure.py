"""Draw the figure of the README from a synthetic tissue: `python docs/make_figure.py`."""

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from cellnet_sd import keys
from cellnet_sd.demo import run
from cellnet_sd.demo.analysis import CELL_TYPE, DOMAIN
from cellnet_sd.demo.figures import View, colours, draw_communication, draw_slide, legend_below, plainly
from cellnet_sd.drawing.cards import card_height, card_width, draw_card
from cellnet_sd.drawing.gallery import Contents, make_cards
from cellnet_sd.drawing.style import new_figure, style
from cellnet_sd.drawing.subject import subject

SHOWN = ("Malignant epithelial", "T-cell", "Endothelial")
PANEL, HEAT, GAP, HEAD = 3.7, 2.75, 0.35, 0.4
FOOT = 1.05


def cards_of(sdata):
    """Return a card of one cell of each type shown, the first that lies well inside its slide."""
    of = subject(sdata)
    view = View.of(sdata, "slide_1")
    x, y = of.holder.obsm[keys.SPATIAL].T
    inside = (abs(x - view.left - view.width / 2) < view.width / 4) & (
        abs(y - view.top - view.height / 2) < view.height / 4
    )
    central = inside & (of.obs[keys.SLIDE] == "slide_1")
    rows = [(central & (of.obs[CELL_TYPE] == kind)).to_numpy().nonzero()[0][0] for kind in SHOWN]
    return make_cards(of, of.rows(rows), Contents(("cell", "tissue", "wsi"), None, 6, CELL_TYPE))


def draw(result, tissue_pairs):
    """Return the figure: a slide, its cells by type and domain, who signals to whom, and three cells."""
    sdata = result.sdata
    obs, view = sdata[keys.TABLE].obs, View.of(sdata, "slide_1")
    cards = cards_of(sdata)
    card = (card_width(3, with_genes=True), 0.0)
    card = (card[0], card_height(cards, card[0]))
    side = PANEL * view.height / view.width
    height = max(2 * side + 2 * HEAD + 2 * FOOT + 0.4, 3 * (card[1] + 0.16) + 0.16)
    width = 2 * (PANEL + GAP) + GAP + card[0] + 0.3
    with style():
        figure = new_figure(width, height)

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
        draw_communication(heat, result.sent, tissue_pairs)
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
    output = parser.parse_args().output
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        result = run(None, Path(folder), n_cells=parser.parse_args().n_cells, say=print)
        draw(result, result.planted).savefig(output, dpi=100)
    # 256 colours are enough, and a third of the bytes
    Image.open(output).convert("RGB").quantize(256).save(output, optimize=True)
    print(f"{output}: {output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
