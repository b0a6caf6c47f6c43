"""The verb that writes: `write`, an object back to the Cell-NET layout in its canonical spelling."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from cellnet_sd import keys
from cellnet_sd.components import attribute_columns, attributes, captions, ccc, images
from cellnet_sd.components.attribute_codecs import to_json
from cellnet_sd.components.attributes import Spellings
from cellnet_sd.errors import LayoutError, SourceMovedError
from cellnet_sd.grouping import Grouping
from cellnet_sd.layout import CCC_LAYOUT_KEY, PATCHES, Component
from cellnet_sd.notes import Notes, provenance, table_in
from cellnet_sd.patch_cutting import SlideCuts
from cellnet_sd.patch_lookup import PatchSource
from cellnet_sd.problems import Problems
from cellnet_sd.progress import progress
from cellnet_sd.sources.access import Access
from cellnet_sd.sources.hdf5_sink import Hdf5Sink, Records
from cellnet_sd.sources.paths import is_path, require_local

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData
    from upath import UPath

_BATCH = 256
_STORES: Final = {".zarr", ".h5ad"}


def write(
    obj: "SpatialData | AnnData",
    path: str | Path,
    *,
    source: "str | Path | UPath | None" = None,
    table: str = keys.TABLE,
    overwrite: bool = False,
) -> Path:
    """Write an object to a Cell-NET HDF5 file, in the canonical spelling (see the docs on the format).

    Every column of `obs` that is not this package's own becomes an attribute, spelled as it was where it was read from
    Cell-NET. Patches that the object refers to without holding them are copied from the file they came from. Where that
    is gone, cell and tissue patches are cut from the rebuilt slides of a SpatialData if they are known to equal those
    that were stored; a warning says so, or which patches are not written.

    Parameters
    ----------
    obj
        A SpatialData or AnnData; `X` may be a dask array.
    path
        The file to write: it appears only when it is complete.
    source
        Where the file the cells were read from is now, if it was moved.
    table
        Name of the table of a SpatialData.
    overwrite
        Whether an existing file is replaced.

    Returns
    -------
    The path of the file.

    Raises
    ------
    FileNotFoundError
        If the folder of `path` does not exist.
    OutputExistsError
        If `path` exists and `overwrite` is false.
    RemoteError
        If `path` is a URL.
    SourceMovedError
        If patches are to be copied and their file is gone.
    LayoutError
        If the object holds something that the layout cannot, two cells of one name among it, or has no such table.
    ValueError
        If `path` ends in `.zarr` or `.h5ad`: `convert` makes these of Cell-NET files, and `sdata.write` of an object.
    OSError
        If the disk is full: nothing of the file is left.
    """
    if is_path(obj):
        msg = f"write takes a SpatialData or AnnData, not the path {str(obj)!r}: read it first."
        raise TypeError(msg)
    require_local(path, "it writes a local file. Copy that there.")
    _check_ending(Path(path))
    adata, sdata = (table_in(obj, table), obj) if hasattr(obj, "tables") else (obj, None)
    notes = Notes(str(path))
    record = _Object(adata, sdata, source, notes)
    encoded = ccc.encode(adata)
    _note_losses(adata, encoded, record)
    sink = Hdf5Sink(
        path,
        gene_names=record.gene_names,
        gene_ids=record.var_column(keys.GENE_IDS),
        feature_types=record.var_column(keys.FEATURE_TYPES),
        pair_names=None if encoded is None else encoded.pairs,
        slide_names=record.slide_names,
        cell_order=record.grouping.cell_order,
        wsi_images=record.wsi_images,
        root_attrs={} if encoded is None else {CCC_LAYOUT_KEY: encoded.layout},
        container_attrs=record.grouping.attrs,
        overwrite=overwrite,
    )
    with sink:
        for batch in record.batches():
            sink.append(record.records(batch, encoded))
    notes.speak()
    return Path(path)


def _check_ending(path: Path) -> None:
    if path.suffix.lower() in _STORES:
        msg = (
            f"{path}: write makes a Cell-NET HDF5 file, which does not end in {path.suffix}. Of Cell-NET files, "
            "cellnet_sd.convert makes a store; of an object, its own writer does, such as sdata.write."
        )
        raise ValueError(msg)


def _note_losses(adata: "AnnData", encoded: "ccc.EncodedCCC | None", record: "_Object") -> None:
    held = set(PATCHES.values()) if record.holds_images else set()  # of these, `source_of` says what is not written
    if not_read := [name for name in provenance(adata, "not_read") if name not in held]:
        record.notes.warn_of(f"not written, as it was not read: {', '.join(not_read)}")
    if encoded is not None and encoded.layout == "cells" and keys.CCC_PAIRS in adata.uns:
        record.notes.warn_of("CCC is written as the sum over its pairs. Read with ccc='pairs' to keep each of them")
    if layers := [name for name in adata.layers if name is not None]:  # anndata 0.13 lists X among them, as None
        record.notes.warn_of(f"layers are not written: {', '.join(layers)}. Cell-NET holds one expression profile")
    record.notes.warn_of(*record.grouping.unsaid)


@dataclass(frozen=True)
class _Object:
    """An object as records: what each cell of it is to be stored as."""

    adata: "AnnData"
    sdata: "SpatialData | None"
    source: "str | Path | UPath | None"
    notes: Notes
    _sources: "dict[str, PatchSource | SlideCuts | None]" = field(default_factory=dict)

    # --- beside the cells --------------------------------------------------------------------------------------------

    @property
    def gene_names(self) -> list[str] | None:
        """Names of the genes, as they were before they were made unique."""
        if self.adata.X is None:
            return None
        original = provenance(self.adata, "genes")
        names = [str(original.get(name, name)) for name in self.adata.var_names]
        return None if provenance(self.adata, "genes_unnamed") else names

    def var_column(self, name: str) -> list[str] | None:
        """Return a column of `var` as strings, `None` if there is none."""
        return [str(value) for value in self.adata.var[name]] if name in self.adata.var else None

    @cached_property
    def slides(self) -> NDArray[np.object_]:
        """Slide of each cell, `""` where the object knows of none."""
        if keys.SLIDE not in self.adata.obs:
            return np.full(self.adata.n_obs, "", dtype=object)
        return np.array(self.adata.obs[keys.SLIDE].astype(str), dtype=object)

    @cached_property
    def grouping(self) -> Grouping:
        """Where each cell is written."""
        return Grouping.of(self.adata, self.slides, self.wsi_images)

    @property
    def slide_names(self) -> list[str] | None:
        """Names of the slides as the file had them, in the order their first cells come."""
        if keys.SLIDE not in self.adata.obs:
            return None
        original = provenance(self.adata, "slides")
        return [str(original.get(slide, slide)) for slide in dict.fromkeys(self.slides)]

    # --- images ------------------------------------------------------------------------------------------------------

    @cached_property
    def wsi_images(self) -> dict[str, NDArray[Any]]:
        """The WSI image of each slide, (H, W, C): from the object, else from the file its cells came from."""
        found = {}
        stored = self.has("wsi")
        for slide in dict.fromkeys(self.slides):
            if slide in self._whole_wsi:
                found[slide] = np.moveaxis(np.asarray(self._whole_wsi[slide].data), 0, -1)
            elif (there := np.flatnonzero(stored & (self.slides == slide))).size:
                image = self.patches("wsi", there[:1])[0]
                assert image is not None  # `has` said so
                found[slide] = image
        return found

    @cached_property
    def holds_images(self) -> bool:
        """Whether any kind of image was asked for when the object was read: then all are written, held or not."""
        if {keys.CELL_PATCH, keys.TISSUE_PATCH} & set(self.adata.obs):
            return True
        if self.sdata is not None and any(keys.tissue_image(slide) in self.sdata.images for slide in set(self.slides)):
            return True
        return not {PATCHES[level] for level in self._stored} <= set(provenance(self.adata, "not_read"))

    @cached_property
    def _stored(self) -> set[str]:
        """Levels of the patches that the files of the cells are known to hold."""
        return {level for sizes in provenance(self.adata, keys.PATCH_SIZES).values() for level in sizes}

    def source_of(self, level: str) -> "PatchSource | SlideCuts | None":
        """Return where the patches of a level are; `None` where there are none.

        Raises
        ------
        SourceMovedError
            If the cell patches that the object refers to are gone.
        """
        if level not in self._sources:
            self._sources[level] = self._find(level) if self.holds_images else None
        return self._sources[level]

    def _find(self, level: str) -> "PatchSource | SlideCuts | None":
        try:
            return PatchSource.of(self.adata, self.sdata, level, self.source, Access.of(None, None))
        except (LayoutError, SourceMovedError) as error:
            if (cuts := self._cuts(level)) is not None:
                words = "are cut from the rebuilt slide, which gives one to cells that had none as well"
                self.notes.warn_of(f"{level} patches {words}: {error}")
                return cuts
            is_gone = isinstance(error, SourceMovedError)
            if is_gone and level == "cell" and (keys.CELL_PATCH in self.adata.obs or self.source is not None):
                raise
            if (is_gone or level in self._stored) and not (level == "wsi" and self._holds_wsi):
                self.notes.warn_of(f"{level} patches are not written: {error}")
            return None

    def _cuts(self, level: str) -> "SlideCuts | None":
        """Return the patches cut from the slides of the object, if they are known to equal the stored ones."""
        if self.sdata is None or level not in self._stored - {"wsi"} or self.source is not None:
            return None
        return SlideCuts.exact(self.sdata, self.adata, level)

    @cached_property
    def _whole_wsi(self) -> dict[str, Any]:
        """The WSI images that the object holds, by slide; not those that were cropped: the layout places none."""
        held = {} if self.sdata is None else self.sdata.images
        named = {slide: keys.wsi_image(slide) for slide in set(self.slides)}
        return {slide: held[name] for slide, name in named.items() if name in held and not _is_moved(held[name])}

    @property
    def _holds_wsi(self) -> bool:
        """Whether the object holds the WSI images of all its slides."""
        return set(self.slides) <= self._whole_wsi.keys()

    def has(self, level: str) -> NDArray[np.bool_]:
        """Return which cells have a patch of a level."""
        found = self.source_of(level)
        if found is None:
            return np.zeros(self.adata.n_obs, dtype=bool)
        return found.present(PATCHES[level])

    def patches(self, level: str, rows: NDArray[np.int64]) -> list[NDArray[Any] | None]:
        """Return the patches of the cells at `rows` in their own sizes, as they are to be stored."""
        found = self.source_of(level)
        if found is None:
            return [None] * len(rows)
        component = PATCHES[level]
        problems = Problems(str(found.path), lambda row: str(self.adata.obs_names[row]))
        raws = found.fetch(component, rows)
        if found.frame.padded:
            return [self._own_size(raw, row, component, problems) for raw, row in zip(raws, rows, strict=True)]
        decoded, present = images.decode(raws, rows, found.frame, component, problems)
        return [images.encode(patch) if there else None for patch, there in zip(decoded, present, strict=True)]

    def _own_size(self, raw: Any, row: int, component: Component, problems: Problems) -> NDArray[Any] | None:
        frame = images.detect_frame([raw], component, problems.file)
        if frame is None:
            return None
        return images.encode(images.decode([raw], [row], frame, component, problems)[0][0])

    # --- the cells ---------------------------------------------------------------------------------------------------

    @cached_property
    def documents(self) -> list[str | None]:
        """`attributes.json` of each cell; `None` where there is nothing to say."""
        stored = self.adata.uns.get(keys.PROVENANCE, {}).get("attributes")
        spellings = None if stored is None else msgspec.json.decode(stored, type=Spellings)
        obs = self.adata.obs.drop(columns=[name for name in keys.OWN_OBS if name in self.adata.obs])
        obsm = {
            key: np.asarray(self.adata.obsm[key]) for key in attribute_columns.OBSM.values() if key in self.adata.obsm
        }
        return [to_json(document) if document else None for document in attributes.encode(obs, obsm, spellings)]

    @cached_property
    def captions(self) -> list[str | None]:
        """Caption of each cell."""
        if keys.CAPTION not in self.adata.obs:
            return [None] * self.adata.n_obs
        return captions.encode(self.adata.obs[keys.CAPTION])

    def batches(self) -> Iterator[NDArray[np.int64]]:
        """Yield all rows in batches, with a progress bar."""
        rows = np.arange(self.adata.n_obs, dtype=np.int64)
        parts = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
        yield from progress(parts, total=len(parts), desc="Writing", unit="batches")

    def records(self, rows: NDArray[np.int64], encoded: "ccc.EncodedCCC | None") -> Records:
        """Return the cells at `rows` as records."""
        wsi = self.has_wsi[rows]
        return Records(
            names=[self.grouping.names[row] for row in rows],
            containers=self.grouping.groups[rows].tolist(),
            expression=self._profiles(rows),
            attributes=[self.documents[row] for row in rows],
            captions=[self.captions[row] for row in rows],
            cell_patches=self.patches("cell", rows),
            tissue_patches=self.patches("tissue", rows),
            wsi=[slide if there else None for slide, there in zip(self.slides[rows], wsi, strict=True)],
            ccc=None if encoded is None else [self._links(encoded, int(row)) for row in rows],
        )

    @cached_property
    def has_wsi(self) -> NDArray[np.bool_]:
        """Which cells are given the WSI image of their slide."""
        held = np.array([slide in self.wsi_images for slide in self.slides], dtype=bool)
        return held & self.has("wsi") if self.source_of("wsi") is not None else held

    def _links(self, encoded: "ccc.EncodedCCC", row: int) -> "csr_matrix | None":
        matrix = encoded[row]
        return None if not matrix.nnz and self.adata.obs_names[row] in self._without_ccc else matrix

    @cached_property
    def _without_ccc(self) -> frozenset[str]:
        """The cells that had no CCC and have no links now."""
        return frozenset(provenance(self.adata, "without_ccc"))

    def _profiles(self, rows: NDArray[np.int64]) -> "csr_matrix | None":
        from scipy.sparse import csr_matrix

        if self.adata.X is None:
            return None
        block = self.adata.X[rows[0] : rows[-1] + 1]
        block = block.compute() if hasattr(block, "compute") else block
        matrix = csr_matrix(block)
        single = matrix.astype(np.float32)
        if (single.data != matrix.data).any():
            self.notes.warn_of("values of X were rounded: Cell-NET holds float32")
        return single


def _is_moved(image: Any) -> bool:
    """Whether an image does not begin at the corner of its slide, as after a crop."""
    from spatialdata.transformations import get_transformation

    axes = ("y", "x")
    systems = get_transformation(image, get_all=True).values()
    return any(system.to_affine_matrix(axes, axes)[:2, 2].any() for system in systems)
