"""The command line as a stranger meets it."""

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array
import h5py
import numpy as np
import pytest
import spatialdata as sd
import zarr
from click.testing import CliRunner, Result

import cellnet_sd as cn
from cellnet_sd import cli
from cellnet_sd.errors import CellNetWarning, RemoteError

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "tissue.h5"
    cn.datasets.synthetic(path, n_cells=60, n_genes=70, progress=False)
    return path


@pytest.fixture
def file(made: Path, tmp_path: Path) -> Path:
    copy = tmp_path / made.name
    copy.write_bytes(made.read_bytes())
    return copy


@pytest.fixture
def run() -> Run:
    return lambda *words: CliRunner().invoke(cli.main, [str(word) for word in words])


def is_clean(result: Result) -> bool:
    """Whether a failed command ended in a message for people."""
    return "Traceback" not in result.output and isinstance(result.exception, SystemExit)


# --- help ------------------------------------------------------------------------------------------------------------


def test_help_lists_the_commands_in_the_order_of_a_first_visit(run: Run) -> None:
    lines = run("--help").output.split("Commands:")[1].split("\n")
    assert [line.split()[0] for line in lines if line.strip()] == [
        "demo",
        "info",
        "index",
        "validate",
        "convert",
        "write",
    ]
    assert not any(line.endswith("...") for line in lines)


@pytest.mark.parametrize("command", ["demo", "info", "index", "validate", "convert", "write"])
def test_each_command_has_help(run: Run, command: str) -> None:
    result = run(command, "-h")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: main {command}")


def test_version(run: Run) -> None:
    from importlib.metadata import version

    assert run("--version").output == f"cellnet-sd, version {version('cellnet-sd')}\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from cellnet_sd.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "pandas", "h5py", "anndata", "spatialdata", "scanpy", "matplotlib", "dask"}
    assert heavy.isdisjoint(done.stderr.split())


# --- what commands print ---------------------------------------------------------------------------------------------


def test_info_prints_the_page(run: Run, file: Path) -> None:
    result = run("info", file)
    assert result.exit_code == 0
    assert result.stdout == f"{cn.info(file)}\n"


def test_info_passes_options_on(run: Run, file: Path) -> None:
    assert run("info", file, "--mpp", "0.5").stdout == f"{cn.info(file, mpp=0.5)}\n"


def test_index_prints_where_it_is(run: Run, file: Path) -> None:
    result = run("index", file)
    assert result.exit_code == 0
    assert Path(result.stdout.strip()) == file.with_name(f"{file.name}.cnindex")
    assert Path(result.stdout.strip()).is_file()


def test_no_index_saves_none(run: Run, file: Path) -> None:
    assert run("info", file, "--no-index").exit_code == 0
    assert not file.with_name(f"{file.name}.cnindex").exists()


def test_validate_finds_nothing_in_a_sound_file(run: Run, file: Path) -> None:
    result = run("validate", file)
    assert result.exit_code == 0
    assert result.stdout == f"{cn.validate(file)}\n"


def test_validate_ends_with_1_when_there_are_defects(run: Run, file: Path) -> None:
    with h5py.File(file, "r+") as root:
        cell = root["slide_1/Cell_000003"]
        del cell["attributes.json"]
        cell["attributes.json"] = "{broken"
    result = run("validate", file)
    assert result.exit_code == 1
    assert "Cell_000003" in result.stdout
    assert result.stderr == ""


# --- convert and write -----------------------------------------------------------------------------------------------


def test_convert_gives_what_read_gives(run: Run, file: Path, tmp_path: Path) -> None:
    genes = ["EPCAM", "CD3E"]
    out = tmp_path / "few.h5ad"
    result = run(
        "convert", file, out, "--where", "cell_type == 'T-cell'", "--genes", genes[0], "--genes", genes[1],
        "--no-captions", "--ccc", "false",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    written = ad.read_h5ad(out)
    expected = cn.read_anndata(file, where="cell_type == 'T-cell'", genes=genes, captions=False, ccc=False)
    assert written.obs_names.tolist() == expected.obs_names.tolist()
    assert written.var_names.tolist() == genes
    assert "caption" not in written.obs
    assert not written.obsp
    np.testing.assert_array_equal(written.X.toarray(), expected.X.toarray())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["--images", "true"], {"images": True}),
        (["--images", "false"], {"images": False}),
        (["--images", "wsi"], {"images": ("wsi",)}),
        (["--images", "wsi", "--images", "cell"], {"images": ("wsi", "cell")}),
        (["--patches", "cell", "--patches", "tissue"], {"patches": ("cell", "tissue")}),
        (["--expression", "counts", "--ccc", "pairs"], {"expression": "counts", "ccc": "pairs"}),
        (["--expression", "false", "--ccc", "true"], {"expression": False, "ccc": True}),
        (["--no-captions", "--no-index", "--overwrite"], {"captions": False, "index": False, "overwrite": True}),
        (["--cells", "Cell_1", "--slides", "a", "--slides", "b"], {"cells": ("Cell_1",), "slides": ("a", "b")}),
        (["--mpp", "0.5", "--cell-order", "name"], {"mpp": 0.5, "cell_order": "name"}),
    ],
)
def test_only_what_was_given_is_passed_on(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], expected: dict[str, Any]
) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr("cellnet_sd.converter.convert", lambda _src, dst, **options: calls.append(options) or dst)
    assert run("convert", file, "out.zarr", *words).exit_code == 0
    assert calls == [expected]


def test_write_brings_a_store_back(run: Run, file: Path, tmp_path: Path) -> None:
    store, out = tmp_path / "all.zarr", tmp_path / "back.h5"
    assert run("convert", file, store).exit_code == 0
    result = run("write", store, out)
    assert result.exit_code == 0, result.output
    before, after = cn.read_anndata(file), cn.read_anndata(out)
    assert after.obs_names.tolist() == before.obs_names.tolist()
    np.testing.assert_array_equal(after.X.toarray(), before.X.toarray())
    assert after.obs["caption"].tolist() == before.obs["caption"].tolist()


@pytest.mark.parametrize(("name", "words"), [("t.zarr", ("--kind", "anndata")), ("t.h5ad", ()), ("s.zarr", ())])
def test_write_goes_through_converted_stores_block_by_block(
    run: Run, file: Path, tmp_path: Path, name: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("convert", file, tmp_path / name, *words).exit_code == 0
    given: list[Any] = []
    write = cn.write
    monkeypatch.setattr("cellnet_sd.writer.write", lambda obj, *args, **more: given.append(obj) or write(obj, *args))
    result = run("write", tmp_path / name, tmp_path / "back.h5")
    assert result.exit_code == 0, result.output
    table = given[0]["table"] if name == "s.zarr" else given[0]
    assert isinstance(table.X, dask.array.Array)
    before, after = cn.read_anndata(file), cn.read_anndata(tmp_path / "back.h5")
    np.testing.assert_array_equal(after.X.toarray(), before.X.toarray())


def test_write_takes_stores_of_other_origin(run: Run, tmp_path: Path) -> None:
    table = ad.AnnData(np.eye(2, dtype=np.float32))
    table.write_zarr(tmp_path / "a.zarr")
    table.write_h5ad(tmp_path / "a.h5ad")
    sd.SpatialData(tables={"table": table}).write(tmp_path / "s.zarr")
    for name in ("a.zarr", "a.h5ad", "s.zarr"):
        result = run("write", tmp_path / name, tmp_path / f"{name}.h5")
        assert result.exit_code == 0, result.output
        assert cn.read_anndata(tmp_path / f"{name}.h5").X.toarray().tolist() == [[1, 0], [0, 1]]


def test_write_says_what_is_no_store_and_which_table_there_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.h5ad").write_text("no table")
    (tmp_path / "folder.zarr").mkdir()
    zarr.create_group(tmp_path / "group.zarr")
    for name in ("text.h5ad", "folder.zarr", "group.zarr"):
        result = run("write", tmp_path / name, tmp_path / "out.h5")
        assert result.exit_code == 1
        assert f"{name} is not an output of cellnet_sd.convert" in result.stderr
        assert is_clean(result)
    sd.SpatialData(tables={"mine": ad.AnnData(np.eye(2))}).write(tmp_path / "s.zarr")
    result = run("write", tmp_path / "s.zarr", tmp_path / "out.h5")
    assert result.exit_code == 1
    assert "has no table 'table' of cells (tables: 'mine'). Pass --table" in result.stderr
    assert is_clean(result)


# --- when something is wrong -----------------------------------------------------------------------------------------


def test_a_missing_file_is_named(run: Run, tmp_path: Path) -> None:
    result = run("info", tmp_path / "none.h5")
    assert result.exit_code == 2
    assert "none.h5" in result.stderr
    assert is_clean(result)


def test_a_file_of_another_kind_is_an_error_without_a_traceback(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "notes.h5"
    other.write_text("hello")
    result = run("info", other)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {other} is not an HDF5 file.\n"
    assert is_clean(result)


def test_a_value_that_does_not_fit_is_an_error_without_a_traceback(run: Run, file: Path, tmp_path: Path) -> None:
    result = run("convert", file, tmp_path / "out.txt")
    assert result.exit_code == 1
    assert "out.txt" in result.stderr
    assert is_clean(result)


def test_a_column_that_is_not_there_is_an_error_without_a_traceback(run: Run, file: Path, tmp_path: Path) -> None:
    result = run("convert", file, tmp_path / "out.h5ad", "--where", "tisue == 'Lung'")
    assert result.exit_code == 1
    assert "tisue" in result.stderr
    assert is_clean(result)


def test_an_existing_output_stays_and_the_way_out_is_an_option(run: Run, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5ad"
    out.write_text("mine")
    result = run("convert", file, out)
    assert result.exit_code == 1
    assert "Pass --overwrite to replace it." in result.stderr
    assert out.read_text() == "mine"


def test_a_url_to_write_to_is_refused_as_such(run: Run, file: Path) -> None:
    result = run("convert", file, "s3://bucket/out.zarr")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: s3://bucket/out.zarr is a URL: a conversion writes to a local folder.")
    assert is_clean(result)


def test_what_is_kept_is_said_with_the_error(
    run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **options: Any) -> None:
        error = RemoteError("the server is gone")
        error.add_note("3 finished parts are kept")
        raise error

    monkeypatch.setattr("cellnet_sd.converter.convert", fail)
    result = run("convert", file, tmp_path / "out.h5ad")
    assert result.stderr == "Error: the server is gone\n3 finished parts are kept\n"


@pytest.mark.parametrize("option", [("--patches", "cell"), ("--wsi-scale", "8")])
def test_options_about_images_do_not_fit_anndata(run: Run, file: Path, tmp_path: Path, option: tuple[str, str]) -> None:
    result = run("convert", file, tmp_path / "out.h5ad", *option)
    assert result.exit_code == 2
    assert option[0] in result.stderr


def test_true_stands_alone(run: Run, file: Path) -> None:
    result = run("convert", file, "out.zarr", "--images", "true", "--images", "cell")
    assert result.exit_code == 2
    assert "--images" in result.stderr


def test_an_interrupt_is_no_traceback(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cellnet_sd.information.info", interrupted)
    result = run("info", file)
    assert result.exit_code == 1
    assert result.stderr.strip() == "Aborted!"


def test_warnings_are_said_plainly_and_those_of_others_not_at_all(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warned(*_: Any, **__: Any) -> str:
        warnings.warn("a.h5:\n- µm per pixel is unknown (pass mpp=)", CellNetWarning, stacklevel=2)
        warnings.warn("something is deprecated", FutureWarning, stacklevel=2)
        return "page"

    monkeypatch.setattr("cellnet_sd.information.info", warned)
    monkeypatch.setattr(sys, "warnoptions", [])
    result = run("info", file)
    assert result.stdout == "page\n"
    assert result.stderr == "Warning: a.h5:\n- µm per pixel is unknown (pass --mpp)\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Pass overwrite=True to replace it.", "Pass --overwrite to replace it."),
        ("Pass on_error='skip' to leave such cells out.", "Pass --on-error 'skip' to leave such cells out."),
        ("Pass index=False.", "Pass --no-index."),
        ("Pass ccc=False or expression=False.", "Pass --ccc false or --expression false."),
        ("pass source= with its new place", "pass --source with its new place"),
        ("mpp=-3.0 is not positive. Pass mpp=.", "--mpp -3.0 is not positive. Pass --mpp."),
        ("mpp=nan is not positive.", "--mpp nan is not positive."),
        ("nothing=here stays", "nothing=here stays"),
    ],
)
def test_messages_name_options(words: str, expected: str) -> None:
    assert cli.in_options(words) == expected


def test_demo_is_run_as_asked(run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(
        "cellnet_sd.demo.run", lambda *values, say, **options: (calls.append((values, options)), say("hi"))
    )
    result = run("demo", file, "--output", tmp_path / "figures", "--seed", 3)
    assert result.stdout == "hi\n"
    assert json.dumps(calls, default=str) == json.dumps(
        [[[str(file), str(tmp_path / "figures")], {"n_cells": 3000, "seed": 3}]]
    )
