"""`validate` finds each planted defect, counts it and names the cells; sound files have none."""

import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cellnet_sd.errors import LayoutError
from cellnet_sd.settings import settings
from cellnet_sd.sources.hdf5 import Hdf5Source
from cellnet_sd.validator import Finding, Report, validate

N_SIDE, STEP, TISSUE, CELL, SCALE = 4, 20, 24, 8, 4
GENES = ["EPCAM", "KRT8", "CD3E", "CD8A", "COL1A1"]


@pytest.fixture(autouse=True)
def _no_index_beside() -> Any:
    with settings.override(index=False):
        yield


def write_sound(path: Path, containers: tuple[str, ...] = ("",), n_side: int = N_SIDE) -> list[str]:
    """Write a file of `n_side`² cells per slide, sound in every component; return the paths of its cells."""
    n = n_side**2
    paths = [f"{container}/Cell_{i + 1}".lstrip("/") for container in containers for i in range(n)]
    with h5py.File(path, "w", track_order=True) as root:
        root["gene_names"] = GENES
        root.attrs.update(mpp=1.0, wsi_scale=float(SCALE))
        for number, container in enumerate(containers):
            group = root.create_group(container, track_order=True) if container else root
            slide = np.random.default_rng(number).integers(0, 255, (n_side * STEP + 40,) * 2 + (3,), dtype=np.uint8)
            for i in range(n):
                _write_cell(group.create_group(f"Cell_{i + 1}"), i, slide, (number * n, len(paths)), n_side)
    return paths


def _write_cell(cell: h5py.Group, i: int, slide: Any, numbering: tuple[int, int], n_side: int) -> None:
    x, y = 20 + STEP * (i % n_side), 20 + STEP * (i // n_side)
    cell["expression"] = np.array([0, 0.5 + i, 0, 1.25, 0], "f4")
    attributes = {
        "source": "Human",
        "tissue": "Lung",
        "cell_type": "T-cell",
        "cell_disease_state": "nondisease",
        "tissue_disease_state": "Cancer",
        "Position_in_tissue": f"({x - 20}, {y - 20})",
        "Position_in_WSI": f"({x}, {y})",
        "cell_diameter": "9.0 µm",
        "st_technology": "Xenium",
    }
    cell["attributes.json"] = json.dumps(attributes)
    cell["caption.txt"] = f"A T-cell, number {i}."
    for key, side in {"cell_patch": CELL, "tissue_patch": TISSUE}.items():
        half = side // 2
        cell[f"images/{key}"] = slide[y - half : y + half, x - half : x + half]
    cell["images/WSI_patch"] = slide[::SCALE, ::SCALE]
    first, n = numbering
    write_links(cell, [first + (i + 1) % n_side**2], n)


def write_links(cell: h5py.Group, receivers: list[int], n: int) -> None:
    """Write CCC as a (1, n) CSR group."""
    if "CCC" in cell:
        del cell["CCC"]
    group = cell.create_group("CCC")
    group["data"] = np.ones(len(receivers), "f4")
    group["indices"] = np.array(receivers, "i4")
    group["indptr"] = np.array([0, len(receivers)], "i4")
    group.attrs.update({"encoding-type": "csr_matrix", "shape": (1, n)})


def replace(cell: h5py.Group, key: str, value: Any) -> None:
    """Store another value under `key`."""
    del cell[key]
    cell[key] = value


def change(cell: h5py.Group, **changed: Any) -> None:
    """Change attributes; `...` removes one."""
    attributes = json.loads(cell["attributes.json"][()]) | changed
    kept = {key: value for key, value in attributes.items() if value is not ...}
    replace(cell, "attributes.json", json.dumps(kept))


def said(report: Report) -> list[Finding]:
    """Return the errors and warnings."""
    return [finding for finding in report.findings if finding.severity != "info"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a sound file of one slide."""
    write_sound(tmp_path / "sound.h5")
    return tmp_path / "sound.h5"


@pytest.fixture
def two_slides(tmp_path: Path) -> Path:
    """Return a sound file of two slides in containers, with unlike cell names."""
    path = tmp_path / "two.h5"
    write_sound(path, ("left", "right"))
    with h5py.File(path, "a") as root:
        for i in range(N_SIDE**2):
            root["right"].move(f"Cell_{i + 1}", f"Cell_{i + 101}")
    return path


# --- sound files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["path", "two_slides"])
def test_a_sound_file_has_nothing_but_infos(which: str, request: pytest.FixtureRequest) -> None:
    report = validate(request.getfixturevalue(which))
    assert said(report) == []
    assert not report.has_defects
    assert report.n_cells == N_SIDE**2 * (2 if which == "two_slides" else 1)
    text = repr(report)
    assert text == str(report)
    assert f"No defects: {report.n_cells} cells, 5 genes, " in text
    assert "\n" not in text


def test_what_the_file_was_taken_to_be_is_among_the_infos(path: Path) -> None:
    infos = " ".join(finding.problem for finding in validate(path).of("info"))
    for word in ("caption.txt in 16", "log-normalised", "ccc_layout='cells'", "8 by 8 px RGB", "'mpp' of the root"):
        assert word in infos


def test_a_sound_file_without_some_components_has_no_defects(path: Path) -> None:
    with h5py.File(path, "a") as root:
        for name in root:
            if name.startswith("Cell"):
                for key in ("caption.txt", "CCC", "images"):
                    del root[name][key]
    assert said(validate(path)) == []


@pytest.mark.parametrize("file", ["lung", "her2st"])
def test_the_real_files_have_no_errors(file: str, request: pytest.FixtureRequest) -> None:
    report = validate(request.getfixturevalue(file))
    assert not report.has_defects
    assert report.n_cells == {"lung": 200, "her2st": 220}[file]
    warnings = {(finding.component, finding.n_cells) for finding in report.of("warning")}
    assert warnings == {"lung": set(), "her2st": {("genes", 0)}}[file]


# --- one defect in two cells -----------------------------------------------------------------------------------------


def _sparse(cell: h5py.Group, **parts: Any) -> None:
    del cell["expression"]
    group = cell.create_group("expression")
    for key, value in ({"data": [0.5, 1.5], "indices": [0, 2], "indptr": [0, 2]} | parts).items():
        group[key] = np.asarray(value)
    group.attrs.update({"encoding-type": "csr_matrix", "shape": (1, 5)})


def _damaged(cell: h5py.Group, key: str) -> None:
    value = cell[key][()]
    del cell[key]
    made = cell.create_dataset(key, data=value, chunks=value.shape, compression="gzip")
    made.id.write_direct_chunk((0,) * value.ndim, b"\x78\x9c" + b"\xff" * 20)


def _external(cell: h5py.Group) -> None:
    del cell["expression"]
    cell.create_dataset("expression", shape=(5,), dtype="f4", external=[("raw.bin", 0, 20)])


def _virtual(cell: h5py.Group) -> None:
    layout = h5py.VirtualLayout(shape=(5,), dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(5,))
    del cell["expression"]
    cell.create_virtual_dataset("expression", layout)


def _moved_patch(cell: h5py.Group) -> None:
    replace(cell, "images/cell_patch", np.roll(cell["images/cell_patch"][()], 1, axis=0))


PLANTED: dict[str, tuple[str, str, str, Callable[[h5py.Group], Any]]] = {
    # errors: kind → severity, component, what is said, how it is planted
    "no profile": ("error", "expression", "has none", lambda c: c.__delitem__("expression")),
    "too few genes": (
        "error",
        "expression",
        "a profile has 5 values",
        lambda c: replace(c, "expression", np.ones(3, "f4")),
    ),
    "a NaN": ("error", "expression", "NaN", lambda c: replace(c, "expression", np.full(5, np.nan, "f4"))),
    "too large": ("error", "expression", "float32", lambda c: replace(c, "expression", np.full(5, 1e300))),
    "sparse index": ("error", "expression", "index 9", lambda c: _sparse(c, indices=[0, 9])),
    "damaged profile": ("error", "expression", "decoded", lambda c: _damaged(c, "expression")),
    "external storage": ("error", "expression", "external storage", _external),
    "virtual": ("error", "expression", "virtual", _virtual),
    "link out": (
        "error",
        "expression",
        "another file",
        lambda c: replace(c, "expression", h5py.ExternalLink("o", "/")),
    ),
    "dangling": ("error", "expression", "soft link", lambda c: replace(c, "expression", h5py.SoftLink("/nowhere"))),
    "counts": ("error", "expression", "counts, while", lambda c: replace(c, "expression", np.arange(5, dtype="f4"))),
    "broken JSON": ("error", "attributes.json", "broken JSON", lambda c: replace(c, "attributes.json", '{"tissue": ')),
    "no object": ("error", "attributes.json", "JSON object", lambda c: replace(c, "attributes.json", "[1]")),
    "no position": ("error", "attributes.json", "Position_in_WSI", lambda c: change(c, Position_in_WSI="here")),
    "unknown unit": ("error", "attributes.json", "not a length", lambda c: change(c, cell_diameter="9.0 ells")),
    "caption": ("error", "caption.txt", "text expected", lambda c: replace(c, "caption.txt", 5.0)),
    "no image": ("error", "images/cell_patch", "image", lambda c: replace(c, "images/cell_patch", np.zeros(9))),
    "damaged patch": ("error", "images/tissue_patch", "decoded", lambda c: _damaged(c, "images/tissue_patch")),
    "link too far": ("error", "CCC", "outside the 16", lambda c: write_links(c, [16], 16)),
    "CCC too wide": ("error", "CCC", "does not fit", lambda c: write_links(c, [1], 9)),
    # warnings
    "no caption": ("warning", "caption.txt", "missing", lambda c: c.__delitem__("caption.txt")),
    "no attributes": ("warning", "attributes.json", "missing", lambda c: c.__delitem__("attributes.json")),
    "no patch": ("warning", "images/cell_patch", "missing", lambda c: c.__delitem__("images/cell_patch")),
    "no WSI": ("warning", "images/WSI_patch", "missing", lambda c: c.__delitem__("images/WSI_patch")),
    "no CCC": ("warning", "CCC", "missing", lambda c: c.__delitem__("CCC")),
    "no tissue": ("warning", "attributes.json", "tissue is missing", lambda c: change(c, tissue=...)),
    "null position": ("warning", "attributes.json", "Position_in_WSI is", lambda c: change(c, Position_in_WSI=None)),
    "NaN position": ("warning", "attributes.json", "in_WSI is", lambda c: change(c, Position_in_WSI="(nan, 3)")),
    "zero diameter": ("warning", "attributes.json", "not positive", lambda c: change(c, cell_diameter="0 µm")),
    "no diameter": ("warning", "attributes.json", "cell_diameter is missing", lambda c: change(c, cell_diameter=...)),
    "rounded": (
        "warning",
        "expression",
        "10 values are rounded",
        lambda c: replace(c, "expression", np.full(5, 0.1)),
    ),
    "latin-1 caption": (
        "warning",
        "caption.txt",
        "UTF-8",
        lambda c: replace(c, "caption.txt", np.bytes_("Größe".encode("latin-1"))),
    ),
    "latin-1 bytes": (
        "warning",
        "attributes.json",
        "UTF-8",
        lambda c: replace(
            c,
            "attributes.json",
            np.frombuffer(c["attributes.json"][()].replace(b"Lung", b"L\xfcng"), dtype="u1"),
        ),
    ),
    "another place": ("warning", "images/cell_patch", "not the centre", _moved_patch),
    "grey patch": (
        "warning",
        "images/tissue_patch",
        "channels",
        lambda c: replace(c, "images/tissue_patch", c["images/tissue_patch"][()][..., 0]),
    ),
    "small patch": (
        "warning",
        "images/cell_patch",
        "smaller than the 8 by 8",
        lambda c: replace(c, "images/cell_patch", c["images/cell_patch"][()][1:-1, 1:-1]),
    ),
    "outside": ("warning", "images/WSI_patch", "outside", lambda c: change(c, Position_in_WSI="(20, 190.5)")),
    "left of it": ("warning", "images/WSI_patch", "outside", lambda c: change(c, Position_in_WSI="(-1, 30)")),
}
CONSEQUENCES = {
    "outside": {"CCC", "attributes.json"},  # the links of the cells moved, and both are at the same place
    "left of it": {"attributes.json"},
    "grey patch": {"images/cell_patch"},  # a widened patch has no centre to compare
}


@pytest.mark.parametrize("kind", sorted(PLANTED))
def test_a_planted_defect_is_the_one_thing_found(path: Path, kind: str) -> None:
    severity, component, words, plant = PLANTED[kind]
    with h5py.File(path, "a") as root:
        for name in ("Cell_3", "Cell_7"):
            plant(root[name])
    report = validate(path)
    found = [f for f in said(report) if f.component == component]
    assert {f.component for f in said(report)} - {component} <= CONSEQUENCES.get(kind, set())
    assert [(f.severity, f.n_cells, f.examples) for f in found] == [(severity, 2, ("Cell_3", "Cell_7"))]
    assert words in found[0].problem
    assert report.has_defects == (severity == "error")
    assert "Cell_3, Cell_7" in repr(report)


def test_defects_of_one_kind_are_one_finding_whatever_the_numbers(path: Path) -> None:
    with h5py.File(path, "a") as root:
        for i in range(1, 8):
            replace(root[f"Cell_{i}"], "expression", np.ones(5 + i, "f4"))
    (finding,) = said(validate(path))
    assert (finding.n_cells, finding.examples) == (7, tuple(f"Cell_{i}" for i in range(1, 6)))
    assert "and the like" in finding.problem


def test_patches_smaller_than_the_largest_are_counted(path: Path) -> None:
    with h5py.File(path, "a") as root:
        replace(root["Cell_3"], "images/cell_patch", np.zeros((9, 30, 3), "u1"))
    small, off_centre = said(validate(path))
    assert "smaller than the 9 by 30 px" in small.problem
    assert small.n_cells == 15
    assert (off_centre.n_cells, off_centre.examples) == (1, ("Cell_3",))


def test_two_defects_of_one_cell_are_both_found(path: Path) -> None:
    with h5py.File(path, "a") as root:
        change(root["Cell_2"], Position_in_WSI="here", cell_diameter="big")
        replace(root["Cell_2"], "images/cell_patch", np.zeros(9))
    report = validate(path)
    assert [(f.component, f.n_cells) for f in report.of("error")] == [
        ("attributes.json", 1),
        ("attributes.json", 1),
        ("images/cell_patch", 1),
    ]
    assert report.of("warning") == ()


def test_a_cell_that_cannot_be_opened_is_one_defect(path: Path) -> None:
    with h5py.File(path, "a") as root:
        root["Cell_0"] = h5py.ExternalLink("other.h5", "/cell")
        for i in range(N_SIDE**2):
            write_links(root[f"Cell_{i + 1}"], [(i + 1) % 16], 17)
    found = said(validate(path))
    assert [(f.severity, f.component, f.examples) for f in found] == [("error", "group", ("Cell_0",))]


# --- the file as a whole ---------------------------------------------------------------------------------------------


def test_counts_among_logarithms_are_counted_over_all_cells(path: Path) -> None:
    with h5py.File(path, "a") as root:
        for i in (1, 5, 6):
            replace(root[f"Cell_{i}"], "expression", np.arange(5, dtype="f4"))
    (finding,) = said(validate(path))
    assert (finding.severity, finding.n_cells) == ("error", 3)
    assert finding.examples == ("Cell_1", "Cell_5", "Cell_6")
    assert "expression=" in finding.advice
    assert said(validate(path, expression="lognorm")) == []


def test_gene_names_that_repeat_or_lack_are_warned_of(path: Path) -> None:
    with h5py.File(path, "a") as root:
        replace(root, "gene_names", ["A", "B", "A", "C", "A"])
    (finding,) = said(validate(path))
    assert (finding.severity, finding.component, finding.n_cells) == ("warning", "genes", 0)
    assert "1 gene names occur more than once: 'A'" in finding.problem
    with h5py.File(path, "a") as root:
        del root["gene_names"]
    (finding,) = said(validate(path))
    assert (finding.severity, finding.component) == ("warning", "genes")
    assert "gene_list=" in finding.advice


def test_two_gene_lists_that_fit_are_a_defect_and_naming_one_settles_it(path: Path) -> None:
    with h5py.File(path, "a") as root:
        del root["gene_names"]
    lists = [path.with_name(f"{path.stem}.genes.{ending}") for ending in ("txt", "csv")]
    for number, file in enumerate(lists):
        file.write_text("".join(f"G{number}{i}\n" for i in range(5)))
    (finding,) = said(validate(path))
    assert (finding.severity, finding.component) == ("error", "genes")
    assert said(validate(path, gene_list=lists[0])) == []


def test_a_gene_list_of_another_length_is_a_defect(path: Path, tmp_path: Path) -> None:
    genes = tmp_path / "features.tsv.gz"
    with gzip.open(genes, "wt") as file:
        file.write("id\tname\n" * 3)
    (finding,) = said(validate(path, gene_list=genes))
    assert (finding.severity, finding.component) == ("error", "genes")


def test_objects_outside_the_layout_are_named(path: Path) -> None:
    with h5py.File(path, "a") as root:
        for i in (1, 2, 3):
            root[f"Cell_{i}/embedding"] = np.zeros(3)
        root["notes"] = "mine"
    (finding,) = said(validate(path))
    assert (finding.severity, finding.component) == ("warning", "file")
    assert "'embedding' (3)" in finding.problem
    assert "notes" in finding.problem


def test_ccc_that_cannot_be_told_is_a_defect_of_all_cells(path: Path) -> None:
    with h5py.File(path, "a") as root:
        for i in range(N_SIDE**2):
            replace(root[f"Cell_{i + 1}"], "CCC", np.ones((16, 16), "f4"))
        root["ccc_pairs"] = [f"L{i}-R{i}" for i in range(16)]
    report = validate(path)
    assert [(f.component, f.n_cells) for f in report.of("error")] == [("CCC", 16)]
    assert "ccc_layout=" in report.of("error")[0].problem


def test_where_a_component_cannot_be_told_its_stored_forms_are_listed(path: Path) -> None:
    with h5py.File(path, "a") as root:
        replace(root["Cell_5"], "images/cell_patch", np.zeros((8, 8, 3), "f4"))
    (finding,) = said(validate(path))
    assert (finding.severity, finding.component, finding.n_cells) == ("error", "images/cell_patch", 16)
    assert (
        "uint8, shape (8, 8, 3) in 15 (Cell_1, …); dataset of float32, shape (8, 8, 3) in 1 (Cell_5)" in finding.advice
    )


def test_unknown_scales_are_warned_of_and_settled_by_the_caller(path: Path) -> None:
    with h5py.File(path, "a") as root:
        del root.attrs["mpp"], root.attrs["wsi_scale"]
        for i in range(N_SIDE**2):
            replace(root[f"Cell_{i + 1}"], "images/tissue_patch", np.full((24, 24, 3), 7, "u1"))
            replace(root[f"Cell_{i + 1}"], "images/cell_patch", np.full((8, 8, 3), 7, "u1"))
    found = said(validate(path))
    assert {(f.severity, f.component, f.n_cells) for f in found} == {
        ("warning", "slide", 16),
        ("warning", "images/WSI_patch", 16),
    }
    assert "mpp=" in found[0].advice
    assert "wsi_scale=" in found[1].advice
    assert said(validate(path, mpp=1.0, wsi_scale=4.0)) == []


def test_attributes_that_no_cell_has_are_one_finding(path: Path) -> None:
    with h5py.File(path, "a") as root:
        for i in range(N_SIDE**2):
            change(root[f"Cell_{i + 1}"], source=..., st_technology=None)
    (finding,) = said(validate(path))
    assert finding.problem == "no cell has source, st_technology"
    assert finding.n_cells == 16


# --- places and slides -----------------------------------------------------------------------------------------------


def test_cells_at_one_place_are_found_but_not_across_slides(two_slides: Path) -> None:
    with h5py.File(two_slides, "a") as root:
        change(root["left/Cell_2"], Position_in_WSI="(20, 20)")
    (finding,) = said(validate(two_slides))
    assert "same Position_in_WSI" in finding.problem
    assert finding.examples == ("Cell_1", "Cell_2")


def test_names_that_several_cells_share_are_found(tmp_path: Path) -> None:
    write_sound(tmp_path / "twins.h5", ("left", "right"))
    (finding,) = said(validate(tmp_path / "twins.h5"))
    assert (finding.severity, finding.component, finding.n_cells) == ("warning", "name", 32)
    assert finding.examples[0] == "left/Cell_1"


def test_links_across_slides_are_counted(two_slides: Path) -> None:
    with h5py.File(two_slides, "a") as root:
        write_links(root["left/Cell_4"], [1, 20, 21], 32)
        write_links(root["right/Cell_101"], [3], 32)
    (finding,) = said(validate(two_slides))
    assert (finding.severity, finding.component, finding.n_cells) == ("warning", "CCC", 2)
    assert finding.examples == ("Cell_4", "Cell_101")
    assert "3 of 34 links lead to another slide" in finding.problem


def test_links_out_of_reach_are_counted_cell_by_cell(path: Path) -> None:
    with h5py.File(path, "a") as root:
        root.attrs["mpp"] = 4.0
        for i in range(N_SIDE**2):
            write_links(root[f"Cell_{i + 1}"], [i ^ 1], 16)
        write_links(root["Cell_1"], [1, 12, 15], 16)
    (finding,) = said(validate(path))
    assert (finding.severity, finding.component, finding.examples) == ("warning", "CCC", ("Cell_1",))
    assert finding.problem.startswith("2 of 18 links reach further than 220 µm")


def test_an_order_that_would_fit_the_links_is_named(tmp_path: Path) -> None:
    """CCC counts by plain names, where Cell_10 comes second; the rows are in the order of writing."""
    path = tmp_path / "order.h5"
    write_sound(path, n_side=6)
    with h5py.File(path, "a") as root:
        root.attrs["mpp"] = 10.0
        for i, place in enumerate(_neighbours_by_name(36)):
            write_links(root[f"Cell_{i + 1}"], [place], 36)
    (finding,) = said(validate(path))
    assert "cell_order='name'" in finding.advice
    assert said(validate(path, cell_order="name")) == []


def _neighbours_by_name(n: int) -> list[int]:
    """Return for each cell the place of the cell beside it in plain order of names."""
    by_name = sorted(range(n), key=lambda i: f"Cell_{i + 1}")
    return [by_name.index(i + 1 if i % 6 < 5 else i - 1) for i in range(n)]


def test_another_wsi_image_on_one_slide_is_found(path: Path) -> None:
    with h5py.File(path, "a") as root:
        for i in range(N_SIDE**2):
            change(root[f"Cell_{i + 1}"], section="s1")
            del root[f"Cell_{i + 1}/CCC"]
        for name in ("Cell_9", "Cell_12"):
            replace(root[name], "images/WSI_patch", 255 - root[name]["images/WSI_patch"][()])
    assert said(validate(path)) == []  # two slides
    (finding,) = said(validate(path, slide_key="section"))
    assert (finding.component, finding.examples) == ("images/WSI_patch", ("Cell_9", "Cell_12"))
    assert "slide_key=" in finding.advice


# --- files that cannot be opened -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 0.3, 0.9])
def test_a_file_that_cannot_be_opened_is_a_report_with_one_error(path: Path, kept: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    report = validate(path)
    assert report.has_defects
    assert report.n_cells == 0
    assert [(f.severity, f.component) for f in report.findings] == [("error", "file")]
    assert "sound.h5" in repr(report)


def test_what_is_no_cellnet_is_a_report_with_one_error(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("hello")
    (finding,) = validate(tmp_path / "text.h5").findings
    assert (finding.severity, finding.component) == ("error", "file")
    assert "not an HDF5 file" in finding.problem


def test_a_missing_path_is_pythons_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        validate(tmp_path / "absent.h5")


def test_wrong_arguments_are_errors_and_no_findings(path: Path) -> None:
    with pytest.raises(LayoutError, match="slide_key"):
        validate(path, slide_key="nonsense")
    with pytest.raises(LayoutError, match="stored order"):
        validate(path, cell_order="stored")
    with pytest.raises(FileNotFoundError):
        validate(path, gene_list=path.with_name("absent.txt"))


# --- the report ------------------------------------------------------------------------------------------------------


def test_the_report_is_a_frame_and_a_text(path: Path) -> None:
    with h5py.File(path, "a") as root:
        replace(root["Cell_2"], "attributes.json", "{")
        del root["Cell_3/caption.txt"], root["Cell_4/caption.txt"]
    report = validate(path)
    frame = report.to_frame()
    assert frame.columns.tolist() == ["severity", "component", "problem", "n_cells", "examples", "advice"]
    assert len(frame) == len(report.findings)
    assert frame.severity.tolist()[:3] == ["error", "warning", "info"]
    assert frame.n_cells.tolist()[:2] == [1, 2]
    assert frame.examples[1] == ("Cell_3", "Cell_4")
    text = repr(report)
    assert text.startswith("sound.h5: 1 kind of defects, 1 warning; 16 cells.")
    assert text.index("Errors") < text.index("Warnings") < text.index("Taken as")
    assert "on_error='skip'" in text
    assert max(map(len, text.splitlines())) <= 120
    assert pickle.loads(pickle.dumps(report)) == report


def test_large_counts_have_separators_and_long_lists_are_cut() -> None:
    findings = tuple(Finding("error", "CCC", f"reason {i}", 1_234_567, ("a", "b")) for i in range(60))
    text = repr(Report(Path("x.h5"), 14_400_000, findings))
    assert "1,234,567 cells: a, b, …" in text
    assert "14,400,000 cells" in text
    assert "35 more: see to_frame()" in text


# --- bounded memory --------------------------------------------------------------------------------------------------


def test_a_thousand_cells_are_read_in_small_batches_each_component_of_each_cell_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "many.h5"
    write_sound(path, n_side=32)
    with h5py.File(path, "a") as root:
        root.attrs["mpp"] = 0.2  # so that the last cell of a line reaches the first of the next
    fetched: list[tuple[str, np.ndarray]] = []
    fetch = Hdf5Source.fetch

    def spy(self: Hdf5Source, component: Any, rows: Any) -> Any:
        fetched.append((str(component), np.asarray(rows)))
        return fetch(self, component, rows)

    monkeypatch.setattr("cellnet_sd.validator.open_source", _spied(monkeypatch, spy))
    with settings.override(batch_bytes=2**17):
        report = validate(path, cell_order="creation")
    assert said(report) == []
    decoded = {"images/cell_patch": 8 * 8 * 3, "images/tissue_patch": 24 * 24 * 3, "expression": 20}
    for component in ("expression", "attributes.json", "caption.txt", *decoded, "images/WSI_patch", "CCC"):
        batches = [rows for name, rows in fetched if name == component]
        assert np.concatenate(batches).tolist() == list(range(1024)), component
        if component in decoded:
            assert max(map(len, batches)) * decoded[component] <= 2**17
    assert max(len(rows) for name, rows in fetched if name == "images/WSI_patch") <= 1
    assert max(len(rows) for name, rows in fetched if name == "images/tissue_patch") < 100


def _spied(monkeypatch: pytest.MonkeyPatch, spy: Any) -> Any:
    """Return `open_source` that sets the spy once the file is open: samples are read before."""
    from cellnet_sd.sources.opening import open_source

    def opened(*args: Any, **kwargs: Any) -> Hdf5Source:
        source = open_source(*args, **kwargs)
        monkeypatch.setattr(Hdf5Source, "fetch", spy)
        return source

    return opened
