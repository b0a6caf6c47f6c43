"""The verb that checks: `validate` looks at every cell of a file and reports what is missing, malformed or odd."""

import warnings
from pathlib import Path

from cellnet_sd.components.ccc.layouts import CCCLayoutName
from cellnet_sd.components.expression import ExpressionKind
from cellnet_sd.errors import CellNetError, CellNetWarning, MissingDependencyError
from cellnet_sd.findings import Choices, absolute
from cellnet_sd.rows import CellOrder
from cellnet_sd.sources.access import Engine
from cellnet_sd.sources.base import Source
from cellnet_sd.sources.opening import open_source
from cellnet_sd.sources.paths import require_local
from cellnet_sd.validation.indexed import check_index, describe
from cellnet_sd.validation.pixels import check_windows, check_wsi
from cellnet_sd.validation.report import Finding, Report
from cellnet_sd.validation.tally import Tally
from cellnet_sd.validation.values import check_ccc, check_expression, check_text

__all__ = ["Finding", "Report", "validate"]


def validate(
    path: str | Path,
    *,
    expression: ExpressionKind | None = None,
    ccc_layout: CCCLayoutName | None = None,
    gene_list: str | Path | None = None,
    slide_key: str | None = None,
    cell_order: CellOrder | None = None,
    mpp: float | None = None,
    wsi_scale: float | None = None,
    index: bool | None = None,
    engine: Engine | None = None,
    n_threads: int | None = None,
) -> Report:
    """Check every cell of a Cell-NET file.

    All components of all cells are read once, in batches of at most `settings.batch_bytes` decoded. A file that cannot
    be opened (truncated, damaged, busy, not Cell-NET) is no exception but a report with one error, about `"file"`.

    Parameters
    ----------
    path
        A Cell-NET HDF5 file.
    expression, ccc_layout, gene_list, slide_key, cell_order, mpp, wsi_scale, index, engine, n_threads
        As in `read`.

    Returns
    -------
    Report
        What was found, by severity. Errors are what `read` raises for: `report.has_defects`. Warnings are what it
        reads, but perhaps not as meant; cells that lack a component are among them. Infos are what the file was taken
        to be. `report.to_frame()` has a row per finding; printing it is readable.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or no such gene list.
    RemoteError
        If it is a URL.
    MissingDependencyError
        If a package is needed to decode what is stored.
    CellNetError
        If an argument does not fit a file that can be opened without it, or the index cannot be saved.
    """
    path = require_local(path, "all of a file is read to check it. Check it where it is, or download it first.")
    choices = Choices(
        slide_key=slide_key,
        cell_order=cell_order,
        gene_list=absolute(gene_list),
        expression=expression,
        mpp=mpp,
        wsi_scale=wsi_scale,
        ccc_layout=ccc_layout,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CellNetWarning)  # what is warned of on a sample is counted over all cells here
        try:
            source = open_source(path, choices, index=index, engine=engine, n_threads=n_threads)
        except MissingDependencyError:
            raise
        except CellNetError as error:
            if _opens(path):
                raise
            return Report(path, 0, (Finding("error", "file", str(error)),))
        return _checked(source)


def _opens(path: Path) -> bool:
    """Whether the file can be opened if the caller says nothing of it, and nothing is saved."""
    try:
        open_source(path, index=False)
    except CellNetError:
        return False
    return True


def _checked(source: Source) -> Report:
    tally = Tally(source.index)
    check_index(source, tally)
    for check in (check_text, check_expression, check_windows, check_wsi, check_ccc):
        check(source, tally)
    describe(source.index, tally)
    return Report(source.path, len(source.index), tally.findings())
