"""Damaged files, made from sound ones by chance, through the structure reader: a program, for a process of its own.

`python native_mutants.py FIRST COUNT FILE…` mutates the files with the seeds `FIRST … FIRST + COUNT - 1` and ends with
an error as soon as one takes too long or too much memory, or leads outside the file. Most damaged metadata gets its
checksum put right again, or nothing behind the checksums would ever be reached.
"""

import faulthandler
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

from cellnet_sd.sources.native.codes import Kind, Storage
from cellnet_sd.sources.native.primitives import lookup3
from cellnet_sd.sources.native.scan import scan_structure
from cellnet_sd.sources.native.superblock import UnreadableStructureError

SECONDS = 5
MEMORY = 100 * 2**20
SIGNATURES = tuple(
    b"OHDR OCHK BTHD BTIN BTLF FRHP FHIB FHDB FAHD FADB EAHD EAIB EASB EADB TREE SNOD HEAP GCOL \x89HDF".split()
)
_CTX = np.zeros(32, np.int64)
_LONGEST = 6000


def structures(data: np.ndarray) -> list[tuple[int, int, int]]:
    """Return (start, end, zeroed) of every structure; `end` is where its checksum is, `start` if it has none."""
    raw = data.tobytes()
    found = []
    for signature in SIGNATURES:
        at = raw.find(signature)
        while at >= 0:
            found.append(_extent(data, at, signature))
            at = raw.find(signature, at + 1)
    return found


def _extent(data: np.ndarray, at: int, signature: bytes) -> tuple[int, int, int]:
    if signature == b"FHDB":
        for size in (512 << k for k in range(8)):
            for field in range(at + 13, at + 22):
                if at + size <= data.size and _sum(data, at, at + size, field) == _stored(data, field):
                    return at, at + size, field
    elif signature not in (b"TREE", b"SNOD", b"HEAP", b"GCOL"):
        for end in range(at + 8, min(at + _LONGEST, data.size - 4)):
            if _sum(data, at, end, -4) == _stored(data, end):
                return at, end, -4
    return at, at, -4


def _sum(data: np.ndarray, start: int, end: int, zeroed: int) -> int:
    return int(lookup3(data, _CTX, start, end - start, zeroed))


def _stored(data: np.ndarray, at: int) -> int:
    return int.from_bytes(data[at : at + 4].tobytes(), "little")


def mutate(sound: np.ndarray, places: list[tuple[int, int, int]], rng: np.random.Generator) -> np.ndarray:
    """Return a damaged copy."""
    data = sound.copy()
    for _ in range(rng.integers(1, 4)):
        start, end, zeroed = places[rng.integers(len(places))]
        stop = min(end if end > start else start + 512, data.size)
        _damage(data, start, stop, places, rng)
        if end > start and rng.random() < 0.85:
            field = zeroed if zeroed > 0 else end
            data[field : field + 4] = np.frombuffer(_sum(data, start, end, zeroed).to_bytes(4, "little"), np.uint8)
    return data[: rng.integers(1, data.size)] if rng.random() < 0.05 else data


def _damage(
    data: np.ndarray, start: int, stop: int, places: list[tuple[int, int, int]], rng: np.random.Generator
) -> None:
    at = int(rng.integers(start + 4, max(start + 5, stop)))
    match rng.integers(6):
        case 0:
            data[at] ^= 1 << rng.integers(8)
        case 1:
            data[at] = rng.choice([0, 1, 127, 128, 255])
        case 2:  # the address of another structure, or of itself
            _write(data, at, places[rng.integers(len(places))][0], 8)
        case 3:
            _write(data, at, start, 8)
        case 4:
            _write(data, at, int(rng.choice([2**63 - 1, 2**64 - 1, 2**62, 2**40, data.size - 1, data.size])), 8)
        case 5:
            _write(data, at, int(rng.choice([2**31, 2**32 - 1, 2**16 - 1, 1000])), int(rng.choice([2, 4])))


def _write(data: np.ndarray, at: int, value: int, size: int) -> None:
    room = data[at : at + size]
    room[:] = np.frombuffer((value % (1 << 8 * size)).to_bytes(size, "little"), np.uint8)[: room.size]


def examine(path: Path) -> str:
    """Read a file's structure; return how it went."""
    try:
        scan = scan_structure(path)
    except UnreadableStructureError as error:
        return error.reason.name
    kinds = set()
    for start in range(0, len(scan), 65_536):
        batch = scan.read(start, start + 65_536)
        for objects in (*batch.components.values(), batch.members.objects):
            kinds |= set(np.unique(objects.kind).tolist())
            stored = (objects.kind == Kind.DATASET) & (objects.storage != Storage.NONE)
            inside(scan.buf, objects.address, objects.size, stored & (objects.storage != Storage.CHUNKED))
            inside(scan.buf, objects.text, objects.text_size, stored & (objects.text_size > 0))
        inside(scan.buf, batch.chunks.address, batch.chunks.size, np.ones(batch.chunks.size.size, bool))
        inside(scan.buf, batch.attributes.address, batch.attributes.size, np.ones(batch.attributes.size.size, bool))
    return "damaged" if Kind.DAMAGED in kinds else "read"


def inside(buf: np.ndarray, address: np.ndarray, size: np.ndarray, where: np.ndarray) -> None:
    first, length = address[where], size[where]
    assert ((first >= 0) & (length >= 0) & (first <= buf.size - length)).all()


def main(first: int, count: int, files: list[Path]) -> None:
    sound = [np.fromfile(file, np.uint8) for file in files]
    places = [structures(data) for data in sound]
    outcomes: dict[str, int] = {}
    for file in files:
        assert examine(file) == "read", file
    tracemalloc.start()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + count):
            rng = np.random.default_rng(seed)
            which = int(rng.integers(len(sound)))
            path = Path(folder) / "mutant.h5"
            mutate(sound[which], places[which], rng).tofile(path)
            faulthandler.dump_traceback_later(4 * SECONDS, exit=True)
            tracemalloc.reset_peak()
            began = time.process_time()
            outcome = examine(path)
            took, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
            faulthandler.cancel_dump_traceback_later()
            assert took < SECONDS, f"seed {seed}, {files[which]}: {took:.1f} s, {outcome}"
            assert peak < MEMORY + 2 * path.stat().st_size, f"seed {seed}, {files[which]}: {peak:,} bytes, {outcome}"
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    sys.stdout.write(f"{outcomes}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
