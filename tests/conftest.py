"""Fixtures for every test: the real data, where they are at hand, and how hard hypothesis tries."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["MPLBACKEND"] = "Agg"

settings.register_profile("dev", deadline=None, max_examples=15)
settings.register_profile("ci", deadline=None, max_examples=20, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(scope="module")
def small_pieces() -> Iterator[None]:
    """Have the structure reader turn rows to columns every three cells, so that small files are of several pieces."""
    with pytest.MonkeyPatch.context() as patched:
        for module in ("scan", "columns"):
            patched.setattr(f"cellnet_sd.sources.native.{module}.AT_ONCE", 3)
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real data; read-only as far as tests are concerned."""
    folder = os.environ.get("CELLNET_SD_DATA")
    if not folder:
        pytest.skip("CELLNET_SD_DATA does not name the folder of real data")
    if not Path(folder).is_dir():
        pytest.skip(f"CELLNET_SD_DATA={folder} is not a folder")
    return Path(folder)


def _copy(source: Path, stem: str, target: Path) -> Path:
    """Copy `{stem}.h5` and what lies beside it under the same stem into `target`; return the copy."""
    if not (source / f"{stem}.h5").is_file():
        pytest.skip(f"{source} has no {stem}.h5")
    for file in source.glob(f"{stem}.*"):
        # copyfile leaves permissions behind: the source may be read-only, and indexes are written beside the copy.
        shutil.copyfile(file, target / file.name)
    return target / f"{stem}.h5"


@pytest.fixture(scope="session")
def her2st(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the two breast tumour sections, with their gene list beside it."""
    return _copy(data_dir, "her2st_two_slides", tmp_path_factory.mktemp("her2st"))


@pytest.fixture(scope="session")
def lung(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the lung Xenium cells."""
    return _copy(data_dir, "lung_xenium", tmp_path_factory.mktemp("lung"))
