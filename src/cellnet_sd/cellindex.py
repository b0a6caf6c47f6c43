"""The cell index: one row per cell, in the order of the file. Built once per file and saved beside it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd import keys
from cellnet_sd.components import attributes
from cellnet_sd.components.attributes import Spellings
from cellnet_sd.findings import Findings, SlideFinding
from cellnet_sd.layout import SLIDE_NAMES_KEY, Component
from cellnet_sd.problems import GROUP, Problem
from cellnet_sd.rows import CellOrder, row_order
from cellnet_sd.slides import Evidence, assign_slides
from cellnet_sd.sources.facts import Facts, FormColumn, Stated
from cellnet_sd.sources.locations import Located

Rows = NDArray[np.int64]
_SHOWN = 8


@dataclass(frozen=True)
class CellIndex:
    """What is known of every cell of a file without reading its expression or images.

    Parameters
    ----------
    path
        The file.
    names
        Bare name of each cell's group.
    containers
        Path of the group each cell lies in, `""` for the root.
    slides
        Slide of each cell: int32 codes into `findings.slides`.
    obs, obsm
        Attributes as columns, and positions in pixels.
    spellings
        How the attributes are spelled in the file; exceptions by row.
    forms
        How each component of each cell is stored.
    wsi
        A number per distinct WSI image, -1 where a cell has none.
    stated
        What the root and the containers state.
    defects
        What cannot be read, as far as the index can tell.
    unknown
        Objects in the file that are no part of the layout, and how many of each.
    gene_names
        Gene names that the cells state themselves, all alike.
    findings
        What was found out by looking at samples, or chosen by the caller.
    names_are_unique
        Whether no two cells have the same bare name.
    load_captions
        Gives the captions of the cells at some rows when they are asked for, in that order; of all for `None`.
    load_located
        Gives where the bytes of a component are when they are asked for; `None` where the index does not say.
    """

    path: Path
    names: pd.Series
    containers: pd.Categorical
    slides: NDArray[np.int32]
    obs: pd.DataFrame
    obsm: Mapping[str, NDArray[np.float64]]
    spellings: Spellings
    forms: Mapping[Component, FormColumn]
    wsi: NDArray[np.int32]
    stated: Mapping[str, Stated]
    defects: tuple[Problem, ...]
    unknown: Mapping[str, int]
    gene_names: tuple[str, ...] | None
    findings: Findings
    names_are_unique: bool
    load_captions: Callable[[Rows | None], pd.Series]
    load_located: Callable[[Component], Located | None]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def broken(self) -> Mapping[int, str]:
        """Why cells cannot be read at all, by row."""
        return {problem.row: problem.reason for problem in self.defects if problem.component == GROUP}

    @property
    def captions(self) -> pd.Series:
        """Captions in row order, `str`, missing where a cell has none."""
        return self.load_captions(None)

    def captions_of(self, rows: Rows) -> pd.Series:
        """Return the captions of the cells at `rows`, `str`, missing where a cell has none; others are not loaded."""
        return self.load_captions(rows)

    @property
    def unknown_words(self) -> str:
        """Objects that are no part of the layout, the commonest first, with their counts; empty if there are none."""
        names = sorted(self.unknown, key=lambda name: (-self.unknown[name], name))
        shown = ", ".join(f"{name!r} ({self.unknown[name]:,})" for name in names[:_SHOWN])
        return f"{shown}{', …' * (len(names) > _SHOWN)}"

    def group_paths(self, rows: Sequence[int] | Rows) -> list[str]:
        """Return the path of the group of each cell at `rows`."""
        containers = self.containers.categories[self.containers.codes[rows]]
        return [f"{container}/{name}" for container, name in zip(containers, self.names.iloc[rows], strict=True)]

    def has(self, component: Component, rows: Rows | slice = slice(None)) -> NDArray[np.bool_]:
        """Return whether each cell at `rows` has `component`."""
        return np.asarray(self.forms[component].codes[rows] >= 0)

    def slide_names(self) -> list[str]:
        """Return the names of the slides."""
        return [slide.name for slide in self.findings.slides]

    def rows_of_slides(self) -> list[Rows]:
        """Return the rows of each slide, in file order."""
        order = np.argsort(self.slides, kind="stable").astype(np.int64)
        ends = np.cumsum(np.bincount(self.slides, minlength=len(self.findings.slides)))
        return np.split(order, ends[:-1])

    def obs_names(self, rows: Rows | None = None, clashing: NDArray[np.bool_] | None = None) -> pd.Index:
        """Return the names of the cells at `rows` as an object has them.

        The bare group name where it is unique among them, `{slide}/{name}` for those that clash, and the path of the
        group for those that still do. After the last slash is always the bare name. `clashing` says which bare names
        clash, where cells of other files are in the object too.
        """
        names = self.names if rows is None else self.names.iloc[rows]
        if clashing is None and self.names_are_unique:
            return pd.Index(names, name=None)
        clashing = names.duplicated(keep=False).to_numpy() if clashing is None else clashing
        if not clashing.any():
            return pd.Index(names, name=None)
        at = np.flatnonzero(clashing) if rows is None else np.asarray(rows)[clashing]
        full = names.to_numpy(dtype=object).copy()
        full[clashing] = np.array(self.slide_names(), dtype=object)[self.slides[at]] + "/" + full[clashing]
        still = pd.Series(full).duplicated(keep=False).to_numpy()
        if still.any():  # several groups of one slide hold a cell of this name
            at = np.flatnonzero(still) if rows is None else np.asarray(rows)[still]
            full[still] = [f"{self.containers[row]}/{self.names.iloc[row]}" for row in at]
        return pd.Index(full, dtype="str")

    def renamed_slides(self, names: Sequence[str]) -> "CellIndex":
        """Return the index with its slides called otherwise, in their order."""
        slides = tuple(
            msgspec.structs.replace(slide, name=name) for slide, name in zip(self.findings.slides, names, strict=True)
        )
        return replace(self, findings=msgspec.structs.replace(self.findings, slides=slides))

    def frame(self, rows: Rows | None = None, names: pd.Index | None = None) -> pd.DataFrame:
        """Return the attributes of the cells at `rows`, with their slide, indexed by `names` or `obs_names`."""
        frame = self.attributes(rows, self.obs_names(rows) if names is None else names)
        frame.insert(0, keys.SLIDE, self.slide_labels(rows))
        return frame

    def attributes(self, rows: Rows | None, names: pd.Index) -> pd.DataFrame:
        """Return the attributes of the cells at `rows`, indexed by `names`."""
        return (self.obs if rows is None else self.obs.iloc[rows]).set_axis(names)

    def slide_labels(self, rows: Rows | None = None) -> pd.Categorical:
        """Return the slide of each of the cells at `rows`."""
        slides = self.slides if rows is None else self.slides[rows]
        return pd.Categorical.from_codes(slides, categories=self.slide_names())


def from_facts(path: Path, facts: Facts) -> CellIndex:
    """Return the index of a scanned file, its rows ordered and its slides told apart; samples not yet looked at."""
    if facts.order is None:
        facts = facts.ordered(*row_order(path, facts.names, facts.containers, facts.stated))
    assert facts.order is not None
    table = attributes.decode(facts.documents)
    captions = facts.captions
    index = CellIndex(
        path=path,
        names=facts.names,
        containers=facts.containers,
        slides=np.zeros(len(facts), np.int32),
        obs=table.obs,
        obsm=table.obsm,
        spellings=table.spellings,
        forms=facts.forms,
        wsi=facts.wsi,
        stated=facts.stated,
        defects=tuple(sorted([*facts.defects, *table.problems])),
        unknown=dict(facts.unknown),
        gene_names=facts.gene_names,
        findings=Findings(order=facts.order, scan=facts.scan, scan_notes=tuple(_notes(facts))),
        names_are_unique=bool(facts.names.is_unique),
        load_captions=lambda asked: captions if asked is None else captions.iloc[asked].reset_index(drop=True),
        load_located=facts.located.get,
    )
    return with_slides(index)


def _notes(facts: Facts) -> Iterator[str]:
    if facts.n_latin1:
        yield f"{facts.n_latin1:,} captions or attributes are not UTF-8 and were read as latin-1"


def with_slides(index: CellIndex, slide_key: str | None = None) -> CellIndex:
    """Return `index` with its slides told apart anew; what was found on samples is forgotten.

    Raises
    ------
    LayoutError
        If `slide_key` names nothing in the file.
    """
    stated = index.stated[""].values.get(SLIDE_NAMES_KEY)
    names = stated if isinstance(stated, list) else None
    evidence = Evidence(index.path, index.obs, index.spellings, index.containers, index.wsi, names)
    slides = assign_slides(evidence, slide_key)
    counts = np.bincount(slides.codes, minlength=len(slides.names))
    found = tuple(
        SlideFinding(name=name, original=original, n_cells=int(count))
        for name, original, count in zip(slides.names, slides.originals, counts, strict=True)
    )
    old = index.findings
    notes = (f"slides were told apart by {slides.words}",) if slides.split else ()
    findings = Findings(
        order=old.order,
        scan=old.scan,
        scan_notes=old.scan_notes,
        slides_by=slides.words,
        slides=found,
        notes=notes,
    )
    return replace(index, slides=slides.codes, findings=findings)


def reordered(index: CellIndex, order: CellOrder) -> CellIndex:
    """Return `index` with its rows in another order; slides and findings are those of the old order.

    Raises
    ------
    LayoutError
        If the file lacks that order.
    """
    rows, order = row_order(index.path, index.names, index.containers, index.stated, order)
    row_of = np.empty(len(rows), dtype=np.int64)
    row_of[rows] = np.arange(len(rows))
    load, located = index.load_captions, index.load_located
    return replace(
        index,
        names=index.names.iloc[rows].reset_index(drop=True),
        containers=index.containers.take(rows),
        slides=index.slides[rows],
        obs=index.obs.iloc[rows].reset_index(drop=True),
        obsm={key: positions[rows] for key, positions in index.obsm.items()},
        spellings=index.spellings.for_cells(rows, range(len(rows))),
        forms={component: column.take(rows) for component, column in index.forms.items()},
        wsi=index.wsi[rows],
        defects=tuple(sorted(Problem(int(row_of[p.row]), p.component, p.reason) for p in index.defects)),
        findings=msgspec.structs.replace(index.findings, order=order),
        load_captions=lambda asked: load(rows if asked is None else rows[asked]),
        load_located=lambda component: None if (found := located(component)) is None else found.take(rows),
    )
