"""The one place that writes Cell-NET HDF5, in one canonical spelling.

What is large (expression, patches) is made and deflated in threads, for zlib releases the GIL; one thread writes.
"""

import os
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from cellnet_sd.errors import LayoutError
from cellnet_sd.layout import ORDER_KEYS, SLIDE_NAMES_KEY
from cellnet_sd.outputs import check_output
from cellnet_sd.sources.hdf5_disk import Disk
from cellnet_sd.sources.hdf5_spelling import ObjectWriter, Stored, store

if TYPE_CHECKING:
    from scipy import sparse

Compression = Literal["gzip"] | None
Libver = str | tuple[str, str]

DEFAULT_LIBVER: Final = "v110"
"""HDF5 1.10 and later: one chunk costs 8 bytes of index, not a B-tree of 2 kB."""

_ROWS_PER_TASK: Final = 8
_TASKS_AHEAD: Final = 8
_META_BLOCK: Final = 1 << 20
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Records:
    """A batch of cells to write, in row order.

    Every field but `names` and `containers` may be `None`: no cell has that component.

    Parameters
    ----------
    names
        Names of the cells' groups.
    containers
        Path of the group each cell lies in: `""` for the root, `"a/b"` for nested ones.
    expression
        CSR, (n, G). Each row is written as a dense float32 vector of length G.
    attributes
        JSON text per cell; `None` where the cell has none.
    captions
        Text per cell; `None` where the cell has none.
    cell_patches, tissue_patches
        One image per cell, (H, W, C) or (H, W), or one array of them; `None` where the cell has none. A sequence is
        asked for each image once, from a worker thread: it may make them on demand.
    wsi
        Key of the cell's image in the sink's `wsi_images`; `None` where the cell has none.
    ccc
        One CSR matrix per cell, (1, N), (P, N) or (P, 1); `None` where the cell has none.
    """

    names: Sequence[str]
    containers: Sequence[str]
    expression: "sparse.csr_matrix | sparse.csr_array | None" = None
    attributes: Sequence[str | None] | None = None
    captions: Sequence[str | None] | None = None
    cell_patches: "Sequence[NDArray[Any] | None] | NDArray[Any] | None" = None
    tissue_patches: "Sequence[NDArray[Any] | None] | NDArray[Any] | None" = None
    wsi: Sequence[str | None] | None = None
    ccc: "Sequence[sparse.csr_matrix | sparse.csr_array | None] | None" = None

    def __len__(self) -> int:
        return len(self.names)

    def check(self) -> None:
        """Raise `LayoutError` unless every component has one entry per cell."""
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            length = len(self) if value is None else value.shape[0] if name == "expression" else len(value)
            if length != len(self):
                msg = f"{name} has {length} entries for {len(self)} cells; give one per cell, or None for all."
                raise LayoutError(msg)


class _Bulk(NamedTuple):
    """The large parts of one cell, ready to be stored."""

    expression: Stored | None
    cell_patch: Stored | None
    tissue_patch: Stored | None


class Hdf5Sink:
    """Writes cells to a Cell-NET file, atomically: the file appears under its name only when all went well.

    The canonical spelling: creation order is tracked on the root, on containers and on cells. `expression` is (G,)
    float32; images keep their dtype and shape; both are one chunk, gzip level 1. `attributes.json` and `caption.txt`
    are scalar UTF-8 strings of variable length. `CCC` is a group in AnnData's spelling of CSR, contiguous: `data`
    float32 (a dtype that does not fit into float32 stays), `indices` and `indptr` int32 (int64 where they must).
    A slide's image is stored once and hard-linked into every cell of the slide.

    Parameters
    ----------
    path
        The file to write.
    gene_names, gene_ids, feature_types, pair_names
        Root datasets `gene_names`, `gene_ids`, `feature_types` and `ccc_pairs`, strings; `None` for none.
    slide_names
        Root dataset `slide_names`: the slides, in the order their first cells come.
    cell_order
        Root dataset `cell_order`: paths of all cells in row order, where cells of several containers take turns.
        Creation order is then not tracked.
    wsi_images
        Image of each slide, by the key that `Records.wsi` uses.
    root_attrs, container_attrs
        HDF5 attributes of the root, and of containers by path.
    compression
        `"gzip"`, or `None` for contiguous storage throughout.
    libver
        Oldest HDF5 version, or range of versions, that must read the file, as in `h5py.File`.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    FileNotFoundError
        The folder of `path` does not exist.
    OutputExistsError
        `path` exists, on entry or when done, and `overwrite` is false.
    OSError
        The disk is full: nothing of the file is left.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        gene_names: Sequence[str] | None,
        gene_ids: Sequence[str] | None = None,
        feature_types: Sequence[str] | None = None,
        pair_names: Sequence[str] | None = None,
        slide_names: Sequence[str] | None = None,
        cell_order: Sequence[str] | None = None,
        wsi_images: Mapping[str, NDArray[Any]] = _NOTHING,
        root_attrs: Mapping[str, Any] = _NOTHING,
        container_attrs: Mapping[str, Mapping[str, Any]] = _NOTHING,
        compression: Compression = "gzip",
        libver: Libver = DEFAULT_LIBVER,
        overwrite: bool = False,
    ) -> None:
        if compression not in ("gzip", None):
            msg = f"compression={compression!r} is neither 'gzip' nor None."
            raise ValueError(msg)
        self.path = Path(path)
        self._root_strings = {
            "gene_names": gene_names,
            "gene_ids": gene_ids,
            "feature_types": feature_types,
            "ccc_pairs": pair_names,
            SLIDE_NAMES_KEY: slide_names,
            ORDER_KEYS[0]: cell_order,
        }
        self._tracked = cell_order is None
        self._wsi_images = wsi_images
        self._root_attrs = root_attrs
        self._container_attrs = container_attrs
        self._deflate = compression == "gzip"
        self._libver = libver
        self._overwrite = overwrite

    # --- life cycle --------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        check_output(self.path, overwrite=self._overwrite)
        self._temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:8]}.tmp")
        with ExitStack() as undoing:
            self._disk = undoing.enter_context(Disk(self._temporary))
            undoing.callback(self._temporary.unlink)
            self._file = h5py.File(
                self._disk, "w", libver=self._libver, track_order=self._tracked, meta_block_size=_META_BLOCK
            )
            undoing.pop_all()
        self._pool = ThreadPoolExecutor(max_workers=_cores(), thread_name_prefix="cellnet-deflate")
        self._objects = ObjectWriter()
        self._containers: dict[str, Any] = {"": self._file.id}
        self._filled: list[str] = []
        self._wsi_homes: dict[str, Any] = {}
        try:
            self._write_root()
        except BaseException:
            self._abandon()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        try:
            self._finish()
        except BaseException:
            self._abandon()
            raise

    def _finish(self) -> None:
        for path in self._container_attrs:
            self._container(path)
        self._close()
        self._check_disk()
        check_output(self.path, overwrite=self._overwrite)
        self._temporary.replace(self.path)

    def _close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._containers.clear()
        self._wsi_homes.clear()
        self._file.close()
        self._disk.close()

    def _check_disk(self) -> None:
        try:
            self._disk.check()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def _abandon(self) -> None:
        try:
            self._close()
        finally:
            self._temporary.unlink(missing_ok=True)

    def _write_root(self) -> None:
        for name, strings in self._root_strings.items():
            if strings is not None:
                values = np.array([str(value) for value in strings], dtype=object)
                self._file.create_dataset(name, data=values, dtype=h5py.string_dtype())
        self._file.attrs.update({**self._root_attrs, **self._container_attrs.get("", {})})

    # --- cells -------------------------------------------------------------------------------------------------------

    def append(self, records: Records) -> None:
        """Write a batch of cells after those already written.

        Raises
        ------
        LayoutError
            The batch is not well formed, a name is illegal or taken, or cells of one container do not follow one
            another (the order of the file's rows would not be the order given).
        """
        records.check()
        self._check_genes(records)
        for row, bulk in enumerate(self._bulk(records)):
            try:
                self._write_cell(records, row, bulk)
            except (TypeError, ValueError, RuntimeError) as error:
                place = f"{records.containers[row]}/{records.names[row]}".lstrip("/")
                msg = f"{self.path}: cell {place!r} cannot be written: {error}"
                raise LayoutError(msg) from error
        self._check_disk()

    def _check_genes(self, records: Records) -> None:
        genes = self._root_strings["gene_names"]
        if records.expression is None or genes is None or records.expression.shape[1] == len(genes):
            return
        msg = (
            f"{self.path}: expression has {records.expression.shape[1]} columns, but there are {len(genes)} gene names."
        )
        raise LayoutError(msg)

    def _bulk(self, records: Records) -> Iterator[_Bulk]:
        """Yield the large parts of each cell; those of the cells ahead are prepared in threads."""
        ahead: deque[Future[list[_Bulk]]] = deque()
        for start in range(0, len(records), _ROWS_PER_TASK):
            ahead.append(self._pool.submit(self._prepare, records, start))
            if len(ahead) > _TASKS_AHEAD:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()

    def _prepare(self, records: Records, start: int) -> list[_Bulk]:
        rows = range(start, min(start + _ROWS_PER_TASK, len(records)))
        dense = _dense_rows(records.expression, rows)
        return [
            _Bulk(
                self._stored(_item(dense, row - start)),
                self._stored(_item(records.cell_patches, row)),
                self._stored(_item(records.tissue_patches, row)),
            )
            for row in rows
        ]

    def _stored(self, value: NDArray[Any] | None) -> Stored | None:
        return None if value is None else store(value, deflate=self._deflate)

    def _write_cell(self, records: Records, row: int, bulk: _Bulk) -> None:
        container = self._container_of_next(records.containers[row])
        cell = self._objects.group(container, records.names[row], ordered=True)
        if bulk.expression is not None:
            self._objects.array(cell, b"expression", bulk.expression)
        self._write_images(cell, bulk, _item(records.wsi, row))
        for key, texts in ((b"attributes.json", records.attributes), (b"caption.txt", records.captions)):
            text = _item(texts, row)
            if text is not None:
                self._objects.text(cell, key, text)
        matrix = _item(records.ccc, row)
        if matrix is not None:
            self._objects.csr(cell, "CCC", matrix)

    def _container_of_next(self, path: str) -> Any:
        """Return the group of the next cell's container, whose cells must follow one another."""
        if not self._filled or self._filled[-1] != path:
            if path in self._filled and self._tracked:
                msg = f"its container {path!r} comes up again after others; give all cells of a container in one run."
                raise ValueError(msg)
            self._filled.append(path)
        return self._container(path)

    def _container(self, path: str) -> Any:
        if path not in self._containers:
            parent, slash, name = path.rpartition("/")
            if slash and not parent:
                msg = f"{path!r} is no legal name of a container: it must not begin with '/'."
                raise ValueError(msg)
            group = self._objects.group(self._container(parent), name, ordered=self._tracked)
            h5py.Group(group).attrs.update(self._container_attrs.get(path, {}))
            self._containers[path] = group
        return self._containers[path]

    # --- images ------------------------------------------------------------------------------------------------------

    def _write_images(self, cell: Any, bulk: _Bulk, wsi: str | None) -> None:
        if bulk.cell_patch is None and bulk.tissue_patch is None and wsi is None:
            return
        images = self._objects.group(cell, "images", ordered=False)
        if bulk.cell_patch is not None:
            self._objects.array(images, b"cell_patch", bulk.cell_patch)
        if bulk.tissue_patch is not None:
            self._objects.array(images, b"tissue_patch", bulk.tissue_patch)
        if wsi is not None:
            self._link_wsi(images, wsi)

    def _link_wsi(self, images: Any, key: str) -> None:
        """Store the slide's image with its first cell, and link it into every later one."""
        if key in self._wsi_homes:
            images.links.create_hard(b"WSI_patch", self._wsi_homes[key], b"WSI_patch")
            return
        if key not in self._wsi_images:
            msg = f"wsi={key!r} is not one of wsi_images: {', '.join(map(repr, self._wsi_images)) or 'none given'}."
            raise ValueError(msg)
        self._objects.array(images, b"WSI_patch", store(self._wsi_images[key], deflate=self._deflate))
        self._wsi_homes[key] = images


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _item(sequence: Sequence[Any] | NDArray[Any] | None, row: int) -> Any:
    return None if sequence is None else sequence[row]


def _dense_rows(expression: "sparse.csr_matrix | sparse.csr_array | None", rows: range) -> NDArray[np.float32] | None:
    """Return the expression of consecutive rows, (len(rows), G) float32."""
    if expression is None:
        return None
    dense: NDArray[np.float32] = expression[rows.start : rows.stop].toarray().astype(np.float32, copy=False)
    return dense
