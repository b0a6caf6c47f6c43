"""The benchmark runs, its readers agree, and its tables are complete; what it measures is no test's business."""

import importlib
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import sparse

pytestmark = pytest.mark.thorough

_ROOT = Path(__file__).parent.parent
_WORKS = [
    "index",
    "index, 1 thread",
    "reopen from the index",
    "expression → CSR",
    "cell patches → stack",
    "random batch",
    "convert → AnnData Zarr",
]
_SCALING = ["index, by number of cells", "index, by number of cells, 1 thread"]
_H5PY = ["h5py loop", "low-level h5py"]
_TINY = [
    "--cells=30",
    "--genes=60",
    "--repeats=1",
    "--seconds=0",
    "--batch=8",
    "--batches=2",
    "--peer-cells=20",
    "--pyfive-cells=5",
]


def _module(name: str) -> ModuleType:
    """Return a module of the benchmark, which is found from the root of the checkout only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(_ROOT))
        return importlib.import_module(f"benchmarks.{name}")


def _numbers(timing: dict) -> list[float]:
    return [timing[key] for key in ("cells", "seconds", "us_per_cell", "median_seconds")] + timing["runs"]


@pytest.fixture(scope="module", autouse=True)
def _spare() -> Iterator[None]:
    """Have less memory at hand: a GiB is written before each run otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_module("timing"), "_SPARE", 2**20)
        yield


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("benchmarks")
    arguments = [*_TINY, "--scaling=10", "--scaling=20", "--libver=latest", "--no-memory", f"--folder={folder}"]
    done = CliRunner().invoke(_module("__main__").main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout, json.loads((folder / "benchmark-results.json").read_text()), folder


def test_every_work_is_timed_on_every_file(result):
    rows = result[1]["rows"]

    assert [(row["work"], row["form"]) for row in rows] == [
        *((work, f"{storage}, latest") for storage in ("gzip", "contiguous") for work in _WORKS),
        *((work, "gzip, latest") for work in 2 * _SCALING),
    ]
    assert [row["cells"] for row in rows[-4:]] == [10, 10, 20, 20]


def test_all_numbers_are_positive_and_finite(result):
    for row in result[1]["rows"]:
        timings = [row["ours"], *(peer for peer in row["peers"].values() if "fails" not in peer)]
        timings += [row["floor"]] if row["floor"] else []
        numbers = np.array([number for timing in timings for number in _numbers(timing)])
        ratios = np.array([timing["ratio"] for timing in timings[1:]])
        assert np.isfinite(numbers).all()
        assert (numbers > 0).all()
        assert np.isfinite(ratios).all()
        assert (ratios > 0).all()


def test_h5py_is_timed_beside_us_and_has_no_way_to_fail(result):
    for row in result[1]["rows"]:
        expected = [] if row["work"].startswith("reopen") else _H5PY[:1] if row["work"] in _SCALING else _H5PY
        assert [name for name in row["peers"] if name in _H5PY] == expected
        assert all("fails" not in row["peers"][name] for name in expected)
        assert ("pyfive" in row["peers"]) == (bool(find_spec("pyfive")) and len(expected) == 2)


def test_reading_has_a_floor(result):
    floors = {(row["work"], row["form"].partition(",")[0]): row["floor"] for row in result[1]["rows"]}

    for work in _WORKS[3:6]:
        assert floors[work, "gzip"]["what"].startswith("inflate, ")
        assert floors[work, "contiguous"]["what"] == "memcpy"
    assert not any(floors[work, "gzip"] for work in (*_WORKS[:3], _WORKS[6], *_SCALING))


def test_peers_on_fewer_cells_say_so(result):
    row = next(row for row in result[1]["rows"] if row["work"] == "expression → CSR")

    assert row["peers"]["h5py loop"]["cells"] == 20
    assert result[0].count("×**, on 20)") > 0


def test_the_table_and_the_targets_are_printed(result):
    text, found, folder = result
    lines = text.splitlines()

    assert [line for line in lines if line.startswith("| index |")]
    assert len([line for line in lines if line.startswith("|")]) == 2 + len(found["rows"])
    assert len([line for line in lines if line.startswith(("met ", "MISSED "))]) == len(found["targets"]) > 0
    assert [line for line in lines if "1 thread, gzip, latest: ≤ 20 µs for each further cell: " in line]
    assert str(folder) not in text + json.dumps(found)


def test_the_machine_is_told(result):
    machine = result[1]["machine"]

    assert machine["cores"] >= 1
    assert machine["ram_gib"] > 0
    assert machine["packages"]["h5py"]
    assert machine["hdf5"]


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("storage", ["gzip", "contiguous"])
def test_readers_agree_on_every_file(storage, libver, tmp_path):
    files, works, rows = map(_module, ("files", "works", "rows"))
    spec = files.FileSpec(12, 60, storage, libver, cell_side=8, tissue_side=12)
    limits = works.Limits(batch=5, batches=2, peer_cells=12, pyfive_cells=12)

    for job in works.jobs_of_file(spec, files.made(spec, tmp_path), limits, "auto"):
        sound, _ = rows._compared(job)
        assert [peer.name for peer in sound if peer.name in _H5PY] == ([] if job.compare is None else _H5PY)


def test_a_disagreement_is_an_error_not_a_number():
    answers = _module("answers")
    stored = sparse.csr_matrix(np.array([[0, 1, 2], [3, 0, 0]], np.float32))
    answers.check_matrices(stored, stored[:1])

    other = stored.copy()
    other.data[1] += 1
    with pytest.raises(answers.DisagreementError, match="data of the expression"):
        answers.check_matrices(stored, other)
    with pytest.raises(answers.DisagreementError, match="type of the patches"):
        answers.check_patches(np.zeros((1, 2), np.uint8), np.zeros((1, 2), np.float32))


def test_no_two_cells_say_the_same():
    content = _module("content")
    texts = list(content.texts(50))

    assert len({text.caption for text in texts}) == 50
    assert len({json.loads(text.attributes)["Position_in_WSI"] for text in texts}) == 50
    assert 150 < np.mean([len(text.caption) for text in texts]) < 250


def test_profiles_are_like_real_ones():
    pool = _module("content").make_pool(50, 2_000, 8, 12, deflate=True)
    shares = np.array([np.count_nonzero(item.array) / 2_000 for item in pool.profiles])

    assert 0.05 < shares.mean() < 0.10
    assert all(item.deflated for item in pool.profiles)


def test_memory_is_that_of_another_process(tmp_path):
    files, memory, works, ours = map(_module, ("files", "memory", "works", "ours"))
    spec = files.FileSpec(12, 60, cell_side=8, tissue_side=12)
    path = files.made(spec, tmp_path)
    errand = memory.Errand(works.INDEX, path, path, ours.Ours(), works.Limits(4, 2, 4, 4))

    peak = memory.peak_of(errand)

    assert peak["peak_mib"] > 20
    assert 0 <= peak["added_mib"] < peak["peak_mib"]


def test_cells_elsewhere_are_read_alike_and_requests_are_counted(tmp_path: Path) -> None:
    places, tissue = _module("places"), _module("tissue")
    path = tissue.made_tissue(60, tmp_path)
    assert set(places._batches(path)) == {"Cell-NET file, indexed", "converted store", "h5py loop"}
    requests, megabytes = places._remote(path)
    assert 0 < requests["side by side"] < 60
    # small cells: each of the two reads, of expression and of patches, may bring what lies between, once
    assert 0 < megabytes["side by side"] < 2 * path.stat().st_size / 1e6
    assert not list(tmp_path.glob("moved-*"))


def test_a_tissue_is_converted_and_what_that_took_is_said(tmp_path: Path) -> None:
    tissue, cover = _module("tissue"), _module("cover")
    sizes = [str(tissue.made_tissue(cells, tmp_path)) for cells in (40, 60)]
    told = json.loads(tissue.run_child(json.dumps(sizes)))
    found = tissue.Conversion(**{**told, "cover": cover.Cover(**told["cover"])})
    assert found.cells == found.cover.cells == 60
    assert 0 < found.cover.patches <= 1 <= found.cover.least <= found.cover.overdraw
    assert found.peak_mib > 50
    assert len(tissue.markdown([found]).splitlines()) == 3
    assert {verdict.target.split(":")[0] for verdict in tissue.verdicts([found])} == {"slides of 60 cells"}


@pytest.mark.parametrize("cells", [30, 300])
def test_the_least_that_a_cover_has_is_no_more_than_the_best_cover_has(cells: int) -> None:
    cover = _module("cover")
    found = cover.measured(cells)
    assert found.cells == cells
    assert 1 <= found.least <= found.overdraw
    assert len(cover.markdown([found]).splitlines()) == 3
    overdraw, patches, _how_long = found.verdicts()
    assert overdraw.met == patches.met == (found.overdraw <= 1.25 * found.least)


def test_memory_is_at_hand_while_somebody_runs_and_only_then():
    timing = _module("timing")
    made, found, before = [], [], []

    class Seen(timing.Spare):
        def __init__(self, nbytes: int) -> None:
            super().__init__(min(nbytes, 2**20))
            made.append(self)

    contender = timing.Contender(
        "one", 1, lambda: found.append(made[0].memory), before=lambda: before.append(made[0].memory.all())
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "Spare", Seen)
        timing.race([contender], 2, 0)
    assert found == [None, None]
    assert before == [True, True]  # it was written to, so the system has it


def test_who_is_quick_runs_until_it_took_long_enough(monkeypatch: pytest.MonkeyPatch):
    timing = _module("timing")
    monkeypatch.setattr(timing, "_timed", lambda contender, _spare: contender.cells)
    contenders = [timing.Contender(name, cells, list) for name, cells in (("quick", 0), ("slow", 5), ("slower", 13))]
    runs = {name: len(each.runs) for name, each in timing.race(contenders, 2, 12).items()}
    assert runs == {"quick": 100, "slow": 3, "slower": 2}
