"""The public face: light to import, complete, the same in the code, for type checkers and in the docs."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cellnet_sd as cn

ROOT = Path(__file__).parent.parent
PACKAGE = Path(cn.__file__).parent
HEAVY = (
    "anndata",
    "dask",
    "geopandas",
    "h5py",
    "igraph",
    "leidenalg",
    "matplotlib",
    "msgspec",
    "numba",
    "numpy",
    "pandas",
    "PIL",
    "psutil",
    "pyarrow",
    "scanpy",
    "scipy",
    "shapely",
    "sklearn",
    "spatialdata",
    "spatialdata_plot",
    "squidpy",
    "tqdm",
    "xarray",
    "zarr",
)
VERY_HEAVY = ("dask", "geopandas", "matplotlib", "numba", "scanpy", "spatialdata", "spatialdata_plot", "squidpy")


def imported_by(statements: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has imported after some statements."""
    code = f"{statements}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert imported_by("import cellnet_sd").isdisjoint(HEAVY)


def test_naming_the_functions_imports_nothing_that_they_do_not_need() -> None:
    names = ("open", "index", "info", "read", "read_anndata", "patches", "convert", "open_store", "write")
    names += ("validate", "datasets")
    imported = imported_by("\n".join(["import cellnet_sd", *(f"cellnet_sd.{name}" for name in names)]))
    assert "pandas" in imported
    assert imported.isdisjoint(VERY_HEAVY), sorted(imported & set(VERY_HEAVY))


def test_every_public_name_resolves() -> None:
    assert len(set(cn.__all__)) == len(cn.__all__)
    for name in cn.__all__:
        assert getattr(cn, name) is not None
        assert name in dir(cn)


def test_dir_lists_the_public_names_and_no_modules() -> None:
    shown = [name for name in dir(cn) if not (name.startswith("__") and name.endswith("__"))]
    assert shown == sorted(cn.__all__)
    assert "__version__" in dir(cn)


def test_the_version_is_that_of_the_distribution() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{cn.__version__}"' in project


def test_a_name_that_is_not_there_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="no attribute 'reed'"):
        cn.reed  # noqa: B018


def test_a_star_import_gives_the_public_names() -> None:
    namespace: dict[str, object] = {}
    exec("from cellnet_sd import *", namespace)
    assert set(cn.__all__) <= set(namespace)


def typed_names() -> dict[str, str]:
    """Return the names that `__init__` gives a type checker, and the module each comes from."""
    names = {}
    for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                assert isinstance(statement, ast.ImportFrom)
                for alias in statement.names:
                    assert alias.asname, "a name that is not given again is not exported to a type checker"
                    names[alias.asname] = f"{statement.module}.{alias.name}"
    return names


def test_a_type_checker_sees_the_same_names_and_objects() -> None:
    typed = typed_names()
    assert set(typed) | {"errors", "settings"} == set(cn.__all__)
    for name, origin in typed.items():
        module, _, attribute = origin.rpartition(".")
        is_module = module == "cellnet_sd"
        found = importlib.import_module(origin) if is_module else getattr(importlib.import_module(module), attribute)
        assert getattr(cn, name) is found


def documented_names() -> set[str]:
    """Return the first part of every name that docs/api.md documents."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^   ([a-zA-Z_][\w.]*)$", text, flags=re.MULTILINE)
    auto = re.findall(r"::\s+cellnet_sd\.([\w.]+)", text)
    return {name.partition(".")[0] for name in [*listed, *auto]}


def test_the_docs_list_the_same_names() -> None:
    assert documented_names() == set(cn.__all__)


def test_no_module_hides_a_public_function() -> None:
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    for name in cn.__all__:
        if name in modules and not isinstance(getattr(cn, name), type(cn)):
            assert name == "settings", f"{name} is a module and a function"


def test_names_stay_themselves_when_everything_is_imported() -> None:
    before = {name: getattr(cn, name) for name in cn.__all__}
    for path in PACKAGE.glob("*.py"):
        importlib.import_module(f"cellnet_sd.{path.stem}" if path.stem != "__init__" else "cellnet_sd")
    assert {name: getattr(cn, name) for name in cn.__all__} == before


def test_every_module_has_a_docstring_and_none_prints() -> None:
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), path.name
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        assert not [call for call in calls if call.func.id == "print"], path.name
