"""What lies beside a file without being what it should be: pipes, loops of links, an index made to mislead."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest

import cellnet_sd as cn
from cellnet_sd.errors import CellNetError, LayoutError
from forged_indexes import rewritten
from hostile_files import write_sound
from truth_checks import quiet

_OPEN = "import sys, cellnet_sd as cn; file = cn.open(sys.argv[1]); print(len(file), len(file.var_names))"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a sound file of four cells that names no genes."""
    write_sound(tmp_path / "plain.h5")
    with h5py.File(tmp_path / "plain.h5", "a") as root:
        del root["gene_names"]
    return tmp_path / "plain.h5"


def _opened(path: Path) -> "subprocess.CompletedProcess[str]":
    """Open a file in a process of its own, which is ended if it waits for ever."""
    command = [sys.executable, "-c", _OPEN, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("kind", ["pipe", "loop"])
def test_what_is_no_file_beside_a_file_is_passed_over(path: Path, kind: str) -> None:
    for name in ("plain.h5.cnindex", "plain.h5.cnindex.parts", "plain.genes.txt", "features.tsv.gz"):
        if kind == "pipe":
            os.mkfifo(path.with_name(name))
        else:
            path.with_name(name).symlink_to(name)
    done = _opened(path)
    assert (done.returncode, done.stdout) == (0, "4 3\n"), done.stderr[-2000:]


def test_a_pipe_is_no_cell_net_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(LayoutError, match=r"pipe\.h5 is neither a file nor a directory"):
        cn.open(tmp_path / "pipe.h5")


# --- an index made to mislead ----------------------------------------------------------------------------------------


def _forged(target: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change a column of an index, or what its metadata says of a component, and put its digest right."""

    def changed(table: pa.Table) -> pa.Table:
        metadata = table.schema.metadata
        if (key := name.encode()) in metadata:
            words = json.dumps(change(json.loads(metadata[key]))).encode()
            return table.replace_schema_metadata({**metadata, key: words})
        if (column := change(table.column(name).combine_chunks())) is None:
            return table.drop_columns([name])
        return table.set_column(table.column_names.index(name), name, column)

    rewritten(target, changed)


def _all(number: int) -> Callable[[pa.Array], pa.Array]:
    return lambda column: pa.array(np.full(len(column), number), column.type)


def _in_lists(number: int) -> Callable[[pa.Array], pa.Array]:
    def change(column: pa.Array) -> pa.Array:
        values = pa.array(np.full(len(column.values), number), column.type.value_type)
        return pa.LargeListArray.from_arrays(column.offsets, values)

    return change


def _with_layouts(**changes: Any) -> Callable[[Any], Any]:
    return lambda words: words | {"layouts": [layout | changes for layout in words["layouts"]]}


def _with_frames(**changes: Any) -> Callable[[Any], Any]:
    def change(words: Any) -> Any:
        frames = words["findings"]["frames"]
        frames |= {level: frame | changes for level, frame in frames.items()}
        return words

    return change


def _at(*keys: Any, to: Any) -> Callable[[Any], Any]:
    """Put something else at a place in the metadata."""

    def change(words: Any) -> Any:
        reduce(getitem, keys[:-1], words)[keys[-1]] = to
        return words

    return change


def _without(*keys: Any) -> Callable[[Any], Any]:
    def change(words: Any) -> Any:
        del reduce(getitem, keys[:-1], words)[keys[-1]]
        return words

    return change


_STORED = ("layouts", 0, "attrs", 0, 1)
_FORGED: list[tuple[str, Callable[[Any], Any]]] = [
    ("caption", lambda _: None),
    ("container", lambda column: pa.array([[1]] * len(column))),
    ("slide", _all(-1)),
    ("obsm:spatial:x", lambda column: pa.array(["x"] * len(column))),
    ("obs:tissue", lambda _: None),
    ("obsm:spatial:x", lambda _: None),
    ("cellnet_sd", _at("spellings", "attributes", 1, "column", to="junk")),
    ("cellnet_sd", _at("spellings", "exceptions", to={"tissue": {"junk": None}})),
    ("cellnet_sd", _without("forms", "images/tissue_patch")),
    ("cellnet_sd", _at("stated", "", "values", to={"gene_names": ["A", None, "C"]})),
    ("cellnet_sd", _at("defects", to=[[4, "CCC", "it is damaged"]])),
    ("cellnet_sd", _at("findings", "slides", 0, "wsi_row", to=2**62)),
    ("cellnet_sd_at:CCC", _at(*_STORED, "shape", to=[0])),
    ("cellnet_sd_at:CCC", _at(*_STORED, "items", to=None)),
    ("cellnet_sd_at:expression", _with_layouts(shape=[2**31, 0, 2**31])),
    ("cellnet_sd", _with_frames(dtype="junk")),
    ("wsi", lambda _: None),
    ("form:expression", lambda _: None),
    ("form:expression", _all(100)),
    ("at:expression:code", _all(1_000)),
    ("at:expression:address", _all(2**62)),
    ("at:images/cell_patch:address", lambda column: column.cast("float64")),
    ("at:expression:address", lambda column: column.cast("float64")),
    ("at:images/cell_patch:address", _all(-5)),
    ("at:images/cell_patch:size", _all(2**40)),
    ("at:CCC:member:name", _in_lists(1_000)),
    ("at:CCC:member:parent", _in_lists(2)),
    ("at:CCC:member:address", _in_lists(2**62)),
    ("cellnet_sd_at:expression", _with_layouts(shape=[2**40])),
    ("cellnet_sd_at:expression", _with_layouts(dtype="junk")),
    ("cellnet_sd", _with_frames(height=2**31)),
    ("cellnet_sd", _with_frames(channels=2)),
]


@pytest.mark.parametrize(("name", "change"), _FORGED, ids=[f"{at}-{name}" for at, (name, _) in enumerate(_FORGED)])
def test_an_index_made_to_mislead_is_an_error_of_ours_or_built_anew(
    path: Path, name: str, change: Callable[[Any], Any]
) -> None:
    told = _sums(path)
    cn.index(path)
    _forged(path.with_name("plain.h5.cnindex"), name, change)
    found = _sums(path)
    assert all(own in (sum_of, "plain.h5.cnindex") for own, sum_of in zip(found, told, strict=True))


def _sums(path: Path) -> list[Any]:
    """Return sums over what is read, the name of the index where an error has it."""
    file, found = cn.open(path, index=False), []
    verbs: list[Callable[[], Any]] = [
        lambda: file.expression[:],
        lambda: file.ccc,
        lambda: file.patches("cell")[:].values,
        lambda: file.captions.fillna("").tolist(),
        lambda: {name: np.nansum(where) for name, where in file.obsm.items()},
        lambda: str(cn.info(path)).partition("Index")[0],
        lambda: cn.read_anndata(path, index=False).X,
    ]
    for verb in verbs:
        try:
            with quiet():
                value = verb()
            found.append(value.sum() if hasattr(value, "sum") else value)
        except CellNetError as error:
            found.append("plain.h5.cnindex" * ("plain.h5.cnindex" in str(error)))
    return found
