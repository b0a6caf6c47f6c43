"""The table: cells as rows of an AnnData, one component after the other."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd import keys
from cellnet_sd.cellindex import CellIndex, Rows
from cellnet_sd.communication import annotate, read_links
from cellnet_sd.components import captions, expression, images
from cellnet_sd.components.ccc import CCCLinks
from cellnet_sd.components.expression import ExpressionKind
from cellnet_sd.errors import LayoutError
from cellnet_sd.layout import PATCHES, Component
from cellnet_sd.matrix import GeneColumns, gene_table, lazy_matrix, read_matrix
from cellnet_sd.notes import Notes
from cellnet_sd.problems import OnError, Problems
from cellnet_sd.selection import select_genes
from cellnet_sd.sources.base import Source

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Switches:
    """What is asked of each component; see `read`."""

    expression: bool | ExpressionKind = True
    captions: bool | Literal["later"] = True
    """`"later"`: empty texts take their places, as many captions take much memory."""
    patches: tuple[str, ...] = ("cell",)
    ccc: bool | Literal["pairs"] = True
    backed: bool = False
    genes: Sequence[str] | None = None
    on_error: OnError = "raise"
    levels: tuple[str, ...] = tuple(PATCHES)
    """Which images become elements; of an AnnData, all or none."""


class Panel(NamedTuple):
    """The genes of a table, and which columns of it the genes of a file become."""

    var: pd.DataFrame
    columns: GeneColumns


@dataclass
class TableBuilder:
    """Builds the table of the cells at `rows`.

    Parameters
    ----------
    source
        Where the cells come from.
    rows
        The cells asked for.
    switches
        What is read of them.
    panel
        The genes of the table, where it is to be joined with others; those asked for of the file for `None`.
    """

    source: Source
    rows: Rows
    switches: Switches
    panel: "Panel | None" = None
    notes: Notes = field(init=False)
    problems: Problems = field(init=False)

    def __post_init__(self) -> None:
        self.notes = Notes(str(self.source.path))
        names = self.index.names
        self.problems = Problems(str(self.source.path), lambda row: str(names.iloc[row]), self.switches.on_error)

    @property
    def index(self) -> CellIndex:
        """The index of the file."""
        return self.source.index

    @property
    def n_genes(self) -> int:
        """Length of a profile."""
        return self.index.findings.n_genes

    def build(self) -> "AnnData":
        """Return the table.

        Raises
        ------
        CellNetError
            If a component cannot be told, or under `on_error="raise"` a cell is malformed.
        """
        matrix, links = self.load()
        adata = self.assemble(matrix, self.index.obs_names(self.rows))
        if links is not None:
            pairs = self.switches.ccc == "pairs"
            annotate(adata, self.source, links, self.rows, pairs=pairs, genes=self.var.index, notes=self.notes)
        self.describe(adata)
        return adata

    def load(self) -> tuple[Any, CCCLinks | None]:
        """Return expression and CCC; `rows` are those of the sound cells from then on."""
        self._check_components()
        self._report_known_defects()
        matrix = self._matrix()
        links = read_links(self.source, self.rows, self.problems) if self.switches.ccc else None
        self.rows, kept = self._without_malformed()
        return matrix if matrix is None or kept.all() else matrix[kept], links

    def describe(self, adata: "AnnData") -> None:
        """Write to the table where it comes from, and warn of the cells left out."""
        self._provenance(adata)
        self.problems.warn()

    # --- what can be read --------------------------------------------------------------------------------------------

    @cached_property
    def components(self) -> frozenset[Component]:
        """The components that are asked for."""
        wanted = {Component.ATTRIBUTES, *(PATCHES[level] for level in self.switches.patches)}
        wanted |= {Component.EXPRESSION} if self.switches.expression else set()
        wanted |= {Component.CAPTION} if self.switches.captions else set()
        wanted |= {Component.CCC} if self.switches.ccc else set()
        return frozenset(wanted)

    def _check_components(self) -> None:
        for component, message in self.index.findings.errors.items():
            if component in self.components:
                raise LayoutError(message)

    def _report_known_defects(self) -> None:
        asked = np.zeros(len(self.index), dtype=bool)
        asked[self.rows] = True
        for problem in self.index.defects:
            relevant = problem.component in self.components or problem.component not in set(Component)
            if asked[problem.row] and relevant:
                self.problems.report(*problem)
        if self.switches.expression:
            self.problems.report_all(
                expression.misfits(self.index.forms[Component.EXPRESSION], self.rows, self.n_genes)
            )
        for level in self.switches.patches:
            if (frame := self.index.findings.frames.get(level)) is not None:
                forms = self.index.forms[PATCHES[level]]
                self.problems.report_all(images.misfits(forms, self.rows, frame, PATCHES[level]))
        self.rows = self._without_malformed()[0]

    def _without_malformed(self) -> tuple[Rows, NDArray[np.bool_]]:
        kept = ~np.isin(self.rows, self.problems.rows)
        return self.rows[kept], kept

    # --- genes -------------------------------------------------------------------------------------------------------

    @cached_property
    def var(self) -> pd.DataFrame:
        """All genes of the file, indexed by unique names."""
        return gene_table(self.source, self.notes)

    @cached_property
    def genes(self) -> "Panel":
        """The genes of the table, and where each is in the file."""
        if self.panel is not None:
            return self.panel
        taken = select_genes(self.var.index, self.switches.genes, gene_ids(self.var), self.source.path)
        var = self.var if taken is None else self.var.iloc[taken]
        return Panel(var, GeneColumns(len(var), taken))

    # --- the AnnData -------------------------------------------------------------------------------------------------

    def _matrix(self) -> Any:
        if not self.switches.expression:
            return None
        if self.switches.backed:
            return lazy_matrix(self.source, self.rows, self.genes.columns)
        return read_matrix(self.source, self.rows, self.genes.columns, self.problems, self.notes)

    def assemble(self, matrix: Any, names: pd.Index) -> "AnnData":
        """Return the table with this `X`, its cells called by `names`; CCC is not in it yet."""
        from anndata import AnnData

        var = self.genes.var if matrix is not None else None
        obsm = {key: positions[self.rows] for key, positions in self.index.obsm.items()}
        adata = AnnData(X=matrix, obs=self._obs(names), var=var, obsm=obsm)
        if matrix is not None and self.index.findings.expression == "lognorm":
            adata.uns["log1p"] = {"base": None}
        adata.uns["spatialdata_attrs"] = {
            "region": adata.obs[keys.REGION_KEY].cat.categories.tolist(),
            "region_key": keys.REGION_KEY,
            "instance_key": keys.INSTANCE_KEY,
        }
        return adata

    def _obs(self, names: pd.Index) -> pd.DataFrame:
        index = self.index
        frame = index.attributes(self.rows, names)
        slides = pd.Series(index.slide_labels(self.rows), index=names)
        own: dict[str, Any] = {
            keys.INSTANCE_KEY: pd.Series(names, index=names),
            keys.SLIDE: slides.cat.remove_unused_categories(),
            keys.REGION_KEY: _renamed(slides, keys.region),
            keys.SOURCE_FILE: pd.Categorical([str(index.path)] * len(frame), categories=[str(index.path)]),
            keys.SOURCE_ROW: self.rows,
        }
        for level in self.switches.patches:
            own[f"{level}_patch"] = patch_numbers(index, PATCHES[level], self.rows)
        if self.switches.captions == "later":
            own[keys.CAPTION] = captions.places(index.has(Component.CAPTION, self.rows), names)
        elif self.switches.captions:
            own[keys.CAPTION] = captions.column(index.captions_of(self.rows), names)
        containers = self._containers()
        if containers is not None:
            own[keys.CONTAINER] = containers
        for name in frame.select_dtypes("category"):
            frame[name] = frame[name].cat.remove_unused_categories()
        return pd.concat([pd.DataFrame(own, index=names), frame], axis=1)

    def _containers(self) -> pd.Categorical | None:
        """Return the group each cell lies in, where its slide does not tell."""
        if len(self.container_of_slide) == len(self.index.findings.slides):
            return None
        return self.index.containers[self.rows].remove_unused_categories()

    @cached_property
    def container_of_slide(self) -> dict[str, str]:
        """The group that all cells of a slide lie in, for the slides of which that is true."""
        pairs = pd.DataFrame({"slide": self.index.slides, "container": self.index.containers.codes}).drop_duplicates()
        single = pairs[~pairs.slide.duplicated(keep=False)]
        names, containers = self.index.slide_names(), self.index.containers.categories
        return {names[s]: str(containers[c]) for s, c in zip(single.slide, single.container, strict=True)}

    def _provenance(self, adata: "AnnData") -> None:
        spellings = self.index.spellings.for_cells(self.rows, adata.obs_names)
        self.notes.take(*described(self.index))
        self.notes.warn_of(*self.index.findings.scan_notes, *self.index.findings.notes)
        if self.index.unknown:
            self.notes.warn_of(f"what is no part of the layout was not read: {self.index.unknown_words}")
        slides = self.index.slide_names()
        adata.uns[keys.PROVENANCE] = {
            "source": json.dumps([str(self.source.path)]),
            "taken": json.dumps(self.notes.all, ensure_ascii=False),
            "skipped": json.dumps(self.problems.summary(), ensure_ascii=False),
            "attributes": msgspec.json.encode(spellings).decode(),
            "identity": json.dumps({str(self.source.path): [self.source.identity.size, self.source.identity.digest]}),
            "not_read": json.dumps(sorted(self._not_read())),
            "containers": json.dumps(self.container_of_slide, ensure_ascii=False),
            "slides": json.dumps(
                {slide.name: slide.original for slide in self.index.findings.slides}, ensure_ascii=False
            ),
            "mpp": json.dumps({slide.name: slide.mpp for slide in self.index.findings.slides}, ensure_ascii=False),
            keys.PATCH_SIZES: json.dumps(dict(self._patch_sizes()), ensure_ascii=False),
            keys.ANCHORED: json.dumps(dict.fromkeys(slides, self.index.findings.anchored), ensure_ascii=False),
            "wsi_scale": json.dumps({s.name: s.wsi_scale for s in self.index.findings.slides}, ensure_ascii=False),
            "without_ccc": json.dumps(self._without_ccc(adata), ensure_ascii=False),
            "genes": json.dumps(self._renamed_genes(), ensure_ascii=False),
            "genes_unnamed": json.dumps(self.source.genes is None),
            "choices": json.dumps(_stated(self.source.choices), ensure_ascii=False),
            "version": _version(),
        }

    def _patch_sizes(self) -> Iterator[tuple[str, dict[str, tuple[int, int]]]]:
        """Yield height and width of the patches of each slide, by level."""
        findings = self.index.findings
        for slide in findings.slides:
            frames = {level: findings.frame_of(slide, level) for level in findings.frames}
            yield slide.name, {level: frame.shape[:2] for level, frame in frames.items() if frame is not None}

    def _not_read(self) -> Iterator[str]:
        """Yield the components that the file has and that were not asked for."""
        wanted = {
            Component.EXPRESSION: self.switches.expression,
            Component.CAPTION: self.switches.captions,
            Component.CCC: self.switches.ccc,
            Component.CELL_PATCH: "cell" in self.switches.patches,
            Component.TISSUE_PATCH: "tissue" in {*self.switches.levels, *self.switches.patches},
            Component.WSI_PATCH: "wsi" in self.switches.levels,
        }
        yield from (
            str(component) for component, asked in wanted.items() if not asked and self.index.has(component).any()
        )

    def _without_ccc(self, adata: "AnnData") -> list[str]:
        """Return the names of the cells without CCC, if others have it: in `obsp` theirs are empty rows."""
        has = self.index.has(Component.CCC, self.rows)
        return [] if not has.any() else adata.obs_names[~has].tolist()

    def _renamed_genes(self) -> dict[str, str]:
        """Return the names in the file of the genes whose names were made unique."""
        genes = self.source.genes
        if genes is None:
            return {}
        return {str(new): old for new, old in zip(self.var.index, genes.names, strict=True) if new != old}


def _stated(choices: Any) -> dict[str, Any]:
    return {name: str(value) for name, value in msgspec.structs.asdict(choices).items() if value is not None}


def _version() -> str:
    from importlib.metadata import version

    return version("cellnet-sd")


def described(index: CellIndex) -> Iterator[str]:
    """Yield in words what a file was taken to be."""
    findings = index.findings
    yield f"expression: {findings.expression_words}"
    yield f"{findings.slides_words}: {', '.join(index.slide_names()[:10])}"
    yield f"CCC: {findings.ccc.describe() if findings.ccc else 'none'}; {findings.reach_words}"
    for level, frame in findings.frames.items():
        yield f"{level} patches: {frame.describe()}"
    yield f"anchor: {findings.anchor_words}"
    for slide in findings.slides:
        yield f"slide {slide.name}: µm per pixel {slide.mpp_text} ({slide.mpp_words}); WSI: {slide.wsi_words}"


def gene_ids(var: pd.DataFrame) -> list[str] | None:
    """Return the identifiers of genes, `None` where they have none."""
    return var[keys.GENE_IDS].tolist() if keys.GENE_IDS in var else None


def patch_numbers(index: CellIndex, component: Component, rows: Rows) -> NDArray[np.int32]:
    """Return the place of each cell's patch in the stack of its slide, int32; -1 where the cell has none."""
    numbers = np.full(len(rows), -1, dtype=np.int32)
    here = np.flatnonzero(index.has(component, rows))
    numbers[here] = pd.Series(here).groupby(index.slides[rows][here]).cumcount()
    return numbers


def _renamed(slides: pd.Series, name: Any) -> pd.Series:
    used = slides.cat.remove_unused_categories()
    return used.cat.rename_categories([name(str(slide)) for slide in used.cat.categories])
