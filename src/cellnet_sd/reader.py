"""The verbs that read: `read` and `read_anndata`. They choose rows, build the table, and add the elements."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from cellnet_sd.components.ccc.layouts import CCCLayoutName
from cellnet_sd.components.expression import ExpressionKind
from cellnet_sd.findings import Choices, absolute
from cellnet_sd.joining import TableOfFiles
from cellnet_sd.joining.namespaces import files_words, labels_of, panels_of, rows_of_files, with_one_namespace
from cellnet_sd.notes import Notes
from cellnet_sd.problems import OnError
from cellnet_sd.rows import CellOrder
from cellnet_sd.selection import Cells, select_rows
from cellnet_sd.sources.access import Engine
from cellnet_sd.sources.hdf5 import Hdf5Source
from cellnet_sd.sources.opening import open_source
from cellnet_sd.sources.paths import is_path, is_remote, source_path
from cellnet_sd.table import Panel, Switches, TableBuilder
from cellnet_sd.workers import Workers

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData
    from upath import UPath

type Paths = str | Path | UPath | Sequence[str | Path | UPath]
Images = bool | Sequence[Literal["wsi", "tissue", "cell"]]
Patches = Sequence[Literal["cell", "tissue"]]
_LEVELS = ("wsi", "tissue", "cell")
_STACKED = ("cell", "tissue")


def read(
    path: Paths,
    *,
    where: str | None = None,
    cells: Cells | None = None,
    slides: Sequence[str] | None = None,
    genes: Sequence[str] | None = None,
    backed: bool = False,
    expression: bool | ExpressionKind = True,
    captions: bool = True,
    images: Images = True,
    patches: Patches = ("cell",),
    ccc: bool | Literal["pairs"] = True,
    ccc_layout: CCCLayoutName | None = None,
    gene_list: str | Path | None = None,
    slide_key: str | None = None,
    cell_order: CellOrder | None = None,
    mpp: float | None = None,
    wsi_scale: float | None = None,
    on_error: OnError = "raise",
    index: bool | None = None,
    engine: Engine | None = None,
    n_threads: int | None = None,
) -> "SpatialData":
    """Read a Cell-NET file, or several as one, as SpatialData.

    Images are lazy; expression is read now, unless `backed`.

    Parameters
    ----------
    path
        A Cell-NET HDF5 file, or its URL, such as `"s3://bucket/cellnet.h5"`; a `UPath` where the file system takes
        options. Of a remote file, whose index must be there, only the bytes that are needed are fetched. Or several: of
        those, the genes are those of any file, zero where one does not hold them, and `varm["measured"]` says which it
        does; slides whose names clash get the file's name before theirs; all that is asked for below is asked of each
        file, and a name must be in one of them.
    where
        Which cells: a pandas `DataFrame.query` expression on the attributes and `slide`, such as
        `"tissue == 'Lymph node' and cell_diameter > 8"`. Nothing is read of the cells it leaves out.
    cells
        Which cells: names, row numbers, a slice of them or a boolean mask. Names and numbers also set the order.
    slides
        Which cells: those of these slides.
    genes
        Which genes, by name or identifier; returned in this order.
    backed
        Make `X` a dask array of CSR blocks that are read when they are computed. What is wrong with a value then raises
        when its block is computed; `on_error` acts on what the index knows.
    expression
        Whether to read expression; `"lognorm"` or `"counts"` says what it is where the file leaves a doubt.
    captions
        Whether to read captions, into `obs["caption"]`.
    images
        Which images become elements: `"wsi"`, the downsampled slide; `"tissue"`, the slide rebuilt from its overlapping
        tissue patches; and `"cell"`, the stacks of patches. All for `True`, none for `False`.
    patches
        Which patches are stacked: `"cell"`, `"tissue"`.
    ccc
        Whether to read cell-cell communication; `"pairs"` also gives a matrix per ligand-receptor pair.
    ccc_layout
        What the axes of the stored CCC count, where the file leaves a doubt.
    gene_list
        A file that names the genes.
    slide_key
        What tells slides apart: an attribute's name, `"container"` or `"WSI_patch"`.
    cell_order
        Order of the rows, which CCC counts by: `"creation"`, `"stored"`, `"natural"` or `"name"`.
    mpp
        Micrometres per pixel of the slides.
    wsi_scale
        Slide pixels per pixel of the WSI patch.
    on_error
        What to do with malformed cells: `"raise"`, or leave them out with (`"warn"`) or without (`"skip"`) a warning.
    index
        Whether to save the index beside the file if there is none; `None` leaves it to `settings.index`.
    engine
        What reads the file: `"native"`, its own structures, or `"h5py"`, libhdf5. `"auto"` is native, and h5py for what
        that does not know. `None` leaves it to `settings.engine`, which is `"auto"`.
    n_threads
        How many threads read and decode; `None` leaves it to `settings.n_threads`, which is the number of cores.

    Returns
    -------
    SpatialData
        One table, `"table"`, over all slides: `X` CSR float32 (n_cells, n_genes); `obs` with the attributes, `slide`,
        `region`, `cell_id`, `source_file`, `source_row`, `cell_patch`; `obsm["spatial"]` and `obsm["spatial_tissue"]`,
        float64 (n_cells, 2) in pixels, x then y; `obsp["ccc_connectivities"]`, CSR, rows send. Of several files,
        `varm["measured"]`, bool (n_genes, n_files). Per slide:
        `shapes["{slide}_cells"]`, circles; `images["{slide}_wsi"]`; `images["{slide}_tissue"]`, multiscale and lazy by
        block; `images["{slide}_cell_patches"]`, Image3D (c, z, y, x) with `obs["cell_patch"]` = z.
        Coordinate systems: `{slide}` in pixels, `{slide}_um` in µm where known, `{slide}_patches` for the stacks.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    RemoteError
        If a remote file cannot be reached, or has no index (`NoIndexError`).
    LayoutError
        If it is not Cell-NET, or a component cannot be told for sure.
    MalformedCellError
        Under `on_error="raise"`, if a cell is malformed.
    SelectionError
        If a cell, slide, gene or column that was asked for is not in the file.
    NotEnoughMemoryError
        If expression does not fit in memory.
    """
    table, levels = table_of(locals())
    from cellnet_sd.elements import spatial_data

    adata = table.build()
    sdata = spatial_data(adata, table.pieces(adata), levels=levels, patches=table.parts[0].switches.patches)
    table.speak()
    return sdata


def read_anndata(
    path: Paths,
    *,
    where: str | None = None,
    cells: Cells | None = None,
    slides: Sequence[str] | None = None,
    genes: Sequence[str] | None = None,
    backed: bool = False,
    expression: bool | ExpressionKind = True,
    captions: bool = True,
    images: bool = True,
    ccc: bool | Literal["pairs"] = True,
    ccc_layout: CCCLayoutName | None = None,
    gene_list: str | Path | None = None,
    slide_key: str | None = None,
    cell_order: CellOrder | None = None,
    mpp: float | None = None,
    on_error: OnError = "raise",
    index: bool | None = None,
    engine: Engine | None = None,
    n_threads: int | None = None,
) -> "AnnData":
    """Read a Cell-NET file as AnnData: the table that `read` gives, without the elements.

    Parameters
    ----------
    path, where, cells, slides, genes, backed, expression, captions, ccc, ccc_layout
        As in `read`.
    gene_list, slide_key, cell_order, mpp, on_error, index, engine, n_threads
        As in `read`.
    images
        Whether `obs["cell_patch"]` says which cells have a patch, for `cellnet_sd.patches`. No image is read.

    Returns
    -------
    AnnData
        `X` CSR float32 (n_cells, n_genes); see `read`. `uns["spatialdata_attrs"]` names the elements that its cells
        belong to, so that it can be put into a SpatialData; no element is made.

    Raises
    ------
    FileNotFoundError, CellNetError
        As `read`.
    """
    table, _ = table_of(locals())
    adata = table.build()
    table.speak()
    return adata


def table_of(asked: Mapping[str, Any], workers: Workers | None = None) -> tuple[TableOfFiles, tuple[str, ...]]:
    """Return what builds the table that is asked for, and which images become elements.

    Parameters
    ----------
    asked
        The parameters of `read`, or of `read_anndata`, by name, with `path`.
    workers
        Who builds the index if there is none: threads of this process for `None`.
    """
    levels = _levels(asked["images"])
    patches = _stacked(asked.get("patches", ("cell",)), levels)
    expression, ccc = asked["expression"], _checked_ccc(asked["ccc"])
    switches = Switches(
        expression, asked["captions"], patches, ccc, asked["backed"], asked["genes"], asked["on_error"], levels
    )
    choices = Choices(
        slide_key=asked["slide_key"],
        cell_order=asked["cell_order"],
        gene_list=absolute(asked["gene_list"]),
        expression=_kind(expression),
        mpp=asked["mpp"],
        wsi_scale=asked.get("wsi_scale"),
        ccc_layout=asked["ccc_layout"],
    )
    how = {name: asked[name] for name in ("index", "engine", "n_threads")}
    sources = [open_source(path, choices, workers=workers, **how) for path in paths_of(asked["path"])]
    chosen = {name: asked[name] for name in ("where", "cells", "slides")}
    if len(sources) > 1:
        return _joined(sources, chosen, switches), levels
    rows = select_rows(sources[0].index, **chosen)
    rows = np.arange(len(sources[0].index)) if rows is None else rows
    return TableOfFiles([TableBuilder(sources[0], rows, switches)]), levels


def paths_of(path: Paths) -> list[Path]:
    """Return the files that are asked for.

    Raises
    ------
    ValueError
        If there are none, or one is named twice.
    """
    listed = [path] if is_path(path) else path
    paths = [source_path(each) for each in cast("Sequence[str | Path | UPath]", listed)]
    if not paths:
        msg = f"path={path!r} names no file."
        raise ValueError(msg)
    places: set[str] = set()
    for each in paths:
        place = str(each if is_remote(each) else each.resolve())
        if place in places:  # the list may be of hundreds: which one matters
            msg = f"{each} is named twice among the files to read. Name it once."
            raise ValueError(msg)
        places.add(place)
    return paths


def _joined(sources: Sequence[Hdf5Source], chosen: Mapping[str, Any], switches: Switches) -> TableOfFiles:
    """Return what builds the table of several files: those of which cells are taken."""
    notes = Notes(files_words([source.path for source in sources]))
    labels = labels_of([source.path for source in sources])
    sources = with_one_namespace(sources, labels)
    rows_of = rows_of_files(sources, notes, **chosen)
    labels = [label for label, rows in zip(labels, rows_of, strict=True) if len(rows)]
    taken = [(source, rows) for source, rows in zip(sources, rows_of, strict=True) if len(rows)]
    panels: list[Panel | None] = [None] * len(taken)
    if switches.expression:
        panels = [*panels_of([source for source, _ in taken], switches.genes, notes)]
    parts = [TableBuilder(*own, switches, panel) for own, panel in zip(taken, panels, strict=True)]
    return TableOfFiles(parts, labels, notes)


def _kind(expression: bool | ExpressionKind) -> ExpressionKind | None:  # noqa: FBT001
    if expression not in (True, False, "lognorm", "counts"):
        msg = f"expression={expression!r} is not one of True, False, 'lognorm', 'counts'."
        raise ValueError(msg)
    return None if isinstance(expression, bool) else expression


def _levels(images: Images) -> tuple[str, ...]:
    if isinstance(images, bool):
        return _LEVELS if images else ()
    return _checked("images", images, _LEVELS)


def _stacked(patches: Patches, levels: Sequence[str]) -> tuple[str, ...]:
    stacked = _checked("patches", patches, _STACKED)
    if "cell" in levels:
        return stacked
    if stacked != ("cell",):
        msg = f"patches={patches!r} asks for stacks of patches, images= leaves them out. Pass images=True."
        raise ValueError(msg)
    return ()


def _checked_ccc(ccc: bool | Literal["pairs"]) -> bool | Literal["pairs"]:  # noqa: FBT001
    if ccc not in (True, False, "pairs"):
        msg = f"ccc={ccc!r} is not one of True, False, 'pairs'."
        raise ValueError(msg)
    return ccc


def _checked(name: str, asked: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    asked = (asked,) if isinstance(asked, str) else tuple(asked)
    unknown = [word for word in asked if word not in known]
    if unknown:
        msg = f"{name}={unknown[0]!r} is not one of {', '.join(map(repr, known))}."
        raise ValueError(msg)
    return asked
