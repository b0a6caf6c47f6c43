"""What the cells of a benchmark file hold: made up, but as compressible and as varied as real cells are."""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

POOL: Final = 200
"""Distinct profiles and patches; cells take turns at them."""
DEFLATE_LEVEL: Final = 4
"""What h5py's `compression="gzip"` means."""
SHARES: Final = (0.05, 0.10)
"""Least and largest share of a profile's genes that are not zero."""
LINKS: Final = 6

_HAEMATOXYLIN: Final = (0.65, 0.70, 0.29)
_EOSIN: Final = (0.07, 0.99, 0.11)
_SPACING: Final = 10
_LABELS: Final = {
    "source": ("Human", "Mouse"),
    "tissue": ("Breast", "Lung", "Lymph node", "Colon", "Skin"),
    "cell_type": ("T-cell", "B-cell", "Fibroblast", "Macrophage", "Endothelial", "Malignant epithelial"),
    "cell_disease_state": ("Healthy", "Malignant"),
    "tissue_disease_state": ("Healthy", "Invasive carcinoma"),
    "st_technology": ("Visium HD", "Xenium"),
}


class Item(NamedTuple):
    """An array as it is stored: `deflated` is its one chunk, `None` for contiguous storage."""

    array: NDArray[Any]
    deflated: bytes | None


class Pool(NamedTuple):
    """What cells take turns at."""

    profiles: list[Item]
    cell_patches: list[Item]
    tissue_patches: list[Item]
    wsi: Item


@dataclass(frozen=True, slots=True)
class Links:
    """One cell's CCC, (1, N), in the fields of a scipy CSR matrix, without the cost of making one."""

    shape: tuple[int, int]
    data: NDArray[np.float32]
    indices: NDArray[np.int32]
    indptr: NDArray[np.int32]
    format: str = field(default="csr", init=False)

    @property
    def nnz(self) -> int:
        return len(self.data)


class Texts(NamedTuple):
    """What one cell says in words."""

    attributes: str
    caption: str


def make_pool(n: int, n_genes: int, cell_side: int, tissue_side: int, *, deflate: bool, seed: int = 0) -> Pool:
    """Return `n` profiles and patches; the cell patch is the middle of the tissue patch, as in Cell-NET."""
    rng = np.random.default_rng(seed)
    rates = np.exp(rng.normal(0, 1.8, n_genes))
    margin = (tissue_side - cell_side) // 2
    middle = slice(margin, margin + cell_side)
    tissues = [_patch(rng, tissue_side) for _ in range(n)]
    return Pool(
        [_item(_profile(rng, rates), deflate=deflate) for _ in range(n)],
        [_item(np.ascontiguousarray(tissue[middle, middle]), deflate=deflate) for tissue in tissues],
        [_item(tissue, deflate=deflate) for tissue in tissues],
        _item(_patch(rng, 3 * tissue_side), deflate=deflate),
    )


def _item(array: NDArray[Any], *, deflate: bool) -> Item:
    return Item(array, zlib.compress(array, DEFLATE_LEVEL) if deflate else None)


def _profile(rng: np.random.Generator, rates: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return `log1p(counts / total * 1e4)` of counts drawn so deep that 5 to 10 % of the genes are met."""
    counts = rng.poisson(rates * _depth(rates, rng.uniform(*SHARES)))
    if not counts.any():
        counts[0] = 1
    return np.log1p(counts / counts.sum() * 1e4).astype(np.float32)


def _depth(rates: NDArray[np.float64], share: float) -> float:
    """Return the factor at which Poisson counts of `rates` are positive in `share` of the genes."""
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if -np.expm1(-rates * np.exp(middle)).mean() < share else (low, middle)
    return float(np.exp(low))


def _patch(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Return an image that looks, to a compressor, like haematoxylin and eosin: smooth stains and a camera's noise."""
    nuclei = _smooth(rng, side, 3.0)
    density = 1.4 * np.clip(nuclei, 0, None)[..., None] * _HAEMATOXYLIN
    density = density + (0.35 + 0.12 * _smooth(rng, side, 8.0))[..., None] * _EOSIN
    light = 245 * np.exp(-np.clip(density, 0, None)) + rng.normal(0, 2, (side, side, 3))
    return np.clip(light, 0, 255).astype(np.uint8)


def _smooth(rng: np.random.Generator, side: int, sigma: float) -> NDArray[np.float64]:
    noise = ndimage.gaussian_filter(rng.normal(size=(side, side)), sigma, mode="wrap")
    return np.asarray(noise / max(noise.std(), 1e-9))


def cell_names(n_cells: int) -> list[str]:
    """Return the names of the cells' groups; sorted by name is sorted by number."""
    return [f"Cell_{number:08d}" for number in range(1, n_cells + 1)]


def texts(n_cells: int, seed: int = 1) -> Iterator[Texts]:
    """Yield the attributes and captions of the cells; no two have the same position or caption."""
    rng = np.random.default_rng(seed)
    words = _vocabulary(rng)
    for x, y in positions(n_cells).tolist():
        picks = rng.integers(0, 1 << 30, len(_LABELS) + 1).tolist()
        labels = {key: names[pick % len(names)] for (key, names), pick in zip(_LABELS.items(), picks, strict=False)}
        document = labels | {
            "Position_in_tissue": f"({x - 5}, {y - 5})",
            "Position_in_WSI": f"({x}, {y})",
            "cell_diameter": f"{6 + picks[-1] % 90 / 10} µm",
        }
        yield Texts(json.dumps(document), " ".join(words[rng.integers(0, len(words), 28)].tolist()))


def _vocabulary(rng: np.random.Generator, size: int = 20_000) -> NDArray[np.object_]:
    letters = rng.integers(ord("a"), ord("z") + 1, (size, 10), dtype=np.uint8)
    lengths = rng.integers(3, 11, size).tolist()
    return np.array([row.tobytes()[:n].decode() for row, n in zip(letters, lengths, strict=True)], dtype=object)


def positions(n_cells: int) -> NDArray[np.int64]:
    """Return where the cells lie, (n, 2) in slide pixels: row by row, there and back, so that neighbours are near."""
    width = max(1, int(np.sqrt(n_cells)))
    rows, columns = np.divmod(np.arange(n_cells), width)
    columns = np.where(rows % 2, width - 1 - columns, columns)
    return _SPACING * np.column_stack([columns + 10, rows + 10])


def links(n_cells: int, seed: int = 2) -> Iterator[Links]:
    """Yield the CCC of the cells: a signal to each of the cells before and after it."""
    rng = np.random.default_rng(seed)
    near = np.array([step for step in range(-LINKS // 2, LINKS // 2 + 1) if step])
    for cell in range(n_cells):
        receivers = (cell + near)[(cell + near >= 0) & (cell + near < n_cells)].astype(np.int32)
        strengths = rng.random(len(receivers), dtype=np.float32) + np.float32(0.01)
        yield Links((1, n_cells), strengths, receivers, np.array([0, len(receivers)], np.int32))
