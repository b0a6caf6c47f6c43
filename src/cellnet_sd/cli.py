"""The command line: the verbs of the package, each option the parameter of the same name."""

import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, get_args

import click
from click.core import ParameterSource

from cellnet_sd.errors import CellNetError, CellNetWarning, LayoutError
from cellnet_sd.sources.paths import source_path

Decorator = Callable[[Any], Any]

# --- one option per parameter ----------------------------------------------------------------------------------------


class Switch(click.Choice[Any]):
    """A parameter that is on, off, or names a mode: `true`, `false`, or one of the modes.

    Parameters
    ----------
    modes
        What else it may be.
    """

    def __init__(self, *modes: str) -> None:
        super().__init__(["true", "false", *modes])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return `True`, `False` or the mode."""
        if isinstance(value, bool):
            return value
        word = super().convert(value, param, ctx)
        return {"true": True, "false": False}.get(word, word)


class Layouts(click.Choice[str]):
    """The layouts of CCC. They are looked up when they are needed: numpy is imported along, and `--help` is quick."""

    case_sensitive = True

    def __init__(self) -> None:
        """Leave the choices to `choices`."""

    @cached_property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the layouts."""
        from cellnet_sd.components.ccc.layouts import CCCLayoutName

        return get_args(CCCLayoutName)


class _Place(click.Path):
    """A path, or a URL, which is looked at by what takes it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or the URL."""
        return source_path(value) if "://" in str(value) else super().convert(value, param, ctx)


_FILE: Final = _Place(exists=True, dir_okay=False, path_type=Path)
_KINDS: Final = ("lognorm", "counts")
_FLAGS: Final = frozenset({"backed", "captions", "index", "overwrite"})
_ENGINES: Final = ("auto", "native", "h5py")
_ORDERS: Final = ("creation", "stored", "natural", "name")


def _option(name: str, kind: Any, words: str, **more: Any) -> Decorator:
    return click.option(f"--{name.replace('_', '-')}", name, type=kind, help=words, **more)


def _repeated(name: str, kind: Any, words: str, **more: Any) -> Decorator:
    return _option(name, kind, f"{words}; repeat it for more.", multiple=True, **more)


def _switch(name: str, words: str, *modes: str) -> Decorator:
    return _option(name, Switch(*modes), words, default="true", show_default=True)


def _flag(name: str, words: str, *, default: bool | None) -> Decorator:
    word = name.replace("_", "-")
    return click.option(f"--{word}/--no-{word}", name, default=default, show_default=default is not None, help=words)


OPTIONS: Final[Mapping[str, Decorator]] = MappingProxyType(
    {
        # which cells and genes
        "where": _option("where", str, "Only cells for which this holds, such as \"tissue == 'Lung'\"."),
        "cells": _repeated("cells", str, "Only the cell of this name", metavar="NAME"),
        "slides": _repeated("slides", str, "Only the cells of this slide", metavar="NAME"),
        "genes": _repeated("genes", str, "Only this gene", metavar="NAME"),
        # which components
        "backed": _flag("backed", "Go through expression in blocks instead of loading all of it.", default=False),
        "expression": _switch("expression", "Take expression along, or say what its values are.", *_KINDS),
        "captions": _flag("captions", "Take the captions along.", default=True),
        "images": _repeated("images", Switch("wsi", "tissue", "cell"), "Images to take along: all, none, or this one",
                            default=("true",), show_default=True),
        "patches": _repeated("patches", click.Choice(["cell", "tissue"]), "Patches to stack as images",
                             default=("cell",), show_default=True),
        "ccc": _switch("ccc", "Take cell-cell communication along; 'pairs' gives a matrix per pair too.", "pairs"),
        # what the file leaves open
        "ccc_layout": _option("ccc_layout", Layouts(), "What the axes of the stored CCC count."),
        "gene_list": _option("gene_list", _FILE, "A file that names the genes (txt, csv, tsv, json, features.tsv.gz)."),
        "slide_key": _option("slide_key", str, "What tells slides apart: an attribute, 'container' or 'WSI_patch'."),
        "cell_order": _option("cell_order", click.Choice(_ORDERS), "Order of the rows, which CCC counts by."),
        "mpp": _option("mpp", float, "Micrometres per pixel of the slides."),
        "wsi_scale": _option("wsi_scale", float, "Slide pixels per pixel of the WSI patch."),
        # how
        "on_error": _option("on_error", click.Choice(["raise", "warn", "skip"]),
                            "Malformed cells: stop, or leave them out with or without a warning.",
                            default="raise", show_default=True),
        "index": _flag("index", "Save the index beside FILE.  [default: index, unless CELLNET_SD_INDEX=0]",
                       default=None),
        "engine": _option("engine", click.Choice(_ENGINES),
                          "What reads FILE.  [default: auto: native, and h5py for what that does not know]"),
        "n_threads": _option("n_threads", click.IntRange(min=1), "Threads that read and decode.  [default: all cores]"),
        "source": _option("source", _FILE, "The Cell-NET file the cells came from, if it was moved."),
        "table": _option("table", str, "Name of the table.", default="table", show_default=True),
        "kind": _option("kind", click.Choice(["spatialdata", "anndata"]),
                        "What a .zarr is to hold: everything, or the table alone.  [default: spatialdata]"),
        "memory": _option("memory", str, "About how much memory expression and images may take on their way.",
                          default="2GB", show_default=True),
        "client": _option("client", str, "Address of a dask scheduler whose workers do the work.", metavar="ADDRESS"),
        "overwrite": _option("overwrite", None, "Replace OUT if it exists.", is_flag=True),
    }
)  # fmt: skip
"""The one place where a parameter becomes an option."""

_HOW: Final = ("index", "engine", "n_threads")
_LEFT_OPEN: Final = ("ccc_layout", "gene_list", "slide_key", "cell_order", "mpp", "wsi_scale")
_DETECTED: Final = (*_LEFT_OPEN, *_HOW)
_READ: Final = (
    "where", "cells", "slides", "genes", "backed", "expression", "captions", "images", "patches", "ccc",
    *_LEFT_OPEN, "on_error", *_HOW,
)  # fmt: skip


_CONVERTED: Final = tuple(name for name in _READ if name != "backed")
"""A conversion goes through expression in parts in any case."""


def parameters(*names: str) -> Decorator:
    """Give a command the options of these parameters, in this order in its help."""
    return lambda command: reduce(lambda wrapped, name: OPTIONS[name](wrapped), reversed(names), command)


_kind_of_values = _option("expression", click.Choice(_KINDS), "What the values of expression are.")


def given() -> dict[str, Any]:
    """Return the options that were given; the others stay what the function says they are by default."""
    ctx = click.get_current_context()
    chosen = {
        param.name: ctx.params[param.name]
        for param in ctx.command.params
        if isinstance(param, click.Option)
        and param.name in ctx.params
        and ctx.get_parameter_source(param.name) is not ParameterSource.DEFAULT
    }
    if "images" in chosen:
        chosen["images"] = _one_switch(chosen["images"])
    return chosen


def _one_switch(values: tuple[bool | str, ...]) -> bool | tuple[str, ...]:
    """Return `("true",)` as a bool and names as they are.

    Raises
    ------
    click.BadParameter
        If `true` or `false` stands beside something else.
    """
    words = tuple(value for value in values if isinstance(value, str))
    if len(words) == len(values):
        return words
    if len(values) == 1:
        return bool(values[0])
    msg = "true and false stand alone."
    raise click.BadParameter(msg, param_hint="--images")


# --- the group -------------------------------------------------------------------------------------------------------


class Commands(click.Group):
    """Commands in the order they are defined, which end in a message where a file or a value is at fault."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands in the order of a first visit."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with _plain_warnings():
            try:
                return super().invoke(ctx)
            except (CellNetError, OSError, ValueError) as error:
                raise click.ClickException(_message(error)) from error


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return in_options("\n".join([str(error), *getattr(error, "__notes__", ())]))


_PARAMETER: Final = re.compile(
    rf"\b({'|'.join(OPTIONS)})=(True\b|False\b|nan\b|-?inf\b|-?\d+(?:\.\d+)?|'[^']*'|\"[^\"]*\")?"
)


def in_options(words: str) -> str:
    """Return words that name parameters, as in `overwrite=True`, with options in their place."""

    def option(found: re.Match[str]) -> str:
        name, value = found[1].replace("_", "-"), found[2] or ""
        if found[1] in _FLAGS and value in ("True", "False"):
            return f"--{name}" if value == "True" else f"--no-{name}"
        return f"--{name} {value.lower() if value in ('True', 'False') else value}".rstrip()

    return _PARAMETER.sub(option, words)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print this package's warnings without a source line, and leave out those of others unless `-W` asks for them."""

    def say(message: Warning | str, *_: Any, **__: Any) -> None:
        click.echo(f"Warning: {in_options(str(message))}", err=True)

    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", CellNetWarning)
        warnings.showwarning = say
        yield


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(None, "--version", package_name="cellnet-sd", prog_name="cellnet-sd")
def main() -> None:
    """Read Cell-NET (single cells with H&E, expression, captions and CCC) as SpatialData and AnnData.

    Start with `cellnet-sd demo`, which needs no data, or with `cellnet-sd info FILE`.
    """


# --- the commands ----------------------------------------------------------------------------------------------------


@main.command()
@click.argument("file", required=False, type=_FILE)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="cellnet-demo",
    show_default=True,
    help="Folder for the figures.",
)
@click.option(
    "--n-cells", type=click.IntRange(min=400), default=3_000, show_default=True, help="Cells of the synthetic tissue."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything that is random.")
def demo(file: Path | None, output: Path, n_cells: int, seed: int) -> None:
    """Analyse and draw a synthetic tissue, or FILE.

    Clusters cells with scanpy, finds spatial domains and who signals to whom with squidpy, prints each call that is
    made, and leaves figures in a folder. Of the synthetic tissue the truth is known: the results are scored against it.
    Of a large FILE, the first 20,000 cells are read.
    """
    from cellnet_sd.demo import run

    run(file, output, n_cells=n_cells, seed=seed, say=click.echo)


@main.command()
@click.argument("path", metavar="FILE", type=_FILE)
@_kind_of_values
@parameters(*_DETECTED)
def info(path: Path, **_: Any) -> None:
    """Say what FILE holds and how it was understood."""
    from cellnet_sd import information

    click.echo(str(information.info(path, **given())))


@main.command()
@click.argument("path", metavar="FILE", type=_FILE)
@parameters("client", "engine", "n_threads")
def index(path: Path, **_: Any) -> None:
    """Build the index of FILE: it then opens at once."""
    from cellnet_sd.handle import build_index

    click.echo(str(build_index(path, **given())))


@main.command()
@click.argument("path", metavar="FILE", type=_FILE)
@_kind_of_values
@parameters(*_DETECTED)
def validate(path: Path, **_: Any) -> None:
    """Check every cell of FILE.

    Exits with status 1 if there are defects.
    """
    from cellnet_sd import validator

    report = validator.validate(path, **given())
    click.echo(str(report))
    if report.has_defects:
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("src", metavar="FILE...", type=_FILE, nargs=-1, required=True)
@click.argument("dst", metavar="OUT", type=_Place(path_type=Path))
@parameters("kind", "memory", "client", "overwrite", *_CONVERTED)
def convert(src: tuple[Path, ...], dst: Path, **_: Any) -> None:
    """Convert FILE, of any size, to SpatialData or AnnData.

    OUT ends in .zarr (SpatialData, or AnnData with --kind anndata) or in .h5ad (AnnData). It appears when it is
    complete. A conversion that was interrupted goes on where it was when the same command is run again.

    Several FILEs become one: their genes are joined, and each slide keeps its name.
    """
    from cellnet_sd import converter

    options = given()
    unfit = [name for name in ("patches", "wsi_scale") if name in options]
    if unfit and (dst.suffix == ".h5ad" or options.get("kind") == "anndata"):
        msg = f"{in_options(unfit[0] + '=')} is about images, which a table alone does not hold."
        raise click.UsageError(msg)
    click.echo(str(converter.convert(src, dst, **options)))


@main.command()
@click.argument("obj", metavar="STORE", type=click.Path(exists=True, path_type=Path))
@click.argument("path", metavar="OUT", type=click.Path(dir_okay=False, path_type=Path))
@parameters("source", "table", "overwrite")
def write(obj: Path, path: Path, **_: Any) -> None:
    """Write STORE back to the Cell-NET layout.

    STORE ends in .zarr (SpatialData or AnnData) or in .h5ad (AnnData). Of what `convert` wrote, expression passes
    through memory in blocks; other stores are loaded.
    """
    from cellnet_sd import writer

    click.echo(str(writer.write(_load(obj), path, **given())))


def _load(store: Path) -> Any:
    """Return the object in a `.zarr` or `.h5ad` store: with a lazy `X`, if `convert` wrote it."""
    from cellnet_sd.store_reader import open_store

    if store.suffix not in (".zarr", ".h5ad"):
        msg = (
            f"{store} ends neither in .zarr (SpatialData or AnnData) nor in .h5ad (AnnData). `cellnet-sd write` takes "
            "such a store; `cellnet-sd convert` makes one of a Cell-NET file."
        )
        raise ValueError(msg)
    try:
        return open_store(store)
    except LayoutError as error:
        return _load_other(store, error)


def _load_other(store: Path, error: LayoutError) -> Any:
    """Return the object in a store of other origin; `error` says why it is one."""
    import anndata
    import h5py
    import spatialdata
    import zarr

    if store.is_file():
        if not h5py.is_hdf5(store):
            raise error
        return anndata.read_h5ad(store)
    try:
        root = zarr.open_group(store, mode="r")
    except (zarr.errors.GroupNotFoundError, zarr.errors.ContainsArrayError):
        raise error from None
    if root.attrs.get("encoding-type") == "anndata":
        return anndata.read_zarr(store)
    if "spatialdata_attrs" not in root.attrs:
        raise error
    return spatialdata.read_zarr(store)
