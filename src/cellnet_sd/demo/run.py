"""The demonstration, step by step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cellnet_sd import keys
from cellnet_sd.demo import analysis
from cellnet_sd.demo.scores import Scores, score, score_shuffled, tell_scores
from cellnet_sd.demo.telling import Teller, others_quiet

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from spatialdata import SpatialData

    from cellnet_sd.datasets import SyntheticTissue

_MOST_CELLS: Final = 20_000
_PAIRS_SHOWN: Final = 6
_TISSUE: Final = "tissue.h5"


@dataclass(frozen=True)
class DemoResult:
    """What a demonstration left.

    Parameters
    ----------
    sdata
        The cells, with the results in the table.
    figures
        The figures, in the order they were made.
    sent
        Signal from group (rows) to group (columns); `None` without CCC.
    enriched
        Z-scores of the number of links from group to group, against random labels; `None` without CCC.
    planted
        The planted pairs of sending and receiving cell types; none where the truth is unknown.
    scores, shuffled
        Scores against the truth, and of the same analysis on shuffled labels; `None` where the truth is unknown.
    """

    sdata: "SpatialData"
    figures: list[Path] = field(default_factory=list)
    sent: "pd.DataFrame | None" = None
    enriched: "pd.DataFrame | None" = None
    planted: frozenset[tuple[str, str]] = frozenset()
    scores: Scores | None = None
    shuffled: Scores | None = None


def run(
    file: Path | None, output: Path, *, n_cells: int = 3_000, seed: int = 0, say: Callable[[str], None]
) -> DemoResult:
    """Analyse a Cell-NET file, or a synthetic tissue, and draw it.

    Parameters
    ----------
    file
        A Cell-NET file; without one, a synthetic tissue is made, whose truth is known.
    output
        Folder for the figures and the synthetic file. What an earlier demonstration left in it is replaced.
    n_cells
        Cells of the synthetic tissue. Of a file, the first 20,000 at most are read.
    seed
        Determines everything that is random.
    say
        Prints a line.

    Returns
    -------
    DemoResult
        The results, and the figures.
    """
    output.mkdir(parents=True, exist_ok=True)
    tell = Teller(say)
    say("Each line after >>> is a call you can make yourself, after")
    say("   import cellnet_sd as cn, scanpy as sc, squidpy as sq")
    with others_quiet():
        tissue = None if file else _make_tissue(output / _TISSUE, n_cells, seed, tell)
        sdata = _read(file or output / _TISSUE, tell)
        result = _analyse(sdata, tissue, seed, tell)
        tell.section("Figures")
        for path in _draw(result, output, tell):
            result.figures.append(path)
            tell.line(str(path))
    say("")
    say(f"Done in {tell.seconds:.0f} s.")
    return result


# --- the steps -------------------------------------------------------------------------------------------------------


def _make_tissue(path: Path, n_cells: int, seed: int, tell: Teller) -> "SyntheticTissue":
    tell.section("A synthetic tissue, whose truth is known")
    tissue: SyntheticTissue = tell.call(
        "cn.datasets.synthetic", path, n_cells=n_cells, seed=seed, overwrite=True, into="tissue"
    )
    domains, types = (tissue.cells[column].nunique() for column in ("domain", "cell_type"))
    tell.line(f"planted: {domains} domains, {types} cell types, {len(tissue.pairs)} ligand-receptor pairs")
    return tissue


def _read(path: Path, tell: Teller) -> "SpatialData":
    from cellnet_sd.handle import open_file

    tell.section("Read it")
    n_cells = len(open_file(path))
    few: dict[str, Any] = {}
    if n_cells > _MOST_CELLS:
        few = {"cells": range(_MOST_CELLS)}
        tell.line(f"Of its {n_cells:,} cells, the first {_MOST_CELLS:,} are read.")
    sdata: SpatialData = tell.call("cn.read", path, **few, into="sdata")
    adata = sdata[keys.TABLE]
    tell.name(adata, "adata")
    tell.line('>>> adata = sdata["table"]')
    tell.line(f"{adata.n_obs:,} cells × {adata.n_vars:,} genes; slides: {', '.join(adata.obs[keys.SLIDE].unique())}")
    return sdata


def _analyse(sdata: "SpatialData", tissue: "SyntheticTissue | None", seed: int, tell: Teller) -> DemoResult:
    adata = sdata[keys.TABLE]
    tell.section("Cluster by expression")
    analysis.prepare(adata, tell)
    analysis.cluster(adata, tell, seed)
    labels = analysis.choose_labels(adata)
    if labels.reason:
        tell.line(f"From here on, these clusters stand in for cell types: {labels.reason}.")
    tell.section("Marker genes")
    analysis.markers(adata, tell, labels.key)
    tell.section("Neighbourhoods on the slide")
    analysis.spatial_graph(adata, tell)
    analysis.neighbourhoods(adata, tell, labels.key, seed)
    tell.section("Spatial domains: cells with alike surroundings")
    analysis.domains(adata, tell, labels.key)
    tell.section("Genes that vary in space (Moran's I)")
    analysis.spatial_genes(adata, tell)
    tell.section("Cell-cell communication")
    sent, enriched = _communicate(adata, labels, seed, tell)
    if tissue is None or enriched is None:
        return DemoResult(sdata, sent=sent, enriched=enriched)
    tell.section("Against the truth, beside the same analysis of labels shuffled within each slide")
    found = score(adata, tissue, enriched)
    shuffled = score_shuffled(adata, tissue, labels.key, seed)
    planted = frozenset(tissue.pairs[["sender", "receiver"]].itertuples(index=False, name=None))
    tell_scores(tell, found, shuffled, len(planted), len(enriched))
    return DemoResult(sdata, [], sent, enriched, planted, found, shuffled)


def _communicate(
    adata: "AnnData", labels: analysis.Labels, seed: int, tell: Teller
) -> "tuple[pd.DataFrame, pd.DataFrame] | tuple[None, None]":
    """Return the signal from group to group, and the z-scores of its links."""
    if keys.CCC_CONNECTIVITIES not in adata.obsp:
        tell.line("The file stores no CCC between cells.")
        return None, None
    if labels.reason:
        tell.line(f"Not by cell type, since {labels.reason}; by cluster instead.")
    sent = analysis.signals(adata, tell, labels.key)
    enriched = analysis.enrichment(adata, tell, labels.key, seed, connectivity_key=keys.CCC)
    rows = [("sender → receiver", "more links than chance, z", "share of all signal")]
    for (sender, receiver), z in analysis.ranked_pairs(enriched).head(_PAIRS_SHOWN).items():
        share = sent.loc[sender, receiver] / sent.to_numpy().sum()
        rows.append((f"{sender} → {receiver}", f"{z:.1f}", f"{share:.0%}"))
    tell.table(rows)
    return sent, enriched


def _draw(result: DemoResult, output: Path, tell: Teller) -> Iterator[Path]:
    from cellnet_sd.demo import figures

    adata = result.sdata[keys.TABLE]
    label = analysis.choose_labels(adata).key
    slides = figures.slides_figure(result.sdata, [label, analysis.DOMAIN])
    yield _saved(slides, output / "slides.png")
    columns = dict.fromkeys((analysis.CLUSTER, label, analysis.DOMAIN))
    yield _saved(figures.umap_figure(adata, list(columns)), output / "umap.png")
    if result.sent is not None:
        yield _saved(figures.communication_figure(result.sent, result.planted), output / "communication.png")
    yield _saved(tell.call("cn.pl.gallery", result.sdata), output / "cells.png")
    yield _saved(tell.call("cn.pl.composition", result.sdata), output / "composition.png")


def _saved(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=150)
    return path
