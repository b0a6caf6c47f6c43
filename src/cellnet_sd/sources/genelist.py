"""Gene names: stated in the file, or in a gene list beside it."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cellnet_sd.components.text import decode_text, parse_json
from cellnet_sd.errors import LayoutError
from cellnet_sd.layout import FEATURE_TYPE_KEY, GENE_ID_KEY, GENE_KEYS
from cellnet_sd.sources.paths import is_remote
from cellnet_sd.sources.remote import existing, start_of

_ENDINGS = (".txt", ".csv", ".tsv", ".json", ".txt.gz", ".csv.gz", ".tsv.gz", ".json.gz")
_NAME_COLUMNS = ("gene_name", "gene_names", "gene", "genes", "symbol", "gene_symbol", "feature_name", "name", "names")
_ID_COLUMNS = ("gene_id", "gene_ids", "feature_id", "id", "ensembl_id", "ensembl")
_TYPE_COLUMNS = ("feature_type", "feature_types", "type")
_MAX_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Genes:
    """The genes of a file, in the order of its expression profiles.

    Parameters
    ----------
    names
        One name per gene, not necessarily unique.
    ids, types
        The other columns of 10x `features.tsv`, where the list has them.
    origin
        Where the names were found, in words.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    origin: str = ""

    def __len__(self) -> int:
        return len(self.names)


def find_genes(
    path: Path, stated: Mapping[str, Any], per_cell: Sequence[str] | None, n_genes: int, gene_list: Path | None
) -> Genes | None:
    """Return the genes of the file at `path`, by precedence: `gene_list`, the file itself, a list beside it.

    Parameters
    ----------
    path
        The HDF5 file.
    stated
        What its root states.
    per_cell
        Names that the cells state themselves, all alike.
    n_genes
        Length of an expression profile.
    gene_list
        A gene-list file the caller named.

    Returns
    -------
    The genes, or `None` if they are named nowhere.

    Raises
    ------
    LayoutError
        If a list that was named or stated has another length, or if two lists beside the file fit.
    """
    if gene_list is not None:
        return _fitting(read_gene_list(gene_list), n_genes, path)
    for key in GENE_KEYS:
        if isinstance(names := stated.get(key), list):
            ids, types = stated.get(GENE_ID_KEY), stated.get(FEATURE_TYPE_KEY)
            genes = Genes(tuple(names), _column(ids), _column(types), f"{key!r} of the file")
            return _fitting(genes, n_genes, path)
    if per_cell is not None:
        return _fitting(Genes(tuple(per_cell), origin="each cell's own gene names"), n_genes, path)
    return _beside(path, n_genes)


def _column(values: Any) -> tuple[str, ...] | None:
    return tuple(values) if isinstance(values, list) else None


def _fitting(genes: Genes, n_genes: int, path: Path) -> Genes:
    if len(genes) != n_genes:
        msg = (
            f"{path}: expression profiles have {n_genes:,} genes but {genes.origin} names {len(genes):,}. "
            "Pass the right list as gene_list=."
        )
        raise LayoutError(msg)
    return genes


def _beside(path: Path, n_genes: int) -> Genes | None:
    """Return the one gene list beside the file that has the right length; the file's own names first."""
    for files in _tiers(path):
        fitting = [genes for file in files if len(genes := read_gene_list(file)) == n_genes]
        if len(fitting) > 1 and len({genes.names for genes in fitting}) > 1:
            msg = (
                f"{path}: two gene lists beside it fit: {' and '.join(genes.origin for genes in fitting)}. "
                "Name the right one with gene_list=."
            )
            raise LayoutError(msg)
        if fitting:
            return fitting[0]
    return None


def listed_beside(path: Path) -> int:
    """Return how many genes the lists beside the file name, for profiles that do not show their length; 0 without one.

    Raises
    ------
    LayoutError
        If they name different numbers of genes.
    """
    for files in _tiers(path):
        lengths = {len(read_gene_list(file)) for file in files}
        if len(lengths) > 1:
            msg = f"{path}: the gene lists beside it differ in length. Name the right one with gene_list=."
            raise LayoutError(msg)
        if lengths:
            return lengths.pop()
    return 0


def _tiers(path: Path) -> Iterator[list[Path]]:
    """Yield the lists beside the file by precedence."""
    tiers = ((f"{path.stem}.genes.", f"{path.stem}_genes."), ("genes.",), ("gene_list.",), ("features.tsv",))
    names = _names_beside(path, [prefix for tier in tiers for prefix in tier])
    for prefixes in tiers:
        beside = (path.parent / name for name in names if name.startswith(prefixes))
        yield [each for each in beside if is_remote(path) or each.is_file()]  # no pipe, which would be waited for


def _names_beside(path: Path, prefixes: Sequence[str]) -> list[str]:
    """Return the names of the files beside a file that end like lists; of remote ones, those that were guessed."""
    if is_remote(path):
        stems = [prefix.removesuffix(".").removesuffix(".tsv") for prefix in prefixes]
        guessed = sorted(f"{stem}{ending}" for stem in stems for ending in _ENDINGS)
        return [each.name for each in existing([path.parent / name for name in guessed])]
    return sorted(entry.name for entry in path.parent.iterdir() if entry.name.endswith(_ENDINGS))


def read_gene_list(path: Path) -> Genes:
    """Return the genes a list names: one per line, a table (csv, tsv, 10x `features.tsv`), or JSON; gzipped or not.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    LayoutError
        If the list is too large or not of a known form.
    """
    text = decode_text(_bytes(path))
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1].lower()
    if kind == "json":
        return _from_json(text, path)
    delimiter = {"csv": ",", "tsv": "\t"}.get(kind, "\t")
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        msg = f"{path} cannot be read as a gene list: {error}."
        raise LayoutError(msg) from error
    if not rows:
        msg = f"{path} names no genes."
        raise LayoutError(msg)
    return _from_table(rows, path)


def _opened(path: Path) -> BinaryIO:
    return io.BytesIO(start_of(path, _MAX_BYTES + 1)) if is_remote(path) else path.open("rb")


def _bytes(path: Path) -> bytes:
    try:
        with _opened(path) as stored, gzip.open(stored) if path.name.endswith(".gz") else stored as file:
            data: bytes = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        msg = f"{path} cannot be read as a gene list: {error}."
        raise LayoutError(msg) from error
    if len(data) > _MAX_BYTES:
        msg = f"{path} is too large to be a gene list."
        raise LayoutError(msg)
    return data


def _from_json(text: str, path: Path) -> Genes:
    try:
        value = parse_json(text)
    except ValueError as error:
        msg = f"{path} is broken JSON: {error}."
        raise LayoutError(msg) from error
    if isinstance(value, dict):
        value = next((value[key] for key in (*GENE_KEYS, *_NAME_COLUMNS) if isinstance(value.get(key), list)), None)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        msg = f"{path} is not a JSON list of gene names."
        raise LayoutError(msg)
    return Genes(tuple(value), origin=str(path))


def _from_table(rows: list[list[str]], path: Path) -> Genes:
    header = [cell.strip().lower() for cell in rows[0]]
    known = {*_NAME_COLUMNS, *_ID_COLUMNS, *_TYPE_COLUMNS}
    if not known.isdisjoint(header) and not known.isdisjoint({header[0], header[-1]}):
        return _from_columns(header, rows[1:], path)
    width = len(rows[0])
    if width == 1:
        return Genes(tuple(row[0].strip() for row in rows), origin=str(path))
    if any(len(row) != width for row in rows):
        msg = f"{path}: its rows differ in length; a gene list has one gene per row."
        raise LayoutError(msg)
    columns = list(zip(*rows, strict=True))
    if path.name.removesuffix(".gz").endswith(".tsv"):  # 10x: id, name, type
        return Genes(columns[1], columns[0], columns[2] if width > 2 else None, str(path))
    msg = f"{path} has {width} columns and no header that says which names the genes (`gene_name`, `symbol`, …)."
    raise LayoutError(msg)


def _from_columns(header: list[str], rows: list[list[str]], path: Path) -> Genes:
    def column(names: Sequence[str]) -> tuple[str, ...] | None:
        at = next((header.index(name) for name in names if name in header), None)
        return None if at is None else tuple(row[at] for row in rows)

    ids = column(_ID_COLUMNS)
    names = column(_NAME_COLUMNS) or ids
    if names is None:
        msg = f"{path}: no column of {header} names the genes."
        raise LayoutError(msg)
    return Genes(names, ids, column(_TYPE_COLUMNS), str(path))
