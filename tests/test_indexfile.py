"""The sidecar index: built once, taken again while the file is what it was, and equal to a fresh one."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cellnet_sd as cn
from cellnet_sd import index_parquet, indexfile
from cellnet_sd.cellindex import CellIndex, reordered
from cellnet_sd.errors import CellNetError, SourceMovedError
from cellnet_sd.sources.opening import open_source
from counting import counted
from forged_indexes import rewritten
from sound_file import full_file
from spellings import cell_files, write, written
from truth_checks import quiet


@pytest.fixture
def cache(tmp_path: Path) -> Any:
    """Point the cache folder to a temporary one, and return it."""
    with cn.settings.override(cache_dir=tmp_path / "cache"):
        yield tmp_path / "cache"


@pytest.fixture
def path(tmp_path: Path, cache: Path) -> Path:
    """Return a sound file of four cells with every component, in a folder of its own."""
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "plain.h5", *full_file())
    return tmp_path / "data" / "plain.h5"


def sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.cnindex")


def scans(path: Path, **options: Any) -> int:
    """Open a file; return how often it was scanned for that."""
    with counted() as reads, quiet():
        cn.open(path, **options)
    return reads.scans


# --- built once ------------------------------------------------------------------------------------------------------


def test_the_index_is_built_once_and_taken_again(path: Path) -> None:
    with counted() as reads:
        assert cn.index(path) == sidecar(path)
    assert reads.scans == 1
    before = sidecar(path).read_bytes()
    with counted() as reads, quiet():
        assert cn.index(path) == sidecar(path)
        cn.open(path)
        cn.info(path)
        cn.read_anndata(path)
        cn.patches(path, "cell")
    assert reads.scans == 0
    assert sidecar(path).read_bytes() == before


@pytest.mark.parametrize("verb", [cn.open, cn.read, cn.read_anndata, cn.info])
def test_the_first_call_leaves_an_index_unless_told_not_to(path: Path, verb: Any) -> None:
    with quiet():
        verb(path, index=False)
        assert not sidecar(path).exists()
        with cn.settings.override(index=False):
            verb(path)
            assert not sidecar(path).exists()
            verb(path, index=True)
            assert sidecar(path).exists()
            sidecar(path).unlink()
        verb(path)
    assert sidecar(path).exists()


def test_without_an_index_no_file_is_left_anywhere(path: Path, cache: Path) -> None:
    with quiet():
        cn.read(path, index=False)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert not cache.exists()


def test_choices_of_the_caller_do_not_get_into_the_index(path: Path) -> None:
    with quiet():
        cn.read_anndata(path, mpp=0.25, expression="counts", cell_order="name", slide_key="tissue", ccc_layout="cells")
        said = str(cn.info(path))
    assert "as the caller says" not in said
    assert "0.25" not in said
    assert str(cn.info(path, index=False)).partition("Index")[0] == said.partition("Index")[0]


# --- rebuilt when the file changed -----------------------------------------------------------------------------------


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0" * 16)


def _touch(path: Path) -> None:
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))


def _change_in_place(path: Path) -> None:
    """Change bytes and put size and time back, as some tools do."""
    stat = path.stat()
    with h5py.File(path, "a") as root:
        root["Cell_1/expression"][...] = 9.5
    assert path.stat().st_size == stat.st_size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _change_the_middle(path: Path) -> None:
    """Change every text in the middle of a file that is longer than its ends, and put size and time back."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    middle = slice(200_000, -200_000)
    data[middle] = data[middle].replace(b"kind", b"sort")
    assert b"sort" in data
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _other_file(path: Path) -> None:
    truth, spelling = full_file()
    truth.cells[0].name = "Another_1"
    write(path, truth, spelling)


@pytest.mark.parametrize("change", [_grow, _touch, _change_in_place, _other_file])
def test_the_index_of_a_file_that_changed_is_built_anew(path: Path, change: Any) -> None:
    cn.index(path)
    assert scans(path) == 0
    change(path)
    assert scans(path) == 1
    assert scans(path) == 0


def test_the_index_of_a_long_file_that_changed_in_its_middle_is_built_anew(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as root:
        for row in range(1_000):
            root[f"Cell_{row}/expression"] = np.arange(3, dtype="f4")
            root[f"Cell_{row}/attributes.json"] = np.bytes_(b'{"kind": "a"}')
    cn.index(path)
    assert scans(path) == 0
    _change_the_middle(path)
    assert scans(path) == 1
    assert set(open_source(path).index.obs) == {"kind", "sort"}


@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
@pytest.mark.parametrize("userblock", [0, 2**17])
def test_the_end_that_a_superblock_states_tells_files_apart(tmp_path: Path, libver: Any, userblock: int) -> None:
    with h5py.File(tmp_path / "plain.h5", "w", libver=libver, userblock_size=userblock) as root:
        root["expression"] = np.arange(3)
    found = indexfile.Identity.of(tmp_path / "plain.h5")
    assert found.end in (found.size, found.size - userblock)
    assert not found.takes(msgspec.structs.replace(found, end=found.size + 8))


def test_what_was_added_since_is_read(path: Path) -> None:
    cn.index(path)
    with h5py.File(path, "a") as root:
        root["Cell_5/expression"] = np.array([7.5, 0, 1], "f4")
        del root["Cell_1/CCC"], root["Cell_2/CCC"], root["Cell_3/CCC"], root["Cell_4/CCC"]
    with quiet():
        assert cn.read_anndata(path).obs_names.tolist() == [f"Cell_{number}" for number in range(1, 6)]


# --- damaged, foreign, or of another version -------------------------------------------------------------------------


def _not_ours(path: Path) -> None:
    pq.write_table(pa.table({"name": ["x"]}), sidecar(path))


def _with_metadata(table: pa.Table, **changes: Any) -> pa.Table:
    metadata = {**table.schema.metadata, **{key.encode(): value for key, value in changes.items()}}
    return table.replace_schema_metadata(metadata)


def _broken_metadata(path: Path) -> None:
    rewritten(sidecar(path), lambda table: _with_metadata(table, cellnet_sd=b'{"version": '))


def _changed_metadata(path: Path) -> None:
    whole = sidecar(path).read_bytes()
    sidecar(path).write_bytes(whole.replace(b'"names_are_unique":true', b'"names_are_unique":null'))
    assert sidecar(path).read_bytes() != whole


def _other_version(path: Path) -> None:
    def newer(table: pa.Table) -> pa.Table:
        metadata = msgspec.json.decode(table.schema.metadata[b"cellnet_sd"])
        return _with_metadata(table, cellnet_sd=msgspec.json.encode(metadata | {"version": metadata["version"] + 1}))

    rewritten(sidecar(path), newer)


def _of_another_file(path: Path) -> None:
    other = path.with_name("other.h5")
    _other = full_file()
    _other[0].cells[0].name = "Another_1"
    write(other, *_other)
    cn.index(other).replace(sidecar(path))


def _without_a_column(path: Path) -> None:
    rewritten(sidecar(path), lambda table: table.drop_columns(["slide"]))


def _without_captions(path: Path) -> None:
    metadata = index_parquet.sealed_schema(sidecar(path)).metadata  # its digest is of the captions, too
    table = pq.read_table(sidecar(path)).drop_columns(["caption"])
    pq.write_table(table.replace_schema_metadata(metadata), sidecar(path))


def _a_row_short(path: Path) -> None:
    rewritten(sidecar(path), lambda table: table.slice(1))


DAMAGES = {
    "empty": lambda path: sidecar(path).write_bytes(b""),
    "cut": lambda path: sidecar(path).write_bytes(sidecar(path).read_bytes()[:-100]),
    "text": lambda path: sidecar(path).write_text("an index, honestly"),
    "a pickle": lambda path: sidecar(path).write_bytes(b"\x80\x04K*."),
    "not ours": _not_ours,
    "broken metadata": _broken_metadata,
    "changed metadata": _changed_metadata,
    "another version": _other_version,
    "of another file": _of_another_file,
    "without a column": _without_a_column,
    "without captions": _without_captions,
    "a row short": _a_row_short,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_index_that_cannot_be_used_is_built_anew(path: Path, damage: str) -> None:
    cn.index(path)
    sound = open_source(path).index
    DAMAGES[damage](path)
    with counted() as reads, quiet():
        found = open_source(path).index
    assert reads.scans == 1
    assert_same_index(found, sound)
    assert scans(path) == 0


def test_a_folder_in_the_place_of_the_index_is_no_index(path: Path) -> None:
    sidecar(path).mkdir()
    for verb in (cn.index, cn.open):
        with quiet(), pytest.raises(CellNetError, match=r"cnindex is a folder.* Move it away, or pass index=False"):
            verb(path)
    assert set(path.parent.iterdir()) == {path, sidecar(path)}
    assert scans(path, index=False) == 1


def test_flipped_bytes_never_change_what_is_read(path: Path) -> None:
    """Every damaged index is either built anew or gives what the sound one gives."""
    sound_bytes = cn.index(path).read_bytes()
    sound = open_source(path, index=False).index
    captions = sound.captions.tolist()
    rng = np.random.default_rng(0)
    for at in rng.choice(len(sound_bytes), 150, replace=False):
        damaged = bytearray(sound_bytes)
        damaged[at] ^= 1 << int(rng.integers(8))
        sidecar(path).write_bytes(damaged)
        found = indexfile.load(path, indexfile.Identity.of(path))
        if found is not None:
            assert_same_opened(found, sound)
            with contextlib.suppress(SourceMovedError):  # positions and captions are found damaged when asked for
                assert_same_positions(found, sound)
            with contextlib.suppress(SourceMovedError):
                assert found.captions.tolist() == captions
            with contextlib.suppress(SourceMovedError):
                assert found.captions_of(np.array([3, 1])).tolist() == [captions[3], captions[1]]


@pytest.mark.parametrize("becomes", ["gone", "that of a changed file", "damaged"])
def test_captions_are_not_taken_from_an_index_that_is_no_longer_the_one_opened(path: Path, becomes: str) -> None:
    cn.index(path)
    with cn.open(path) as f:
        if becomes == "that of a changed file":
            _other_file(path)
            cn.index(path)
        elif becomes == "damaged":
            sidecar(path).write_bytes(b"PAR1" * 10)
        else:
            sidecar(path).unlink()
        with pytest.raises(SourceMovedError, match="Open the file again"):
            _ = f.captions
        with pytest.raises(SourceMovedError, match="Open the file again"):
            f._source.index.captions_of(np.array([0]))


def test_captions_of_some_cells_are_read_from_their_row_groups(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_parquet, "_GROUP_ROWS", 1)
    cn.index(path)
    per_group = pq.read_metadata(sidecar(path)).row_group(0).num_rows
    assert per_group <= 2  # else nothing is left out
    read, groups = pq.ParquetFile.read_row_groups, []

    def noting(self: Any, row_groups: list[int], **options: Any) -> Any:
        groups.extend(row_groups)
        return read(self, row_groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", noting)
    index = open_source(path).index
    captions = index.captions.tolist()
    assert not groups
    for rows in ([2], [3, 0], [1, 1], []):
        groups.clear()
        assert index.captions_of(np.array(rows, dtype=np.int64)).tolist() == [captions[row] for row in rows]
        assert groups == sorted({row // per_group for row in rows})
    groups.clear()
    with quiet():
        adata = cn.read_anndata(path, cells=[3])
    assert adata.obs["caption"].tolist() == [captions[3]]
    assert groups == [3 // per_group]


def test_a_row_group_holds_no_fewer_rows_than_a_column_has_labels(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_parquet, "_GROUP_ROWS", 1)
    with h5py.File(path, "a") as root:
        for number in range(1, 5):
            del root[f"Cell_{number}/attributes.json"]
            root[f"Cell_{number}/attributes.json"] = f'{{"kind": "{"abca"[number - 1]}"}}'
    cn.index(path)
    metadata = pq.read_metadata(sidecar(path))
    assert [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)] == [3, 1]
    assert_same_index(open_source(path).index, open_source(path, index=False).index)


# --- where it goes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def read_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a folder refuse new files, to root as well: whatever is written to it fails as the system would say it."""
    refused: dict[Path, int] = {path.parent: errno.EROFS}
    writer = index_parquet.writer

    def guarded(where: Path, schema: Any) -> Any:
        if (code := refused.get(where.parent)) is not None:
            raise OSError(code, os.strerror(code))
        return writer(where, schema)

    monkeypatch.setattr(index_parquet, "writer", guarded)
    return refused


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_the_index_of_a_read_only_folder_goes_to_the_cache(path: Path, cache: Path, read_only: Any, code: int) -> None:
    read_only[path.parent] = code
    made = cn.index(path)
    assert made.parent == cache
    assert made.name.startswith("plain.h5-")
    assert not sidecar(path).exists()
    assert scans(path) == 0
    assert str(made) in str(cn.info(path))
    assert cn.index(path) == made


def test_an_old_index_beside_the_file_does_not_stand_for_the_one_in_the_cache(
    path: Path, cache: Path, read_only: Any
) -> None:
    code = read_only.pop(path.parent)
    cn.index(path)
    read_only[path.parent] = code
    _other_file(path)
    assert cn.index(path).parent == cache
    assert scans(path) == 0
    assert str(cache) in str(cn.info(path))


def test_files_of_one_name_have_an_index_each_in_the_cache(path: Path, cache: Path, read_only: Any) -> None:
    other = path.parent.with_name("more") / path.name
    other.parent.mkdir()
    read_only[other.parent] = errno.EROFS
    _other_file(other)
    assert cn.index(path) != cn.index(other)
    assert cn.open(path).obs.index[0] == "Cell_1"
    assert "Another_1" in cn.open(other).obs.index


def test_where_nothing_can_be_written_the_error_names_the_way_out(path: Path, cache: Path, read_only: Any) -> None:
    read_only[cache] = errno.EACCES
    with pytest.raises(CellNetError, match="cache_dir") as caught:
        cn.index(path)
    assert "index=False" in str(caught.value)
    assert len(cn.open(path, index=False)) == 4


def test_a_full_disk_is_an_error_and_leaves_nothing(path: Path, read_only: Any) -> None:
    read_only[path.parent] = errno.ENOSPC
    with pytest.raises(OSError, match="space"):
        cn.index(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# --- a loaded index equals a built one -------------------------------------------------------------------------------


def assert_same_index(one: CellIndex, other: CellIndex) -> None:
    """Compare two indexes field by field, in values and types."""
    assert_same_opened(one, other)
    assert_same_positions(one, other)


def assert_same_positions(one: CellIndex, other: CellIndex) -> None:
    """Compare the positions of two indexes, in values and types."""
    assert sorted(one.obsm) == sorted(other.obsm)
    for key, positions in one.obsm.items():
        assert positions.dtype == other.obsm[key].dtype
        np.testing.assert_array_equal(positions, other.obsm[key])


def assert_same_opened(one: CellIndex, other: CellIndex) -> None:
    """Compare what is loaded when an index is opened."""
    pd.testing.assert_series_equal(one.names, other.names)
    pd.testing.assert_frame_equal(one.obs, other.obs, check_freq=True)
    pd.testing.assert_series_equal(pd.Series(one.containers), pd.Series(other.containers))
    for name in ("slides", "wsi"):
        got, expected = getattr(one, name), getattr(other, name)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
    for component, column in one.forms.items():
        assert column.forms == other.forms[component].forms
        assert column.codes.dtype == other.forms[component].codes.dtype
        np.testing.assert_array_equal(column.codes, other.forms[component].codes)
    for name in ("path", "spellings", "stated", "defects", "unknown", "gene_names", "findings"):
        assert getattr(one, name) == getattr(other, name), name
    pd.testing.assert_index_equal(one.obs_names(), other.obs_names())


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(file=cell_files(), group_rows=st.sampled_from([1, 2, 2**16]))
def test_a_loaded_index_equals_a_built_one(file: Any, group_rows: int) -> None:
    with written(file) as (path, _), quiet(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_parquet, "_GROUP_ROWS", group_rows)
        built = open_source(path, index=True).index
        with counted() as reads:
            loaded = open_source(path).index
        assert reads.scans == 0
        assert_same_index(loaded, built)
        pd.testing.assert_series_equal(loaded.captions, built.captions)
        if len(loaded) > 1:
            rows = np.array([len(loaded) - 1, 0])
            pd.testing.assert_frame_equal(loaded.frame(rows), built.frame(rows))
            pd.testing.assert_series_equal(loaded.captions_of(rows), built.captions_of(rows))
            for order in ("natural", "name"):
                turned, expected = reordered(loaded, order), reordered(built, order)
                pd.testing.assert_series_equal(turned.captions, expected.captions)
                of_rows = turned.captions.iloc[rows].reset_index(drop=True)
                pd.testing.assert_series_equal(turned.captions_of(rows), of_rows)


def test_what_is_read_by_a_loaded_index_equals_what_is_read_without(path: Path) -> None:
    with h5py.File(path, "a") as root:
        texts = {
            "Cell_1": '{"tissue": "Lung", "n": 1, "flag": true, "odd": [1, null], "x": NaN, "cell_diameter": "9.0 µm"}',
            "Cell_2": '{"tissue": null, "flag": null, "odd": 1.0, "x": 2, "Position_in_WSI": null}',
            "Cell_3": '{"n": 9007199254740993, "odd": "1"}',
        }
        for name, text in texts.items():
            del root[name]["attributes.json"]
            root[name]["attributes.json"] = text
        del root["Cell_4/attributes.json"], root["Cell_4/caption.txt"]
    with quiet():
        without = cn.read(path, index=False)["table"]
        cn.index(path)
        by_index = cn.read(path)["table"]
    pd.testing.assert_frame_equal(by_index.obs, without.obs)
    pd.testing.assert_frame_equal(by_index.var, without.var)
    assert by_index.uns["cellnet_sd"] == without.uns["cellnet_sd"]
    for key in without.obsm:
        np.testing.assert_array_equal(by_index.obsm[key], without.obsm[key])
    assert (by_index.X != without.X).nnz == 0
