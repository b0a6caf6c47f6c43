"""The machine code of the structure reader is kept between processes, whatever becomes of its folder."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

PROGRAM = """
import sys
from pathlib import Path
from cellnet_sd.sources.native import compiled, scan
before = compiled.is_compiled()
assert len(scan.scan_structure(Path(sys.argv[1])).read().groups) == 1
stats = [function.stats for function, _ in scan._calls()]
hits, misses = (sum(sum(s[i].values()) for s in stats) for i in (1, 2))
print(before, compiled.is_compiled(), hits == len(stats), misses == len(stats))
"""


def _run(file: Path, folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(file)], stdout=subprocess.PIPE, text=True, env=environment
    )


def _said(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate()
    assert process.returncode == 0
    return out.strip()


def _file(folder: Path) -> Path:
    with h5py.File(folder / "file.h5", "w") as root:
        root["c/expression"] = np.arange(3)
    return folder / "file.h5"


@pytest.mark.thorough
def test_of_processes_that_begin_at_once_one_compiles(tmp_path: Path) -> None:
    file, folder = _file(tmp_path), tmp_path / "kept"
    at_once = [_run(file, folder), _run(file, folder)]
    assert sorted(map(_said, at_once)) == ["False True False True", "False True True False"]
    assert _said(_run(file, folder)) == "True True True False"


@pytest.mark.slow
def test_what_is_damaged_is_compiled_again(tmp_path: Path) -> None:
    file, folder = _file(tmp_path), tmp_path / "kept"
    assert _said(_run(file, folder)) == "False True False True"
    for kept in folder.rglob("*.nbi"):
        kept.write_bytes(b"")
    assert _said(_run(file, folder)) == "True True False True"
    assert _said(_run(file, folder)) == "True True True False"


@pytest.mark.slow
def test_without_a_folder_that_can_be_written(tmp_path: Path) -> None:
    file = _file(tmp_path)
    assert _said(_run(file, file)) == "False False False True"
