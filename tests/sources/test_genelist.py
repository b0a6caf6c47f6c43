"""Gene lists: every form, where they are looked for and in which order, and what is refused."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from cellnet_sd.errors import LayoutError
from cellnet_sd.sources.genelist import Genes, find_genes, read_gene_list

NAMES = ("CD3E", "HLA-DRA", "MT-CO1")
IDS = ("ENSG1", "ENSG2", "ENSG3")
TYPE = "Gene Expression"


def put(folder: Path, name: str, text: str) -> Path:
    """Write a list, compressed where its name says so."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def lines(*columns: Any, sep: str = "\t", header: str = "") -> str:
    return header + "".join(f"{sep.join(row)}\n" for row in zip(*columns, strict=True))


FORMS = {
    "g.txt": lines(NAMES),
    "g.txt.gz": lines(NAMES),
    "crlf.txt": lines(NAMES).replace("\n", "\r\n"),
    "bom.txt": "\ufeff" + lines(NAMES),
    "blank lines.txt": "\n" + lines(NAMES).replace("\n", "\n\n"),
    "no newline at the end.txt": lines(NAMES).rstrip(),
    "g.csv": lines(NAMES),
    "g.tsv": lines(NAMES),
    "header.csv": lines(NAMES, header="gene_name\n"),
    "Header.csv": lines(NAMES, header="Gene\n"),
    "numbered.csv": lines("012", NAMES, sep=",", header=",gene\n"),
    "quoted.csv": lines([f'"{name}"' for name in NAMES], header='"symbol"\n'),
    "g.json": json.dumps(NAMES),
    "g.json.gz": json.dumps(NAMES),
    "keyed.json": json.dumps({"version": 3, "gene_names": NAMES}),
}
WITH_IDS = {
    "features.tsv": lines(IDS, NAMES, [TYPE] * 3),
    "features.tsv.gz": lines(IDS, NAMES, [TYPE] * 3),
    "header.csv": lines(IDS, NAMES, [TYPE] * 3, sep=",", header="gene_id,gene_name,feature_type\n"),
    "turned.tsv": lines([TYPE] * 3, NAMES, IDS, header="feature_type\tgene_name\tgene_id\n"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_list_of_names_is_read_in_every_form(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, FORMS[name])
    assert read_gene_list(path) == Genes(NAMES, origin=str(path))


@pytest.mark.parametrize("name", WITH_IDS)
def test_a_table_gives_identifiers_and_types_too(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, WITH_IDS[name])
    assert read_gene_list(path) == Genes(NAMES, IDS, (TYPE,) * 3, str(path))


def test_two_columns_of_a_tsv_are_identifiers_and_names(tmp_path: Path) -> None:
    assert read_gene_list(put(tmp_path, "genes.tsv", lines(IDS, NAMES))) == Genes(
        NAMES, IDS, origin=str(tmp_path / "genes.tsv")
    )


def test_identifiers_alone_are_the_names(tmp_path: Path) -> None:
    found = read_gene_list(put(tmp_path, "g.csv", lines(IDS, header="gene_id\n")))
    assert (found.names, found.ids) == (IDS, IDS)


@pytest.mark.parametrize("names", [("NA", "nan", "1-Mar"), ("True", "007", "1e5"), ("β2M", "a b", "x,y")])
def test_names_that_look_like_something_else_stay_as_they_are(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert read_gene_list(put(tmp_path, "g.txt", lines(names))).names == names
    assert read_gene_list(put(tmp_path, "g.json", json.dumps(names))).names == names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("empty.txt", ""),
        ("blank.csv", " \n\n"),
        ("two columns.csv", "a,b\nc,d\n"),
        ("ragged.tsv", "a\tb\nc\n"),
        ("broken.json", '["a"'),
        ("half.json", r'["a", "\ud800"]'),
        ("deep.json", "[" * 99_999),
        ("numbers.json", "[1, 2]"),
        ("unkeyed.json", '{"x": ["a"]}'),
        ("types.csv", "feature_type\nGene Expression\n"),
    ],
)
def test_what_names_no_genes_is_an_error_that_names_the_file(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(LayoutError, match=name):
        read_gene_list(put(tmp_path, name, text))


def test_a_broken_archive_and_a_folder_are_errors_of_ours(tmp_path: Path) -> None:
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"CD3E\n" * 100)[:-12])
    (tmp_path / "plain.txt.gz").write_bytes(b"CD3E\n")
    (tmp_path / "folder.txt").mkdir()
    for name in ("cut.txt.gz", "plain.txt.gz", "folder.txt"):
        with pytest.raises(LayoutError, match=name):
            read_gene_list(tmp_path / name)


def test_an_archive_that_inflates_without_end_is_refused(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "g.txt.gz", "wb", compresslevel=1) as file:
        for _ in range(257):
            file.write(bytes(2**20))
    with pytest.raises(LayoutError, match="too large"):
        read_gene_list(tmp_path / "g.txt.gz")


def test_a_list_that_is_not_there_is_pythons_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_gene_list(tmp_path / "nowhere.txt")


# --- where they are looked for ---------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a file lies; gene lists are looked for beside it."""
    return tmp_path / "her2.st.h5"


@pytest.mark.parametrize(
    "name",
    [
        "her2.st.genes.txt",
        "her2.st_genes.csv",
        "genes.json",
        "gene_list.txt.gz",
        "features.tsv.gz",
        "her2.st.genes.tsv.gz",
    ],
)
def test_a_list_beside_the_file_is_found(path: Path, name: str) -> None:
    text = json.dumps(NAMES) if "json" in name else lines(NAMES)
    put(path.parent, name, text)
    found = find_genes(path, {}, None, 3, None)
    assert found is not None
    assert found.names == NAMES
    assert name in found.origin


@pytest.mark.parametrize(
    "name", ["other.genes.txt", "her2.genes.txt", "mygenes.txt", "features.csv", "genes.xlsx", "genes"]
)
def test_other_files_beside_it_are_left_alone(path: Path, name: str) -> None:
    put(path.parent, name, lines(NAMES))
    assert find_genes(path, {}, None, 3, None) is None


def test_precedence_is_the_callers_then_the_files_then_the_cells_then_the_nearest_name(path: Path) -> None:
    def found(**given: Any) -> tuple[str, ...]:
        genes = find_genes(path, given.get("stated", {}), given.get("per_cell"), 1, given.get("gene_list"))
        assert genes is not None
        return genes.names

    put(path.parent, "features.tsv", "i\tlast\tt\n")
    assert found() == ("last",)
    put(path.parent, "gene_list.txt", "third\n")
    assert found() == ("third",)
    put(path.parent, "genes.txt", "second\n")
    assert found() == ("second",)
    put(path.parent, "her2.st.genes.txt", "first\n")
    assert found() == ("first",)
    assert found(per_cell=["cell"]) == ("cell",)
    assert found(per_cell=["cell"], stated={"genes": ["root"], "mpp": 1.0}) == ("root",)
    given = put(path.parent, "elsewhere/x.txt", "given\n")
    assert found(per_cell=["cell"], stated={"genes": ["root"]}, gene_list=given) == ("given",)


def test_identifiers_stated_beside_the_names_come_along(path: Path) -> None:
    stated = {"gene_names": list(NAMES), "gene_ids": list(IDS), "feature_types": [TYPE] * 3}
    found = find_genes(path, stated, None, 3, None)
    assert found == Genes(NAMES, IDS, (TYPE,) * 3, "'gene_names' of the file")


def test_a_list_of_another_length_is_passed_over_beside_the_file_and_refused_elsewhere(path: Path) -> None:
    given = put(path.parent, "genes.txt", lines(NAMES))
    assert find_genes(path, {}, None, 2, None) is None
    for how in ({"gene_list": given}, {"stated": {"genes": list(NAMES)}}, {"per_cell": NAMES}):
        with pytest.raises(LayoutError, match=r"2 genes but .* names 3.*gene_list="):
            find_genes(path, how.get("stated", {}), how.get("per_cell"), 2, how.get("gene_list"))


def test_two_lists_that_fit_are_an_error_unless_they_say_the_same(path: Path) -> None:
    put(path.parent, "genes.txt", lines(NAMES))
    put(path.parent, "genes.json", json.dumps(NAMES))
    found = find_genes(path, {}, None, 3, None)
    assert found is not None
    assert found.names == NAMES
    put(path.parent, "genes.csv", "A\nB\nC\n")
    with pytest.raises(LayoutError, match=r"two gene lists .*gene_list="):
        find_genes(path, {}, None, 3, None)
