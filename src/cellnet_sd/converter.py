"""The verb that converts: a Cell-NET file to SpatialData Zarr, or to AnnData as `.h5ad` or Zarr."""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
from msgspec.structs import astuple

from cellnet_sd import keys
from cellnet_sd.conversion.frugal import frugal, let_go
from cellnet_sd.conversion.matrix import Profiles, StagedMatrix, rows_of_part
from cellnet_sd.conversion.texts import Captions, Part
from cellnet_sd.conversion.workspace import Job, Workspace, remove, settle, workspace
from cellnet_sd.elements import Pictures, plan_pictures
from cellnet_sd.findings import absolute
from cellnet_sd.joining import Piece, TableOfFiles
from cellnet_sd.layout import Component
from cellnet_sd.outputs import check_output, check_replaceable
from cellnet_sd.reader import Paths, paths_of, read, read_anndata, table_of
from cellnet_sd.sources.access import Access
from cellnet_sd.sources.base import Source
from cellnet_sd.sources.paths import is_remote, require_local
from cellnet_sd.table import patch_numbers
from cellnet_sd.workers import Threads, Workers, workers_of

if TYPE_CHECKING:
    from distributed import Client

Kind = Literal["spatialdata", "anndata"]
_ZARR, _H5AD = ".zarr", ".h5ad"
_FORMAT: Final = 3
"""Of what is staged and marked: a conversion goes on only from its own."""
_LEAST_MEMORY: Final = 2**16
"""Less is a unit forgotten: a part of 64 rows takes more."""
_HOW: Final = ("path", "index", "engine", "n_threads", "backed")
"""Parameters of readers that the output does not depend on."""
_AS_READ: Final = {"convert_strings_to_categoricals": False}
"""Text stays text: by default, anndata writes columns of it whose values repeat, such as captions, as categoricals."""


def convert(
    src: Paths,
    dst: str | Path,
    *,
    kind: Kind | None = None,
    memory: int | str = "2GB",
    client: "Client | str | None" = None,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Convert a Cell-NET file of any size: to SpatialData Zarr, or to AnnData as `.h5ad` or Zarr.

    Expression and images are read in file order, part by part. What is finished is kept in `.{dst}.converting` beside
    `dst`: a conversion that was interrupted, whenever and however, goes on from there when it is run again, and its
    result is that of one that was not. `dst` appears only when it is complete.

    Parameters
    ----------
    src
        A Cell-NET HDF5 file, or its URL, or several that become one, as `read` reads them.
    dst
        What to write; its ending, `.zarr` or `.h5ad`, says what.
    kind
        What a `.zarr` is to hold: `"spatialdata"`, everything, or `"anndata"`, the table alone, as an `.h5ad` does.
    memory
        About how much memory may hold expression and images on their way, in bytes or as `"500MB"`. The rest of
        the table, but for captions, is in memory besides. With `client`, of each worker.
    client
        A `distributed.Client`, or the address of a dask scheduler, whose workers do the parts in place of threads. They
        see `src`, and the folder of `dst`, under the same paths. Each part is done on `n_threads` threads, 1 by
        default. A part that is lost with its worker is done again by another.
    overwrite
        Whether an existing `dst` is replaced.
    **options
        Parameters of `read` (for the table alone, of `read_anndata`); `backed` changes nothing here. Where patches
        disagree about the slide, stacks of tissue patches are written in place of the rebuilt slide, with a warning.

    Returns
    -------
    The path of the output.

    Raises
    ------
    FileNotFoundError
        If there is no `src`, or no folder to write `dst` in.
    OutputExistsError
        If `dst` exists and `overwrite` is false, or it is a source, or holds one, or is no store: a folder that is no
        Zarr store is not replaced.
    ConversionError
        If another process converts to `dst`, or the disk is full.
    ClusterError
        If workers of `client` die of the same part again and again, or the cluster is closed.
    ValueError
        If `dst` has another ending, `memory` is no amount, or too small a one, or an option is no parameter of the
        reader.
    CellNetError
        As `read`.
    """
    dst = require_local(dst, "a conversion writes to a local folder. Copy the result there.")
    kind = _kind_of(dst, kind)
    asked = _asked(read if kind == "spatialdata" else read_anndata, src, options)
    size, inputs = _bytes(memory), _inputs(asked)
    settle(dst)
    _check(dst, inputs, overwrite=overwrite)
    with frugal(), workers_of(client, Access.of(asked["engine"], asked["n_threads"]).n_threads) as workers:
        table, levels = table_of({**asked, "backed": True}, workers)
        with workspace(dst, _plan(table, kind, asked)) as space:
            n_threads = asked["n_threads"] or 1 if workers.are_remote else None
            _Conversion(table, levels, space, workers, size, n_threads).run(kind)
            _check(dst, inputs, overwrite=overwrite)
            space.finish()
    return dst


def _kind_of(dst: Path, kind: Kind | None) -> Kind:
    if dst.suffix not in (_ZARR, _H5AD):
        msg = f"{dst} ends neither in .zarr (SpatialData, or AnnData with kind='anndata') nor in .h5ad (AnnData)."
        raise ValueError(msg)
    if kind is not None and kind not in get_args(Kind):
        msg = f"kind={kind!r} is not one of {', '.join(map(repr, get_args(Kind)))}."
        raise ValueError(msg)
    if dst.suffix == _H5AD and kind == "spatialdata":
        msg = f"{dst}: an .h5ad holds a table alone. Pass kind='anndata', or convert to .zarr."
        raise ValueError(msg)
    return kind or ("spatialdata" if dst.suffix == _ZARR else "anndata")


def _asked(reader: Callable[..., Any], src: Paths, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters of a reader, as given or by default."""
    known = inspect.signature(reader).parameters
    if unknown := options.keys() - known.keys():
        msg = f"{', '.join(sorted(unknown))}: no such parameter of {reader.__name__}, by which cells are read."
        raise ValueError(msg)
    return {name: options.get(name, parameter.default) for name, parameter in known.items()} | {"path": src}


def _inputs(asked: Mapping[str, Any]) -> list[Path]:
    """Return the local files that are read, the list of genes among them."""
    paths = [*paths_of(asked["path"]), absolute(asked["gene_list"])]
    return [path for path in paths if path is not None and not is_remote(path)]


def _check(dst: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Check that the output can appear under its name, and that nothing but an output is replaced."""
    check_replaceable(dst, inputs)
    check_output(dst, overwrite=overwrite)


def _bytes(memory: int | str) -> int:
    """Return an amount of memory in bytes."""
    from dask.utils import parse_bytes

    try:
        size = int(parse_bytes(memory)) if memory != "" else 0
    except ValueError as error:
        msg = f"memory={memory!r} is no amount of memory. Pass bytes, or a text such as '2GB'."
        raise ValueError(msg) from error
    if size < _LEAST_MEMORY:
        msg = f"memory={memory!r} is less than {_LEAST_MEMORY // 2**10} KiB. Pass bytes, or a text such as '2GB'."
        raise ValueError(msg)
    return size


def _plan(table: TableOfFiles, kind: Kind, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that the output depends on."""
    from importlib.metadata import version

    from dask.base import tokenize

    options = {name: tokenize(value) for name, value in asked.items() if name not in _HOW}
    identities = [[str(part.source.path), *astuple(part.source.identity)] for part in table.parts]
    return {
        "format": _FORMAT,
        "version": version("cellnet-sd"),
        "sources": identities,
        "kind": kind,
        **options,
    }


class _Conversion:
    """One conversion, step by step; each is skipped where an earlier run has finished it."""

    def __init__(
        self,
        table: TableOfFiles,
        levels: tuple[str, ...],
        space: Workspace,
        workers: Workers,
        memory: int,
        n_threads: int | None,
    ) -> None:
        self.table, self.levels, self.space = table, levels, space
        self.workers, self.memory, self.n_threads = workers, memory, n_threads
        for part in table.parts:
            if part.switches.captions:
                part.switches = replace(part.switches, captions="later")
        self.adata = table.build()

    def _sent(self, source: Source) -> Source:
        """Return a source as jobs have it: on the threads that a worker has for each."""
        return source if self.n_threads is None else source.on_threads(self.n_threads)

    @property
    def pieces(self) -> list[Piece]:
        """The cells of each file."""
        return [piece._replace(source=self._sent(piece.source)) for piece in self.table.pieces(self.adata)]

    def run(self, kind: Kind) -> None:
        if kind == "spatialdata":
            self._spatialdata()
        elif self.space.target.suffix == _ZARR:
            self.table.speak(stacklevel=5)
            self._anndata_zarr()
        else:
            self.table.speak(stacklevel=5)
            self._h5ad()

    # --- the table ---------------------------------------------------------------------------------------------------

    def _staged(self) -> StagedMatrix | None:
        """Return the matrix, all its parts staged; `None` where none is asked for."""
        if self.adata.X is None:
            return None
        budget = self.memory // (2 * self.workers.n_sharing)
        densest = max(part.index.findings.nnz_per_cell for part in self.table.parts)
        profiles = [Profiles(self._sent(part.source), part.rows, part.genes.columns) for part in self.table.parts]
        staged = StagedMatrix(self.space, profiles, rows_of_part(densest, budget))
        self.space.run(staged.jobs(), "Reading expression", self.workers)
        return staged

    @property
    def _captions(self) -> Captions | None:
        """The captions, which the table does not hold; `None` where none are asked for."""
        if not self.table.parts[0].switches.captions:
            return None
        return Captions([Part(self._sent(part.source), part.rows) for part in self.table.parts])

    def _make(self, table: Path, staged: StagedMatrix | None) -> None:
        """Make the arrays of what a written table lacks."""
        from cellnet_sd.conversion.tables import X, ZarrMatrix

        if staged is not None:
            ZarrMatrix(table / X).make(staged)
        if (captions := self._captions) is not None:
            captions.make(table)

    def _fill(self, table: Path, staged: StagedMatrix | None) -> None:
        """Put in its place what a written table lacks."""
        from cellnet_sd.conversion.tables import X, ZarrMatrix

        if staged is not None:
            self.space.run(ZarrMatrix(table / X).jobs(staged), "Packing expression", self.workers)
        if (captions := self._captions) is not None:
            self.space.run(captions.jobs(table), "Writing captions", self.workers)

    def _once(self, name: str, make: Callable[[], None]) -> None:
        """Make the output without its bulk, from nothing, unless an earlier run has; then the table is let go of."""

        def run() -> None:
            remove(self.space.output)
            make()

        self.space.run([Job(name, run)], "Writing the table", Threads(1))
        del self.adata
        let_go()

    def _anndata_zarr(self) -> None:
        from cellnet_sd.conversion.tables import without_values

        staged = self._staged()

        def write() -> None:
            without_values(self.adata).write_zarr(self.space.output, **_AS_READ)
            self._make(self.space.output, staged)

        self._once("table", write)
        self._fill(self.space.output, staged)
        _consolidate(self.space.output)

    def _h5ad(self) -> None:
        from cellnet_sd.conversion.tables import pack_hdf5, without_values, write_hdf5
        from cellnet_sd.sources.hdf5_disk import hdf5_output

        staged = self._staged()

        def write() -> None:
            with hdf5_output(self.space.output) as output:
                write_hdf5(without_values(self.adata), output)
                if staged is not None:
                    pack_hdf5(output, staged)
                if (captions := self._captions) is not None:
                    captions.pack_hdf5(output)

        self._once("table", write)

    # --- SpatialData -------------------------------------------------------------------------------------------------

    def _spatialdata(self) -> None:
        from cellnet_sd.conversion.store import make_arrays, outputs_of, write_without_bulk

        output, pictures = self.space.output, self._pictures()
        staged, table = self._staged(), output / "tables" / keys.TABLE

        def write() -> None:
            write_without_bulk(self.adata, self.pieces, pictures, output)
            make_arrays(output, pictures)
            self._make(table, staged)

        self._once("table", write)
        self.table.speak(stacklevel=5)
        self._fill(table, staged)
        slides, stacks = outputs_of(output, pictures)
        self.space.run([job for stack in stacks for job in stack.jobs()], "Writing patches", self.workers)
        self.space.run([job for slide in slides for job in slide.jobs()], "Rebuilding slides", self.workers)
        for slide in slides:
            for jobs in slide.coarser():
                self.space.run(jobs, "Halving slides", self.workers)
        _consolidate(output)

    def _pictures(self) -> Pictures:
        """Plan the pictures; where patches disagree about a slide, they are stacked in its place."""
        patches = self.table.parts[0].switches.patches
        notes = {part.source.path: part.notes for part in self.table.parts}
        planned = plan_pictures(self.pieces, levels=self.levels, patches=patches)
        odd = [each for each in planned.mosaics if not planned.agreements[each.slide.name].is_good]
        if odd and "tissue" not in patches:
            self._stack_tissue(planned, [each.slide.name for each in odd])
        for each in odd:
            planned.mosaics.remove(each)
            words = f"slide {each.slide.name}: its tissue patches are written as a stack, not as a slide"
            notes[each.mosaic.source.path].warn_of(words)
        return planned

    def _stack_tissue(self, planned: Pictures, slides: list[str]) -> None:
        """Add stacks of the tissue patches of some slides, and each cell's place in them to the table."""
        obs = self.adata.obs
        here = obs[keys.SLIDE].isin(slides).to_numpy()
        on_them = [
            piece._replace(cells=piece.cells[piece.cells.obs[keys.SLIDE].isin(slides).to_numpy()])
            for piece in self.pieces
        ]
        planned.stacks += plan_pictures(on_them, levels=("cell",), patches=("tissue",)).stacks
        numbers = [patch_numbers(part.index, Component.TISSUE_PATCH, part.rows) for part in self.table.parts]
        obs[keys.TISSUE_PATCH] = np.where(here, np.concatenate(numbers), np.int32(-1))


def _consolidate(store: Path) -> None:
    """Gather the metadata of a store in one place, of the arrays that were made anew too."""
    import zarr

    with warnings.catch_warnings():  # Parquet files are no part of Zarr: SpatialData silences it for the same reason
        warnings.filterwarnings("ignore", category=zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(zarr.storage.LocalStore(store))
