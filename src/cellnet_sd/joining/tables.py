"""The table of the cells of one or several files."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd

from cellnet_sd import keys
from cellnet_sd.communication import note_links
from cellnet_sd.components import ccc
from cellnet_sd.components.attributes import Spellings
from cellnet_sd.errors import LayoutError
from cellnet_sd.joining.columns import unified
from cellnet_sd.joining.links import joined_links
from cellnet_sd.joining.namespaces import cell_names, files_words, measured
from cellnet_sd.layout import CCC_REACH_UM
from cellnet_sd.notes import Notes, provenance
from cellnet_sd.sources.base import Source
from cellnet_sd.table import TableBuilder

if TYPE_CHECKING:
    from anndata import AnnData


class Piece(NamedTuple):
    """The cells of one file in a table: where they come from, they themselves, and where to note what is odd."""

    source: Source
    cells: "AnnData"
    notes: Notes


@dataclass
class TableOfFiles:
    """Builds the table of the cells of one or several files.

    Parameters
    ----------
    parts
        What builds the table of each file; of several, all with a panel of the same genes.
    labels
        What each file is called, where several were asked for; cells may be taken of one of them only.
    notes
        What holds of all files together.
    """

    parts: Sequence[TableBuilder]
    labels: Sequence[str] = ()
    notes: Notes = field(default_factory=lambda: Notes(""))

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [part.source.path for part in self.parts]

    def build(self) -> "AnnData":
        """Return the table.

        Raises
        ------
        CellNetError
            As `TableBuilder.build`.
        LayoutError
            If expression or CCC of the files are not of one kind.
        """
        return self._joined() if self.labels else self.parts[0].build()

    def pieces(self, adata: "AnnData") -> list[Piece]:
        """Return the cells of each file in the table that was built."""
        if not self.labels:
            return [Piece(self.parts[0].source, adata, self.parts[0].notes)]
        ends = np.cumsum([0, *(len(part.rows) for part in self.parts)]).tolist()
        return [
            Piece(part.source, adata[begin:end], part.notes)
            for part, begin, end in zip(self.parts, ends[:-1], ends[1:], strict=True)
        ]

    def speak(self, stacklevel: int = 3) -> None:
        """Log and warn of what is to be known of each file, and of all together."""
        for notes in [*(part.notes for part in self.parts), self.notes]:
            notes.speak(stacklevel + 1)

    # --- joining -----------------------------------------------------------------------------------------------------

    def _joined(self) -> "AnnData":
        self._check_kinds()
        loaded = [part.load() for part in self.parts]
        names = cell_names([(part.index, part.rows) for part in self.parts])
        tables = []
        for part, own, (matrix, _) in zip(self.parts, names, loaded, strict=True):
            table = part.assemble(matrix, own)
            part.describe(table)
            tables.append(table)
        self._complete_containers(tables)
        adata = _concatenated(tables, self.notes)
        if adata.X is not None:
            own_columns = [part.genes.columns for part in self.parts]
            adata.varm[keys.MEASURED] = measured(list(zip(self.labels, own_columns, strict=True)), adata.var)
        self._annotate(adata, [links for _, links in loaded])
        adata.uns[keys.PROVENANCE] = _provenance(tables, self.labels, self.notes)
        return adata

    def _complete_containers(self, tables: Sequence["AnnData"]) -> None:
        """State the group of every cell, where it is stated of some: their slides do not tell it."""
        if any(keys.CONTAINER in table.obs for table in tables):
            for part, table in zip(self.parts, tables, strict=True):
                table.obs[keys.CONTAINER] = part.index.containers[part.rows].remove_unused_categories()

    def _check_kinds(self) -> None:
        """Refuse to put counts and logarithms into one matrix."""
        if not self.parts[0].switches.expression:
            return
        kinds: dict[Any, Path] = {}
        for part in self.parts:
            kinds.setdefault(part.index.findings.expression, part.source.path)
        if len(kinds) > 1:
            said = " and ".join(f"{path} holds {kind or 'no expression'}" for kind, path in kinds.items())
            msg = f"{said}: they do not go into one matrix. Say what they are with expression=, or read them apart."
            raise LayoutError(msg)

    def _annotate(self, adata: "AnnData", links: Sequence[ccc.CCCLinks | None]) -> None:
        """Write the CCC of all files to the joined table, as that of one."""
        pairs = self.parts[0].switches.ccc == "pairs"
        tables = [
            None if own is None else ccc.select(own, part.rows, pairs=pairs)
            for part, own in zip(self.parts, links, strict=True)
        ]
        if all(table is None for table in tables):
            return
        scales = {slide.mpp for part in self.parts for slide in part.index.findings.slides}
        mpp = scales.pop() if len(scales) == 1 else None
        joined = joined_links(tables, [len(part.rows) for part in self.parts], files_words(self.paths))
        reach = None if mpp is None else CCC_REACH_UM / mpp
        genes = pd.Index(np.concatenate([part.var.index.to_numpy(dtype=object) for part in self.parts])).unique()
        found = ccc.annotate(adata, joined, genes=genes, distance_threshold=reach)
        note_links(found, sum(own.n_inexact for own in links if own is not None), self.notes)


def _concatenated(tables: Sequence["AnnData"], notes: Notes) -> "AnnData":
    """Return the tables one below the other; their genes are the same already."""
    import anndata

    for table, obs in zip(tables, unified([table.obs for table in tables], notes), strict=True):
        table.obs = obs
    adata = anndata.concat(list(tables), join="outer", merge="same")
    columns = dict.fromkeys(column for table in tables for column in table.obs)
    adata.obs = adata.obs[list(columns)]
    attrs = [table.uns["spatialdata_attrs"] for table in tables]
    regions = adata.obs[keys.REGION_KEY].cat.categories.tolist()
    adata.uns["spatialdata_attrs"] = {**attrs[0], "region": regions}
    if "log1p" in tables[0].uns:
        adata.uns["log1p"] = tables[0].uns["log1p"]
    return adata


# --- provenance ------------------------------------------------------------------------------------------------------


def _provenance(tables: Sequence["AnnData"], labels: Sequence[str], notes: Notes) -> dict[str, str]:
    """Return the provenance of a joined table: what was said of each file, under its label or by its slides."""

    def each(what: str) -> Iterator[Any]:
        return (provenance(table, what) for table in tables)

    def merged(what: str) -> dict[str, Any]:
        return {key: value for own in each(what) for key, value in own.items()}

    def labelled(what: str) -> Iterator[tuple[str, Any]]:
        return zip(labels, each(what), strict=True)

    joined = {
        "source": [path for own in each("source") for path in own],
        "labels": {label: own[0] for label, own in labelled("source")},
        "taken": [*notes.all, *(f"{label}: {sentence}" for label, own in labelled("taken") for sentence in own)],
        "skipped": {f"{label}/{cell}": why for label, own in labelled("skipped") for cell, why in own.items()},
        "identity": merged("identity"),
        "not_read": sorted({name for own in each("not_read") for name in own}),
        "containers": _containers(list(each("containers"))),
        "without_ccc": [name for own in each("without_ccc") for name in own],
        "genes": merged("genes"),
        "genes_unnamed": False,
        "choices": next(each("choices")),
        **{what: merged(what) for what in ("slides", "mpp", keys.PATCH_SIZES, keys.ANCHORED, "wsi_scale")},
    }
    about = {what: json.dumps(value, ensure_ascii=False) for what, value in joined.items()}
    stated = [table.uns[keys.PROVENANCE] for table in tables]
    spellings = [msgspec.json.decode(own["attributes"], type=Spellings) for own in stated]
    return {**about, "attributes": msgspec.json.encode(_spellings(spellings)).decode(), "version": stated[0]["version"]}


def _containers(of_files: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the group of each slide; nothing where slides of two files are in groups of one name."""
    groups = [set(own.values()) for own in of_files]
    if len(set().union(*groups)) < sum(map(len, groups)):
        return {}
    return {slide: group for own in of_files for slide, group in own.items()}


def _spellings(of_files: Sequence[Spellings]) -> Spellings:
    """Return how attributes are spelled: as in the first file that has them; the others' spellings are exceptions."""
    found: dict[str, Any] = {}
    exceptions: dict[str, dict[str, str | None]] = {}
    for own in of_files:
        for attribute in own.attributes:
            found.setdefault(attribute.column, attribute)
        for name, cells in own.exceptions.items():
            exceptions.setdefault(name, {}).update(cells)
    everywhere = set.intersection(*({each.column for each in own.attributes} for own in of_files))
    attributes = [
        each if each.column in everywhere else msgspec.structs.replace(each, absent=True) for each in found.values()
    ]
    return Spellings(tuple(attributes), exceptions)
