"""The synthetic tissue as a Cell-NET file, and its truth as tables."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cellnet_sd.layout import TISSUE_WINDOW_UM
from cellnet_sd.settings import settings
from cellnet_sd.sources.hdf5_sink import Hdf5Sink, Records
from cellnet_sd.synthetic.catalogue import CELL_TYPES, DOMAINS
from cellnet_sd.synthetic.communication import SignalRows
from cellnet_sd.synthetic.expression import Panel
from cellnet_sd.synthetic.geometry import block_side
from cellnet_sd.synthetic.patches import Crops, shrink
from cellnet_sd.synthetic.tissue import Slide, links_of_file

if TYPE_CHECKING:
    import pandas as pd

_CELL_SIDE: Final = 64
_BATCH: Final = 1_024


def cells_table(slides: Mapping[str, Slide]) -> "pd.DataFrame":
    """Return the truth about the cells, in the file's row order."""
    import numpy as np
    import pandas as pd

    tables = [
        pd.DataFrame(
            {
                "slide": name,
                "x": slide.cells.xy[:, 0],
                "y": slide.cells.xy[:, 1],
                "domain": np.array(DOMAINS)[slide.cells.domain],
                "cell_type": np.array(CELL_TYPES)[slide.cells.kind],
                "diameter": slide.cells.diameter,
            }
        )
        for name, slide in slides.items()
    ]
    cells = pd.concat(tables, ignore_index=True)
    cells.insert(0, "name", [f"Cell_{number:06}" for number in range(1, len(cells) + 1)])
    return cells


def write_cells(
    path: Path,
    slides: Mapping[str, Slide],
    panel: Panel,
    names: list[str],
    mpp: float,
    *,
    progress: bool | None,
    **storage: Any,
) -> None:
    """Write the cells to a Cell-NET file; one container per slide if there are several.

    Parameters
    ----------
    path, slides, panel, names, mpp
        Where to, what (by name of the slide), the genes, the names of the cells, and the slides' µm per pixel.
    progress
        Whether to show a bar; `None`: in a terminal, unless `settings.progress` is false.
    storage
        `compression`, `libver` and `overwrite` of the sink.
    """
    from tqdm import tqdm

    wsi = {name: shrink(slide.image, block_side(slide.image.shape[:2])) for name, slide in slides.items()}
    about: dict[str, Any] = {"gene_names": panel.genes, "wsi_images": wsi, "root_attrs": {"mpp": mpp}}
    pairs = [signal.pair for signal in panel.signals] or None
    with (
        Hdf5Sink(path, pair_names=pairs, **about, **storage) as sink,
        tqdm(
            total=len(names), desc=f"Writing {path.name}", unit=" cells", disable=_hidden(progress=progress), delay=1
        ) as bar,
    ):
        for records in _records(slides, names, mpp):
            sink.append(records)
            bar.update(len(records))


def _hidden(*, progress: bool | None) -> bool | None:
    """Return tqdm's `disable`, whose `None` means: unless stderr is a terminal."""
    if progress is not None:
        return not progress
    return None if settings.progress else True


def _records(slides: Mapping[str, Slide], names: list[str], mpp: float) -> Iterator[Records]:
    """Yield the cells in the file's order, in batches of one slide."""
    links = links_of_file(list(slides.values()))
    signals = SignalRows(links, len(names)) if links else None
    first = 0
    for name, slide in slides.items():
        container = name if len(slides) > 1 else ""
        for start in range(0, len(slide.captions), _BATCH):
            rows = slice(start, min(start + _BATCH, len(slide.captions)))
            in_file = slice(first + rows.start, first + rows.stop)
            yield Records(
                names=names[in_file],
                containers=[container] * (rows.stop - rows.start),
                expression=slide.expression[rows],
                attributes=slide.attributes[rows],
                captions=slide.captions[rows],
                cell_patches=Crops(slide.image, slide.cells.xy[rows], _CELL_SIDE),
                tissue_patches=Crops(slide.image, slide.cells.xy[rows], round(TISSUE_WINDOW_UM / mpp)),
                wsi=[name] * (rows.stop - rows.start),
                ccc=None if signals is None else signals[in_file],
            )
        first += len(slide.captions)
