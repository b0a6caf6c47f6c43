"""Finding the patches of an object's cells again: in the file they came from, or in the object's image elements."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd import keys
from cellnet_sd.components import images
from cellnet_sd.components.images import Frame
from cellnet_sd.errors import LayoutError, SourceMovedError
from cellnet_sd.findings import Choices
from cellnet_sd.frames import common_frame, warn_of_padding
from cellnet_sd.identity import Identity
from cellnet_sd.layout import PATCHES, Component
from cellnet_sd.notes import provenance, table_in
from cellnet_sd.rows import CellOrder
from cellnet_sd.sources.access import Access, Engine
from cellnet_sd.sources.base import Packed, Raw, Source, Unreadable
from cellnet_sd.sources.opening import open_source
from cellnet_sd.sources.paths import is_path, source_path

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData
    from upath import UPath
    from xarray import DataArray

_ELEMENTS = {"cell": (keys.cell_patches, keys.CELL_PATCH), "tissue": (keys.tissue_patches, keys.TISSUE_PATCH)}


def patches(
    obj: "SpatialData | AnnData | str | Path | UPath",
    level: str = "cell",
    *,
    from_slide: bool = False,
    source: "str | Path | UPath | None" = None,
    table: str = keys.TABLE,
    engine: Engine | None = None,
    n_threads: int | None = None,
) -> "DataArray":
    """Return the patches of cells as one lazy array, aligned with the table.

    The patches are found by `obs["source_file"]` and `obs["source_row"]` in the file they came from, so any subset,
    query or concatenation of tables keeps them. Where that file is gone, cell and tissue patches are taken from the
    stacks among the object's images, by `obs["slide"]` and `obs["cell_patch"]` or `obs["tissue_patch"]`.

    Parameters
    ----------
    obj
        A SpatialData or AnnData that `read` gave, or anything made from it; or the path or URL of a Cell-NET file.
    level
        `"cell"`, `"tissue"` or `"wsi"`.
    from_slide
        Cut cell and tissue patches out of the rebuilt slide of a SpatialData, `images["{slide}_tissue"]`, at the cells'
        positions: the file is not needed, and no stack. Where the file is consistent they equal the stored ones. Cells
        without a stored patch get one too; what no tissue patch shows is white.
    source
        Where the file is now, if it was moved: a path or a URL.
    table
        Name of the table of a SpatialData.
    engine, n_threads
        As in `read`.

    Returns
    -------
    xarray.DataArray
        (cell, y, x, c), channels last whatever was stored, uint8 or float as stored; coordinate `cell` holds the names
        of the cells. Lazy per row: `patches(obj)[rows].values` reads those rows only. Cells without a patch are white,
        with a warning that counts them. Patches of files or slides whose sizes differ are padded with white to the
        largest, with a warning.

    Raises
    ------
    FileNotFoundError
        If `obj` is a path and there is no such file.
    SourceMovedError
        If the file is gone or is another one, and the object has no such stacks.
    LayoutError
        If there are no patches of this level, no such table, or the object does not say where its cells came from.
        With `from_slide`, if the image of a slide is missing or moved, or cell patches were not cut from it at its
        scale.
    ValueError
        If there is no such level; or with `from_slide`, if it is `"wsi"`, `obj` is no SpatialData, or `source` is
        given.
    """
    component = component_of(level)
    if from_slide:
        return _cut(obj, level, source, table)
    if is_path(obj):
        opened = open_source(cast("str | Path | UPath", obj), engine=engine, n_threads=n_threads)
        return of_source(opened, level, np.arange(len(opened.index)), opened.index.obs_names().tolist())
    adata, sdata = (table_in(obj, table), obj) if hasattr(obj, "tables") else (cast("AnnData", obj), None)
    found = _found(adata, sdata, level, source, Access.of(engine, n_threads))
    warn_of_padding(found.frames, level, stacklevel=2)
    return images.patch_array(found, component, np.arange(len(adata)), adata.obs_names.tolist(), found.frame)


def _found(
    adata: "AnnData", sdata: "SpatialData | None", level: str, source: "str | Path | UPath | None", access: Access
) -> "PatchSource":
    """Find the patches of a table's cells; where they are gone, the error says which image still shows them."""
    try:
        return PatchSource.of(adata, sdata, level, source, access)
    except SourceMovedError as error:
        image_of = keys.wsi_image if level == "wsi" else keys.tissue_image
        names = [image_of(str(slide)) for slide in adata.obs[keys.SLIDE].unique()] if keys.SLIDE in adata.obs else []
        held = [name for name in names if sdata is not None and name in sdata.images]
        if not held:
            raise
        way = f"pass from_slide=True, which cuts {level} patches from the rebuilt slide"
        if level == "wsi":  # which cells had one is not known to the object, and a crop of it is none
            way = f"take the WSI images that the object holds, one per slide: images[{held[0]!r}]"
            way += f" and {len(held) - 1:,} more" if held[1:] else ""
        msg = f"{error} Or {way}."
        raise SourceMovedError(msg) from error


def _cut(obj: Any, level: str, source: "str | Path | UPath | None", table: str) -> "DataArray":
    """Return patches cut from the slides of a SpatialData; see `patches`."""
    from cellnet_sd.patch_cutting import SlideCuts

    unfit = {
        f"level={level!r} is no such patch": level not in _ELEMENTS,
        f"{'a path' if is_path(obj) else 'an AnnData'} holds no slide": not hasattr(obj, "tables"),
        "source= names a file": source is not None,
    }
    if reasons := [reason for reason, holds in unfit.items() if holds]:
        msg = f"from_slide=True cuts cell and tissue patches from slides of a SpatialData: {', and '.join(reasons)}."
        raise ValueError(msg)
    adata = table_in(obj, table)
    cuts = SlideCuts.of(obj, adata, level)
    warn_of_padding(cuts.frames, level, stacklevel=3)
    return images.patch_array(cuts, component_of(level), np.arange(len(adata)), adata.obs_names.tolist(), cuts.frame)


def of_source(source: Source, level: str, rows: NDArray[np.int64], names: Sequence[str]) -> "DataArray":
    """Return the patches of the cells at `rows` of a file; see `patches`."""
    return images.patch_array(source, component_of(level), rows, names, frame_of(source, level))


def component_of(level: str) -> Component:
    """Return the component of an image level.

    Raises
    ------
    ValueError
        If there is no such level.
    """
    if level not in PATCHES:
        msg = f"level={level!r} is not one of {', '.join(map(repr, PATCHES))}."
        raise ValueError(msg)
    return PATCHES[level]


def frame_of(source: Source, level: str) -> Frame:
    """Return the common frame of the patches of a file.

    Raises
    ------
    LayoutError
        If no cell has such patches, or they cannot be told.
    """
    findings = source.index.findings
    if (error := findings.errors.get(PATCHES[level])) is not None:
        raise LayoutError(error)
    if level not in findings.frames:
        msg = f"{source.path} holds no {level} patches."
        raise LayoutError(msg)
    return findings.frames[level]


# --- many places as one source ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PatchSource:
    """The patches of a table's cells, wherever they lie, as one source whose rows are those of the table.

    Parameters
    ----------
    path
        One of the places, for messages.
    places
        Files, or image elements.
    place, row
        Of each cell: its place, and its row there; -1 where an element has no patch of it.
    frame
        The frame that holds all of them.
    frames
        That of each place, by its name.
    """

    path: Path
    places: "tuple[Source | _Element, ...]"
    place: NDArray[np.intp]
    row: NDArray[np.int64]
    frame: Frame
    frames: dict[str, Frame]

    @classmethod
    def of(
        cls,
        adata: "AnnData",
        sdata: "SpatialData | None",
        level: str,
        source: "str | Path | UPath | None",
        access: Access,
    ) -> "PatchSource":
        """Find the patches of the cells of a table; see `patches`."""
        missing = {keys.SOURCE_FILE, keys.SOURCE_ROW} - set(adata.obs)
        if missing:
            msg = (
                f"The table's obs has no {' and no '.join(sorted(missing))}: it does not say where its cells came from."
            )
            raise LayoutError(msg)
        try:
            return cls._from_files(adata, level, source, access)
        except SourceMovedError:
            gathered = None if sdata is None or source is not None else cls._from_elements(adata, sdata, level)
            if gathered is None:
                raise
            return gathered

    @classmethod
    def _from_files(
        cls, adata: "AnnData", level: str, source: "str | Path | UPath | None", access: Access
    ) -> "PatchSource":
        place, names = pd.factorize(adata.obs[keys.SOURCE_FILE])
        row = adata.obs[keys.SOURCE_ROW].to_numpy(dtype=np.int64)
        sources = tuple(
            _reopen(source_path(source or name), access, adata, name, row[place == at], np.flatnonzero(place == at))
            for at, name in enumerate(names)
        )
        found = [frame_of(opened, level) for opened in sources]
        frames = dict(zip(map(str, names), found, strict=True))
        return cls(source_path(source or names[0]), sources, place, row, common_frame(found), frames)

    @classmethod
    def _from_elements(cls, adata: "AnnData", sdata: "SpatialData", level: str) -> "PatchSource | None":
        if level not in _ELEMENTS:
            return None
        element_of, column = _ELEMENTS[level]
        place, slides = pd.factorize(adata.obs[keys.SLIDE])
        names = [element_of(str(slide)) for slide in slides]
        if column not in adata.obs or not all(name in sdata.images for name in names):
            return None
        places = tuple(_Element(sdata.images[name]) for name in names)
        row = adata.obs[column].to_numpy(dtype=np.int64)
        frames = {name: place.frame for name, place in zip(names, places, strict=True)}
        path = Path(str(sdata.path or "SpatialData"))
        return cls(path, places, place, row, common_frame(list(frames.values())), frames)

    def present(self, component: Component) -> NDArray[np.bool_]:
        """Return which cells have a patch."""
        present = self.row >= 0
        for at, place in enumerate(self.places):
            if not isinstance(place, _Element):
                here = self.place == at
                present[here] = place.index.has(component, self.row[here])
        return present

    def fetch(self, component: Component, rows: Sequence[int] | NDArray[np.int64]) -> list[Raw | Unreadable | None]:
        """Return the patches of the cells at `rows`, each place asked once."""
        rows = np.asarray(rows, dtype=np.int64)
        out: list[Raw | Unreadable | None] = [None] * len(rows)
        for at, place in enumerate(self.places):
            here = np.flatnonzero((self.place[rows] == at) & (self.row[rows] >= 0))
            for position, raw in zip(here, place.fetch(component, self.row[rows[here]]), strict=True):
                out[position] = raw
        return out

    def fetch_arrays(
        self,
        component: Component,
        rows: Sequence[int] | NDArray[np.int64],
        shape: tuple[int, ...],
        out: NDArray[np.uint8],
    ) -> NDArray[np.bool_]:
        """Fill `out` with the plainly stored patches of some cells; see `FetchesPlain`."""
        rows = np.asarray(rows, dtype=np.int64)
        done = np.zeros(len(rows), bool)
        for at, place in enumerate(self.places):
            here = np.flatnonzero((self.place[rows] == at) & (self.row[rows] >= 0))
            if isinstance(place, _Element) or not len(here):
                continue
            found = np.empty((len(here), *out.shape[1:]), np.uint8)
            done[here] = place.fetch_arrays(component, self.row[rows[here]], shape, found)
            out[here] = found
        return done

    def fetch_packed(self, component: Component, rows: Sequence[int] | NDArray[np.int64], length: int) -> Packed:
        """Return nothing: patches are no vectors."""
        del component, length
        return Packed(np.full(len(rows), -1), np.empty(0, np.int32), np.empty(0, np.float32), 0)


@dataclass(frozen=True)
class _Element:
    """An Image3D element (c, z, y, x) as a source of patches."""

    element: Any

    @property
    def frame(self) -> Frame:
        channels, _, height, width = self.element.shape
        return Frame(height, width, channels, str(self.element.dtype), ("image element",))

    def fetch(self, component: Component, rows: NDArray[np.int64]) -> list[Raw | Unreadable | None]:  # noqa: ARG002
        if not len(rows):
            return []
        stack = np.moveaxis(self._taken(rows), 0, -1)
        return [Raw(patch[..., 0] if patch.shape[-1] == 1 else patch) for patch in stack]

    def _taken(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return some patches, (c, n, y, x); straight from the Zarr array that the element is, where it is one.

        Dask asks Zarr anew for every chunk, which takes it longer than reading does.
        """
        import zarr
        from dask.array import Array

        data = self.element.data
        if isinstance(data, Array):  # by `dask.array.from_zarr`; what is computed has another name
            whole = data.dask.get(f"original-{data.name}")
            if isinstance(whole, zarr.Array) and whole.shape == data.shape:
                return np.asarray(whole.oindex[:, rows])
        return np.asarray(data[:, rows])


def _reopen(
    path: Path, access: Access, adata: "AnnData", name: str, rows: NDArray[np.int64], cells: NDArray[np.intp]
) -> Source:
    """Open the file that some cells of a table were read from, in the order of rows they were counted by.

    A table that was concatenated has lost its provenance: the order is then the one in which the names agree.

    Raises
    ------
    SourceMovedError
        If the file is gone, or is not the file it was.
    """
    try:
        found = Identity.of(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        msg = f"{path}, which the cells were read from, is gone. Pass source= with its new place."
        raise SourceMovedError(msg) from error
    known = provenance(adata, "identity").get(name)
    if known is not None and known != [found.size, found.digest]:
        msg = f"{path} is not the file the cells were read from: its contents differ. Pass source= with its place."
        raise SourceMovedError(msg)
    stated = provenance(adata, "choices").get("cell_order")
    for order in (stated,) if known is not None else (stated, *get_args(CellOrder)):
        source = _in_order(path, order, access)
        if source is not None and _are_named(source, rows, [names[cells] for names in _known_as(adata)]):
            return source
    msg = f"{path} is not the file the cells were read from: its rows are other cells. Pass source=."
    raise SourceMovedError(msg)


def _in_order(path: Path, order: CellOrder | None, access: Access) -> Source | None:
    try:
        return open_source(path, Choices(cell_order=order), engine=access.engine, n_threads=access.n_threads)
    except LayoutError:
        if order is None:
            raise
        return None  # the file has no such order


def _known_as(adata: "AnnData") -> list[pd.Index]:
    """Return the names of the cells as they were read, which concatenating leaves alone, and as they are now."""
    read = [pd.Index(adata.obs[keys.INSTANCE_KEY])] if keys.INSTANCE_KEY in adata.obs else []
    return [*read, adata.obs_names]


def _are_named(source: Source, rows: NDArray[np.int64], known_as: Sequence[pd.Index]) -> bool:
    """Whether the rows of a file are the cells they are said to be."""
    if (rows >= len(source.index)).any():
        return False
    found = source.index.names.iloc[rows].to_numpy()
    bare = ([str(name).rsplit("/", 1)[-1] for name in names] for names in known_as)
    return any(_alike(found, np.array(names, dtype=object)) for names in bare)


def _alike(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Whether names are equal but for what making them unique adds (`Cell_1` → `Cell_1-1`, `Cell_1-sample`)."""
    return np.array_equal(found, expected) or all(
        str(b) == str(a) or str(b).startswith(f"{a}-") for a, b in zip(found, expected, strict=True)
    )
