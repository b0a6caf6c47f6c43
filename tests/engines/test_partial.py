"""An index that is built in parts: an interrupted build goes on from the last finished one, to the same index."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import feather

import cellnet_sd as cn
from big_file import NAMES, N, big_file
from cellnet_sd import indexfile
from cellnet_sd.layout import Component
from cellnet_sd.sources import native_facts
from cellnet_sd.sources.opening import open_source

SIZE = 1_000


@pytest.fixture
def big(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """Return a file of 10,500 cells without an index."""
    path = tmp_path / "big.h5"
    path.hardlink_to(big_file(tmp_path_factory))
    return path


class Interrupted(Exception):
    """What ends a build from outside."""


def _parts_read(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[int]:
    """Count the cells of each part that is read from the file; raise after so many parts."""
    read, sizes = native_facts.read_part, []

    def counting(scan: Any, stored: Any, headers: Any) -> Any:
        if stop_after is not None and len(sizes) == stop_after:
            raise Interrupted
        sizes.append(len(headers))
        return read(scan, stored, headers)

    monkeypatch.setattr(native_facts, "BATCH", SIZE)
    monkeypatch.setattr(native_facts, "read_part", counting)
    return sizes


def _folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.cnindex.parts")


def test_an_interrupted_build_goes_on(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        _parts_read(patch, stop_after=4)
        with pytest.raises(Interrupted):
            cn.index(big, n_threads=1)
    assert len(list(_folder(big).iterdir())) == 4
    assert indexfile.saved_at(big, indexfile.Identity.of(big)) is None
    sizes = _parts_read(monkeypatch)
    cn.index(big, n_threads=1)
    assert sizes == [SIZE] * 6 + [N % SIZE]
    assert not _folder(big).exists()
    with cn.open(big) as f:
        assert f.obs.index.tolist() == NAMES
        assert f.captions.tolist() == [f"the cell at row {row}" for row in range(N)]
        np.testing.assert_array_equal(f.expression[:].toarray()[:, 0], np.arange(N) + 0.5)


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC])
def test_parts_are_kept_where_a_read_only_folders_index_goes(
    big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    write = feather.write_feather

    def guarded(table: Any, where: Path, **options: Any) -> None:
        if where.parent == _folder(big):
            raise OSError(code, os.strerror(code))
        write(table, where, **options)

    monkeypatch.setattr(feather, "write_feather", guarded)
    with cn.settings.override(cache_dir=tmp_path / "cache"):
        with monkeypatch.context() as patch:
            _parts_read(patch, stop_after=4)
            with pytest.raises(Interrupted):
                cn.index(big, n_threads=1)
        is_read_only = code == errno.EROFS
        assert len(list((tmp_path / "cache").glob("big.h5-*.cnindex.parts/*.arrow"))) == 4 * is_read_only
        sizes = _parts_read(monkeypatch)
        cn.index(big, n_threads=1)
        assert sum(sizes) == N - 4 * SIZE * is_read_only
        assert not list(tmp_path.glob("**/*.parts"))


def test_parts_of_another_size_are_read_again(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        _parts_read(patch, stop_after=4)
        with pytest.raises(Interrupted):
            cn.index(big, n_threads=1)
    sizes = _parts_read(monkeypatch)
    monkeypatch.setattr(native_facts, "BATCH", 2 * SIZE)
    cn.index(big, n_threads=1)
    assert sizes == [2 * SIZE] * 5 + [N % SIZE]
    with cn.open(big) as f:
        assert f.obs.index.tolist() == NAMES


@pytest.mark.parametrize("n_threads", [1, 3])
def test_parts_join_to_the_index_of_the_whole(big: Path, monkeypatch: pytest.MonkeyPatch, n_threads: int) -> None:
    whole = open_source(big, index=False).index
    _parts_read(monkeypatch)
    parted = open_source(big, index=True, n_threads=n_threads).index
    assert parted.findings == whole.findings
    assert parted.obs.equals(whole.obs)
    assert parted.captions.equals(whole.captions)
    for component in Component:
        own, other = parted.load_located(component), whole.load_located(component)
        assert own is not None
        assert other is not None
        assert [own.place(row) for row in range(0, N, 777)] == [other.place(row) for row in range(0, N, 777)]
        assert [own.members_of(row) for row in (0, 985)] == [other.members_of(row) for row in (0, 985)]


def test_parts_of_another_state_of_the_file_are_not_taken(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        _parts_read(patch, stop_after=2)
        with pytest.raises(Interrupted):
            cn.index(big, n_threads=1)
    data = bytearray(big.read_bytes())
    big.unlink()
    big.write_bytes(data)  # the same bytes at another time
    sizes = _parts_read(monkeypatch)
    cn.index(big, n_threads=1)
    assert sum(sizes) == N


@pytest.mark.parametrize("damage", [b"", b"not Arrow", None])
def test_a_damaged_part_is_read_again(big: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None) -> None:
    with monkeypatch.context() as patch:
        _parts_read(patch, stop_after=2)
        with pytest.raises(Interrupted):
            cn.index(big, n_threads=1)
    first = min(_folder(big).iterdir())
    first.write_bytes(first.read_bytes()[:-100] if damage is None else damage)
    sizes = _parts_read(monkeypatch)
    cn.index(big, n_threads=1)
    assert sum(sizes) == N - SIZE
    with cn.open(big) as f:
        assert f.obs.index.tolist() == NAMES
