"""Compare cellnet_sd with its peers: make files, time everyone on them in turns, and print one table."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import click

from benchmarks import cover, places, tissue, works
from benchmarks.files import FileSpec, Libver, Storage, made
from benchmarks.large import large_index
from benchmarks.machine import describe
from benchmarks.memory import Errand, run_child
from benchmarks.ours import Engine, Ours
from benchmarks.rows import Row, measured
from benchmarks.table import markdown
from benchmarks.targets import verdicts
from benchmarks.timing import MOST_RUNS
from benchmarks.works import Job, Limits


class Plan(NamedTuple):
    """What is run."""

    cells: int
    genes: int
    storages: tuple[Storage, ...]
    libvers: tuple[Libver, ...]
    scaling: tuple[int, ...]
    rows_index: int | None
    repeats: int
    seconds: float
    memory: bool
    tissues: tuple[int, ...]
    covers: tuple[int, ...]
    engine: Engine
    limits: Limits


def measure(plan: Plan, folder: Path) -> Iterator[Row]:
    """Yield the rows of the table."""
    for storage in plan.storages:
        for libver in plan.libvers:
            yield from _of_file(plan, FileSpec(plan.cells, plan.genes, storage, libver), folder)
    for libver in plan.libvers:
        for cells in plan.scaling:
            spec = FileSpec(cells, min(plan.genes, 50), plan.storages[0], libver, cell_side=4, tissue_side=6)
            path = _made(spec, folder)
            for job in works.scaling_jobs(spec, path, plan.limits, plan.engine):
                yield _measured(plan, job, folder)


def _of_file(plan: Plan, spec: FileSpec, folder: Path) -> Iterator[Row]:
    path = _made(spec, folder)
    for job in works.jobs_of_file(spec, path, plan.limits, plan.engine):
        yield _measured(plan, job, folder)
    if plan.rows_index is not None and (spec.storage, spec.libver) == (plan.storages[0], plan.libvers[-1]):
        yield from _of_large_index(plan, spec, path, folder)


def _of_large_index(plan: Plan, spec: FileSpec, path: Path, folder: Path) -> Iterator[Row]:
    """Yield the row of reopening an index of `plan.rows_index` rows, made by repeating that of `path`."""
    assert plan.rows_index is not None
    _say(f"making an index of {plan.rows_index:,} rows")
    place = large_index(path, plan.rows_index, folder)
    job = works.reopen_job(replace(spec, cells=plan.rows_index), place, Ours(plan.engine))
    row = _measured(plan, job, folder)
    yield replace(row, form=f"index of {plan.rows_index:,} rows")


def _made(spec: FileSpec, folder: Path) -> Path:
    _say(f"making {spec.cells:,} cells, {spec.form}")
    return made(spec, folder)


def _measured(plan: Plan, job: Job, folder: Path) -> Row:
    _say(job.label)
    errand = None
    if plan.memory:
        errand = Errand(job.work, job.path, made(job.spec.tiny(), folder), job.ours, plan.limits)
    return measured(job, plan.repeats, plan.seconds, errand)


def _say(words: str) -> None:
    click.echo(words, err=True)


@contextmanager
def _folder(asked: Path | None) -> Iterator[Path]:
    if asked is None:
        with tempfile.TemporaryDirectory(prefix="cellnet-benchmarks-") as made_folder:
            yield Path(made_folder)
    else:
        asked.mkdir(parents=True, exist_ok=True)
        yield asked


def run(plan: Plan, folder: Path) -> tuple[list[Row], dict[str, Any]]:
    """Run a plan; return the rows, and all that was found as JSON holds it."""
    rows = list(measure(plan, folder))
    limits = plan.limits._asdict()
    settings = {**plan._asdict(), "limits": limits}
    found = {
        "machine": describe(),
        "settings": settings,
        "rows": [row.as_dict() for row in rows],
        "targets": [verdict.as_dict() for verdict in verdicts(rows)],
    }
    return rows, found


@click.command(help=__doc__)
@click.option("--cells", default=5_000, show_default=True, help="Cells of the files.")
@click.option("--genes", default=36_601, show_default=True, help="Genes of a cell.")
@click.option(
    "--storage",
    "storages",
    type=click.Choice(["gzip", "contiguous"]),
    multiple=True,
    default=("gzip", "contiguous"),
    show_default=True,
    help="How arrays are stored; may be given twice.",
)
@click.option(
    "--libver",
    "libvers",
    type=click.Choice(["earliest", "latest"]),
    multiple=True,
    default=("earliest", "latest"),
    show_default=True,
    help="HDF5's oldest or newest structures; may be given twice.",
)
@click.option(
    "--scaling",
    type=int,
    multiple=True,
    default=(1_000, 10_000, 100_000),
    show_default=True,
    help="Cells of the small-gene files whose indexing must cost the same per cell; may be repeated.",
)
@click.option("--no-scaling", is_flag=True, help="Leave those files out: a minute or two for 100,000 cells.")
@click.option("--million", is_flag=True, help="Add 1,000,000 cells to them: many minutes.")
@click.option("--rows-index", type=int, help="Also reopen an index of so many rows, such as 14400000.")
@click.option("--batch", default=256, show_default=True, help="Cells of a random batch.")
@click.option("--batches", default=8, show_default=True, help="Random batches per run.")
@click.option("--peer-cells", default=1_000, show_default=True, help="The most cells that h5py is run on.")
@click.option("--pyfive-cells", default=200, show_default=True, help="The most cells that pyfive is run on.")
@click.option("--repeats", default=3, show_default=True, help="Runs of each at least, in turns; the best counts.")
@click.option(
    "--seconds",
    default=5.0,
    show_default=True,
    help=f"Who is quick runs on, up to {MOST_RUNS} times, until its runs together took as long.",
)
@click.option("--memory/--no-memory", default=True, show_default=True, help="Measure peak memory.")
@click.option(
    "--tissue",
    "tissues",
    type=int,
    multiple=True,
    help="Also convert a synthetic tissue of so many cells, whose slides are rebuilt; may be repeated.",
)
@click.option(
    "--cover",
    "covers",
    type=int,
    multiple=True,
    help="Also choose the cover of a slide of so many cells, such as 1000000; nothing is read; may be repeated.",
)
@click.option(
    "--elsewhere",
    type=int,
    help="Also read such a tissue of so many cells from a store and a URL, and convert it by a cluster.",
)
@click.option("--engine", type=click.Choice(["auto", "native", "h5py"]), default="auto", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Keep the files here, and use those that are there.")
@click.option("--json", "results", type=click.Path(path_type=Path), help="Where the results go, as JSON.")
@click.option("--child", hidden=True)
@click.option("--child-tissue", hidden=True)
@click.option("--child-places", hidden=True)
def main(elsewhere: int | None, folder: Path | None, results: Path | None, **options: Any) -> None:
    errands = {"child": run_child, "child_tissue": tissue.run_child, "child_places": places.run_child}
    asked = {name: options.pop(name) for name in errands}
    for name, text in asked.items():
        if text is not None:
            click.echo(errands[name](text))
            return
    plan = _plan(**options)
    with _folder(folder) as place:
        rows, found = run(plan, place)
        click.echo(markdown(rows, found["machine"]))
        conversions = [tissue.measured(cells, place) for cells in plan.tissues]
        covers = list(map(cover.measured, plan.covers))
        others = None if elsewhere is None else places.measured(elsewhere, place)
    found["tissues"] = [asdict(each) for each in conversions]
    found["covers"] = [asdict(each) for each in covers]
    found["elsewhere"] = None if others is None else asdict(others)
    if results is None and folder is not None:
        results = folder / "benchmark-results.json"
    if results is not None:
        results.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    if conversions:
        click.echo(f"\n{tissue.markdown(conversions)}")
    if covers:
        click.echo(f"\n{cover.markdown(covers)}")
    if others is not None:
        click.echo(f"\n{places.markdown(others)}")
    click.echo()
    of_covers = (verdict for each in covers for verdict in each.verdicts())
    for verdict in (*verdicts(rows), *tissue.verdicts(conversions), *of_covers):
        click.echo(verdict)


def _plan(
    *, batch: int, batches: int, peer_cells: int, pyfive_cells: int, no_scaling: bool, million: bool, **rest: Any
) -> Plan:
    limits = Limits(batch, batches, peer_cells, pyfive_cells)
    scaling = () if no_scaling else (*rest.pop("scaling"), *([1_000_000] if million else []))
    rest.pop("scaling", None)
    return Plan(limits=limits, scaling=scaling, **rest)


if __name__ == "__main__":
    main()
