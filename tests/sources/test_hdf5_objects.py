"""Single HDF5 objects: read as stored; never out of the file, never more than the stored bytes can hold."""

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5g

from cellnet_sd.errors import CorruptFileError, FileBusyError, LayoutError, MissingDependencyError
from cellnet_sd.sources.hdf5_objects import (
    ObjectError,
    check_dataset,
    check_is_hdf5,
    open_file,
    open_member,
    read_attr,
    read_attrs,
    read_dataset,
    read_object,
)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[h5py.File]:
    """Return a file open for writing."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        yield file


def member(root: h5py.File, path: str) -> Any:
    return open_member(h5g.open(root.id, b"/"), path)


# --- opening a file --------------------------------------------------------------------------------------------------


def test_a_file_is_closed_again_whatever_happens(tmp_path: Path) -> None:
    h5py.File(tmp_path / "a.h5", "w").close()
    with pytest.raises(KeyError), open_file(tmp_path / "a.h5") as file:
        raise KeyError
    assert not file


@pytest.mark.parametrize("offset", [0, 512, 1024, 2048])
def test_the_signature_is_found_behind_a_user_block(tmp_path: Path, offset: int) -> None:
    with h5py.File(tmp_path / "a.h5", "w", **({"userblock_size": offset} if offset else {})) as file:
        file["x"] = 1
    check_is_hdf5(tmp_path / "a.h5")
    with open_file(tmp_path / "a.h5") as file:
        assert file["x"][()] == 1


@pytest.mark.parametrize("content", [b"x", b"PK\x03\x04" * 1000, b"\x89HDF\r\n", b"\0" * 5000])
def test_what_is_not_hdf5_is_said_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(LayoutError, match="not an HDF5 file"):
        check_is_hdf5(tmp_path / "a.h5")


def test_an_empty_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.h5").touch()
    with pytest.raises(CorruptFileError, match="0 bytes"):
        check_is_hdf5(tmp_path / "a.h5")
    with pytest.raises(LayoutError, match="directory"):
        check_is_hdf5(tmp_path)
    (tmp_path / "zarr.json").touch()
    with pytest.raises(LayoutError, match="open_store"):
        check_is_hdf5(tmp_path)
    with pytest.raises(FileNotFoundError):
        check_is_hdf5(tmp_path / "b.h5")


def test_a_cut_file_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(10_000)
    path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(CorruptFileError, match="truncated"), open_file(path):
        pass


WRITER = """
import sys, h5py
with h5py.File(sys.argv[1], "w", libver="latest") as file:
    file["x"] = 1
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_a_file_that_is_being_written_is_busy(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        with pytest.raises(FileBusyError, match="another process"), open_file(path):
            pass
        writer.communicate("")
    with open_file(path) as file:
        assert file["x"][()] == 1


# --- links -----------------------------------------------------------------------------------------------------------


def test_members_are_opened_by_path_through_hard_and_soft_links(root: h5py.File) -> None:
    root["a/b/c"] = 7
    root["hard"] = root["a/b"]
    root["soft"] = h5py.SoftLink("/a/b")
    root["a/relative"] = h5py.SoftLink("b/c")
    root["chain"] = h5py.SoftLink("soft")
    for path in ("a/b/c", "/a/b/c", "hard/c", "soft/c", "a/relative", "chain/c"):
        assert read_object(member(root, path)).value == 7, path


@pytest.mark.parametrize("path", ["x", "a/x", "a/b/x/y", ""])
def test_what_is_not_there_is_none(root: h5py.File, path: str) -> None:
    root.create_group("a/b")
    found = member(root, path)
    assert found is None if path else isinstance(found, h5g.GroupID)


def test_a_name_with_a_dot_is_a_name(root: h5py.File) -> None:
    root["a.b"] = 1
    assert member(root, "a.b") is not None
    assert member(root, "a") is None


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (h5py.SoftLink("/nowhere"), "not in the file"),
        (h5py.SoftLink("/link"), "loop"),
        (h5py.SoftLink("/out/x"), "another file"),
        (h5py.ExternalLink("other.h5", "/x"), "another file"),
        (h5py.ExternalLink("nowhere.h5", "/x"), "another file"),
    ],
)
def test_a_link_that_leads_nowhere_round_or_out_is_refused(root: h5py.File, target: Any, says: str) -> None:
    with h5py.File(Path(root.filename).with_name("other.h5"), "w") as other:
        other["x"] = 7
    root["out"] = h5py.ExternalLink("other.h5", "/")
    root["link"] = target
    with pytest.raises(ObjectError, match=says):
        member(root, "link")


def test_long_chains_of_soft_links_end(root: h5py.File) -> None:
    root["0"] = 1
    for hop in range(1, 40):
        root[str(hop)] = h5py.SoftLink(f"/{hop - 1}")
    assert member(root, "10") is not None
    with pytest.raises(ObjectError, match="loop"):
        member(root, "39")


# --- values ----------------------------------------------------------------------------------------------------------

VALUES = {
    "scalar": np.float32(1.5),
    "one": np.array([1.5]),
    "empty": np.zeros((0, 3), "i2"),
    "big-endian": np.arange(5, dtype=">i4"),
    "half": np.arange(5, dtype="f2"),
    "3d": np.arange(24, dtype="u1").reshape(2, 3, 4),
    "bool": np.array([True, False]),
    "fixed": np.array([b"ab", b"c"]),
    "opaque": np.void(b"\x89PNG\0\x01"),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"compression": "lzf", "shuffle": True}])
def test_datasets_are_read_as_they_are_stored(root: h5py.File, name: str, options: dict[str, Any]) -> None:
    value = VALUES[name]
    root.create_dataset("x", data=value, **(options if np.ndim(value) and np.size(value) else {}))
    got = read_dataset(root["x"].id)
    assert got.dtype == np.asarray(value).dtype
    assert got.shape == np.shape(value)
    np.testing.assert_array_equal(got, value)


def test_strings_are_bytes_and_lists_are_arrays(root: h5py.File) -> None:
    root["text"] = "Größe"
    root["texts"] = ["a", "µ"]
    root.create_dataset("vlen", (2,), dtype=h5py.vlen_dtype(np.uint8))
    root["vlen"][0] = np.array([1, 2], "u1")
    assert read_dataset(root["text"].id)[()] == "Größe".encode()
    assert read_dataset(root["texts"].id).tolist() == [b"a", "µ".encode()]
    assert read_dataset(root["vlen"].id)[0].tolist() == [1, 2]


def test_a_group_is_read_with_what_it_holds(root: h5py.File) -> None:
    root["g/x"], root["g/sub/y"] = [1, 2], 3
    root["g"].attrs["kind"] = "csr"
    root["g/x"].attrs["unit"] = "px"
    raw = read_object(root["g"].id)
    assert raw.is_group
    assert set(raw.members) == {"x", "sub"}
    assert raw.members["x"].value.tolist() == [1, 2]
    assert raw.members["sub"].members["y"].value == 3
    assert raw.attrs == {"kind": b"csr"}
    assert raw.members["x"].attrs == {}
    assert read_object(root["g"].id, with_attrs=True).members["x"].attrs == {"unit": b"px"}


def test_deep_wide_and_looping_groups_are_refused(root: h5py.File) -> None:
    root["deep/" + "/".join("abcdefghij")] = 1
    loop = root.create_group("loop")
    loop["again"] = loop
    for name in ("deep", "loop"):
        with pytest.raises(ObjectError, match="nested"):
            read_object(root[name].id)


def test_a_named_datatype_is_no_value(root: h5py.File) -> None:
    root["kind"] = np.dtype("f8")
    with pytest.raises(ObjectError, match="datatype"):
        read_object(member(root, "kind"))


def _external(root: h5py.File) -> h5py.Dataset:
    raw = Path(root.filename).with_name("raw.bin")
    raw.write_bytes(b"\x07" * 16)
    return root.create_dataset("x", (16,), "u1", external=[(str(raw), 0, 16)])


def _virtual(root: h5py.File) -> h5py.Dataset:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    return root.create_virtual_dataset("x", layout)


REFUSED = {
    "external storage": _external,
    "virtual": _virtual,
    "null": lambda root: root.create_dataset("x", data=h5py.Empty("f4")),
    "declared": lambda root: root.create_dataset("x", (2**40,), "f4", chunks=(1024,)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_trusted_is_refused_before_it_is_read(root: h5py.File, what: str) -> None:
    dataset = REFUSED[what](root)
    tracemalloc.start()
    with pytest.raises(ObjectError, match=what):
        check_dataset(dataset.id)
    with pytest.raises(ObjectError, match=what):
        read_dataset(dataset.id)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_what_deflate_can_make_of_little_is_read(root: h5py.File) -> None:
    zeros = root.create_dataset("x", data=np.zeros(2**25, "u1"), compression="gzip", chunks=(2**25,))
    assert zeros.id.get_storage_size() < 40_000
    assert not read_dataset(zeros.id).any()
    unwritten = root.create_dataset("y", (2**20,), "f8", chunks=(2**10,), fillvalue=3)
    assert (read_dataset(unwritten.id) == 3).all()


def test_damaged_bytes_are_a_reason_and_a_missing_filter_names_its_package(root: h5py.File) -> None:
    damaged = root.create_dataset("x", data=np.arange(9.0), compression="gzip")
    damaged.id.write_direct_chunk((0,), b"\x78\x9c" + b"\xff" * 20)
    with pytest.raises(ObjectError, match="cannot be decoded"):
        read_dataset(damaged.id)
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4,))
    plist.set_filter(32_768, h5py.h5z.FLAG_OPTIONAL)  # nobody's
    space = h5py.h5s.create_simple((4,))
    missing = h5py.h5d.create(root.id, b"y", h5py.h5t.NATIVE_FLOAT, space, plist)
    missing.write_direct_chunk((0,), np.arange(4, dtype="f4").tobytes())
    with pytest.raises(MissingDependencyError, match=r"32768.*cellnet-sd\[filters\]"):
        read_dataset(missing)


# --- attributes ------------------------------------------------------------------------------------------------------


def test_attributes_are_read_as_they_are_stored(root: h5py.File) -> None:
    root.attrs["number"], root.attrs["text"], root.attrs["list"] = np.float32(0.5), "µm", ["a", "b"]
    root.attrs["array"], root.attrs["nothing"] = np.arange(3), h5py.Empty("f4")
    got = read_attrs(root.id)
    assert got["number"] == np.float32(0.5)
    assert got["number"].dtype == np.float32
    assert got["text"] == "µm".encode()
    assert got["list"].tolist() == [b"a", b"b"]
    assert got["array"].tolist() == [0, 1, 2]
    assert got["nothing"] is None
    assert read_attr(root.id, "missing") is None


def test_the_root_is_a_group_whose_attributes_are_read(root: h5py.File) -> None:
    root.attrs["mpp"] = 0.5
    assert read_attr(h5g.open(root.id, b"/"), "mpp") == 0.5
