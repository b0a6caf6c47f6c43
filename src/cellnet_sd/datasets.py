"""Data to try things on: a synthetic tissue whose every truth is known."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.outputs import check_output
from cellnet_sd.sources.hdf5_sink import DEFAULT_LIBVER, Compression, Libver

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SyntheticTissue", "synthetic"]


@dataclass(frozen=True, slots=True)
class SyntheticTissue:
    """The truth of a synthetic file, to score against.

    Parameters
    ----------
    path
        The Cell-NET file.
    cells
        One row per cell, in the file's row order: `name`, `slide`, `x`, `y` (slide pixels), `domain`, `cell_type`,
        `diameter` (µm).
    pairs
        The planted signals: `ligand`, `receptor`, `sender`, `receiver` (cell types).
    markers
        Genes that one cell type expresses far above all others, by cell type.
    slides
        The full-resolution slides, (H, W, 3) uint8, by name: the container's, or the file's stem for a single slide.
    """

    path: Path
    cells: "pd.DataFrame"
    pairs: "pd.DataFrame"
    markers: Mapping[str, tuple[str, ...]]
    slides: Mapping[str, NDArray[np.uint8]]


def synthetic(
    path: str | os.PathLike[str],
    *,
    n_cells: int = 2_000,
    n_genes: int = 300,
    n_slides: int = 2,
    seed: int = 0,
    mpp: float = 1.0,
    cell_area_um2: float = 100.0,
    n_pairs: int = 6,
    noise: float = 1.0,
    compression: Compression = "gzip",
    libver: Libver = DEFAULT_LIBVER,
    progress: bool | None = None,
    overwrite: bool = False,
) -> SyntheticTissue:
    """Write a Cell-NET file of a tissue that never was, and return the truth about it.

    Slides of irregular outline hold contiguous domains (tumour nest, stroma, immune aggregate, vascular bed) that mix
    six cell types differently. Cells express marker genes, and signal through ligand-receptor pairs to cells within
    200 µm. Their nuclei are drawn into a slide that looks like haematoxylin and eosin, from which all patches are truly
    cropped. Attributes and captions tell the cell type but never the domain.

    Rows go slide by slide (containers `slide_1`, `slide_2`, …; the root when there is one slide), within a slide by
    `y`, then `x`. The truth about the cells is also written beside the file, as `{stem}.truth.csv.gz`. Equal arguments
    give equal datasets.

    Parameters
    ----------
    path
        The file to write.
    n_cells, n_genes, n_slides
        Cells over all slides, genes, slides. Genes are at least one marker per cell type and two per pair.
    seed
        Determines everything that is random.
    mpp
        Micrometres per pixel of the slides.
    cell_area_um2
        Area of tissue per cell, µm².
    n_pairs
        Ligand-receptor pairs to plant, up to 10.
    noise
        Overdispersion of the counts: 1 is like real tissue, 0 leaves the counts Poisson.
    compression, libver
        Storage, as in `cellnet_sd.sources.hdf5_sink.Hdf5Sink`.
    progress
        Whether to show a progress bar when writing takes longer than a second; `None`: in a terminal, unless
        `settings.progress` is false.
    overwrite
        Whether existing files may be replaced.

    Returns
    -------
    SyntheticTissue
        The truth, and the slides.

    Raises
    ------
    FileNotFoundError
        There is no folder to write them in.
    OutputExistsError
        The file, or the truth beside it, exists and `overwrite` is false.
    ValueError
        A number is out of its range.
    """
    import pandas as pd

    from cellnet_sd.synthetic.output import cells_table, write_cells
    from cellnet_sd.synthetic.tissue import Recipe, make_slides

    path = Path(path)
    truth = path.with_name(f"{path.stem}.truth.csv.gz")
    for output in (path, truth):
        check_output(output, overwrite=overwrite)
    panel, made = make_slides(Recipe(n_cells, n_genes, n_slides, n_pairs, seed, mpp, cell_area_um2, noise))
    slides = dict(zip(_slide_names(path, n_slides), made, strict=True))
    cells = cells_table(slides)
    storage = {"compression": compression, "libver": libver, "overwrite": overwrite}
    write_cells(path, slides, panel, cells["name"].tolist(), mpp, progress=progress, **storage)
    cells.to_csv(truth, index=False, compression={"method": "gzip", "mtime": 0})
    pairs = pd.DataFrame(panel.signals, columns=["ligand", "receptor", "sender", "receiver"])
    return SyntheticTissue(path, cells, pairs, panel.markers, {name: slide.image for name, slide in slides.items()})


def _slide_names(path: Path, n_slides: int) -> list[str]:
    """Return the slides' names as a reader of the file finds them: the containers, or the file's stem."""
    return [f"slide_{number}" for number in range(1, n_slides + 1)] if n_slides > 1 else [path.stem]
