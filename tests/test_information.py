"""`info`: a page of plain words that says what each component was taken to be, and what was not read."""

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

import cellnet_sd as cn
from sound_file import full_file
from spell_arrays import ExpressionSpelling
from spellings import plain_file, write
from truth_checks import quiet

TITLES = ["expression", "attributes", "caption", "cell patch", "tissue patch", "WSI patch", "CCC"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a sound file of four cells with every component but tissue patches."""
    write(tmp_path / "plain.h5", *full_file())
    return tmp_path / "plain.h5"


def test_numbers_and_components_are_those_of_the_file(path: Path) -> None:
    with h5py.File(path, "a") as root:
        del root["Cell_2/caption.txt"], root["Cell_1/CCC"]
    found = cn.info(path, index=False)
    assert (found.path, found.n_cells, found.n_genes) == (path, 4, 3)
    assert found.slides == {"plain": 4}
    assert list(found.components) == TITLES
    assert [found.components[title][0] for title in TITLES] == [4, 4, 3, 4, 0, 4, 3]


def test_what_each_component_was_taken_to_be_is_said(path: Path) -> None:
    found = cn.info(path, index=False)
    taken = {title: words for title, (_, words) in found.components.items()}
    assert "log-normalised" in taken["expression"]
    assert "float32" in taken["expression"]
    assert "text" in taken["attributes"]
    assert "6" in taken["cell patch"]
    assert "7" in taken["cell patch"]
    assert taken["tissue patch"] == "no cell has one"
    assert "ccc_layout='cells'" in taken["CCC"]
    for words in taken.values():
        assert words in str(found)


def test_the_page_is_the_text_and_the_repr(path: Path) -> None:
    found = cn.info(path, index=False)
    assert str(found) == repr(found) == found.text
    assert "'gene_names' of the file" in found.text
    assert "G0, G1, G2" in found.text
    assert "tissue, Position_in_WSI, cell_diameter" in found.text
    assert "the file tracks" in found.text
    assert "not saved" in found.text


def test_the_index_is_named_once_it_is_saved(path: Path) -> None:
    assert str(cn.index(path)) in str(cn.info(path))
    os.utime(path, ns=(0, 0))
    said = str(cn.info(path, index=False))
    assert "not saved" in said, "an index of another state of the file is no index of it"


def test_counts_are_told_from_logarithms_and_the_caller_has_the_last_word(tmp_path: Path) -> None:
    truth, spelling = plain_file()
    spelling.expression = [ExpressionSpelling(dtype="u2")] * 4
    for cell in truth.cells:
        cell.expression = np.array([1, 0, 7], "u2")
    write(tmp_path / "counts.h5", truth, spelling)
    assert "counts: whole numbers" in str(cn.info(tmp_path / "counts.h5"))
    assert "as the caller says" in str(cn.info(tmp_path / "counts.h5", expression="lognorm"))
    said = str(cn.info(tmp_path / "counts.h5", mpp=0.5))
    assert "0.5 (as the caller says)" in said
    assert "unknown" in str(cn.info(tmp_path / "counts.h5"))


def test_what_cannot_be_told_is_said_and_not_raised(path: Path) -> None:
    with h5py.File(path, "a") as root:
        root["Cell_3/expression"][...] = [1, 2, 3]
        del root["gene_names"]
        root["gene_names"] = ["A", "B"]
    said = str(cn.info(path, index=False))
    assert said.count("CANNOT BE TOLD") == 2
    assert "expression=" in said
    assert "gene_list=" in said


def test_defects_and_objects_that_are_not_read_are_counted(path: Path) -> None:
    with h5py.File(path, "a") as root:
        root["notes"] = "by hand"
        for name in ("Cell_1", "Cell_2"):
            root[name]["embedding"] = np.zeros(3)
        del root["Cell_4/attributes.json"]
        root["Cell_4/attributes.json"] = "{"
    said = str(cn.info(path, index=False))
    assert "1 cell cannot be read in full, such as 'Cell_4'" in said
    assert "'embedding' (2)" in said
    assert "'/notes' (1)" in said


def test_genes_named_nowhere_are_said_so(tmp_path: Path) -> None:
    truth, spelling = plain_file()
    truth.genes = None
    write(tmp_path / "plain.h5", truth, spelling)
    assert "gene_list=" in str(cn.info(tmp_path / "plain.h5", index=False))


def test_many_slides_are_shown_in_part_and_counted_in_full(tmp_path: Path) -> None:
    truth, spelling = plain_file(12, attributes=[{"slide": f"s{row}"} for row in range(12)])
    write(tmp_path / "plain.h5", truth, spelling)
    found = cn.info(tmp_path / "plain.h5", index=False)
    assert len(found.slides) == 12
    assert "12 slides" in str(found)
    assert "s7:" in str(found)
    assert "… and 4 more" in str(found)


def test_a_file_that_is_not_there_is_pythons_own_error(tmp_path: Path) -> None:
    with quiet(), pytest.raises(FileNotFoundError):
        cn.info(tmp_path / "nowhere.h5")


def test_one_slide_is_not_told_apart_and_an_unknown_scale_says_why(tmp_path: Path) -> None:
    write(tmp_path / "plain.h5", *plain_file())
    said = str(cn.info(tmp_path / "plain.h5", index=False))
    assert "\nOne slide\n  plain: " in said
    assert "unknown (neither stated nor to be measured)" in said
    assert "told apart" not in said


def test_several_slides_say_by_what_they_are_told_apart(tmp_path: Path) -> None:
    truth, spelling = plain_file(4, attributes=[{"slide": f"s{row % 2}"} for row in range(4)])
    write(tmp_path / "plain.h5", truth, spelling)
    assert "\nSlides told apart by attribute 'slide'\n" in str(cn.info(tmp_path / "plain.h5", index=False))


def test_mixed_expression_names_the_component_as_it_is_called_in_the_file(path: Path) -> None:
    with h5py.File(path, "a") as root:
        root["Cell_3/expression"][...] = [1, 2, 3]
    said = str(cn.info(path, index=False))
    assert ": expression of 1 of 4 sampled cells" in said
    assert "Component." not in said


@pytest.mark.parametrize("name", ["mpp", "wsi_scale"])
@pytest.mark.parametrize("value", ["2", [1.0], True, 0, float("nan")])
def test_a_scale_that_is_no_positive_number_is_an_error_that_names_it(path: Path, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{name}=.* is not a positive number"):
        cn.info(path, index=False, **{name: value})


def test_what_was_taken_is_said_in_lines_that_name_their_subject(path: Path) -> None:
    with quiet():
        taken = json.loads(cn.read_anndata(path, index=False).uns["cellnet_sd"]["taken"])
    assert "one slide: plain" in taken
    assert "anchor: not checked" in taken
