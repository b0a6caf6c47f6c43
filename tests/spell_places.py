"""Draw where the cells of a file are: names, containers, slides, and how the order of the rows is told."""

import re
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

_RESERVED = {"genes", "gene_names", "gene_list", "var_names", "features", "expression", "images", "CCC", ".", ".."}
_free_names = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/"), min_size=1, max_size=8)


def natural_key(name: str) -> list[str | int]:
    """Return the key that puts `Cell_9` before `Cell_10`."""
    return [int(part) if part.isascii() and part.isdigit() else part for part in re.split(r"([0-9]+)", name)]


@st.composite
def _names(draw: st.DrawFn, n: int, *, ordered: bool) -> list[str]:
    """Draw `n` different names; `ordered` names are in natural order, and that order is beyond doubt."""
    if not ordered and draw(st.booleans()):
        free = _free_names.filter(lambda name: name not in _RESERVED and name.strip("."))
        return draw(st.lists(free, min_size=n, max_size=n, unique=True))
    prefix = draw(st.sampled_from(["Cell_", "", "cell-", "細胞", "aahf q", "Zelle µ"]))
    suffix = draw(st.sampled_from(["", "-1", "_x"]))
    width = draw(st.sampled_from([0, 0, 4]))
    numbers = draw(
        st.lists(
            st.sampled_from([*range(1, 30), 99, 100, 998, 999, 1000, 1001, 9999, 10000]),
            min_size=n,
            max_size=n,
            unique=True,
        )
    )
    numbers = sorted(numbers) if ordered else numbers
    return [f"{prefix}{number:0{width}d}{suffix}" for number in numbers]


@dataclass
class Places:
    """Where the cells are: per row the container, the name and the slide; and how the order is told."""

    containers: list[str]
    names: list[str]
    slides: list[int]
    slide_names: list[str] | None
    slide_values: list[Any] | None
    tracked: str
    order_key: str | None
    creation: list[int]
    wsi: str


def _in_order(paths: list[str], tracked: str) -> list[str]:
    """Return containers in the order in which they are met, one parent after the other."""
    if tracked != "all":
        return sorted(paths, key=lambda path: [natural_key(part) for part in path.split("/")])
    parents = list(dict.fromkeys(path.split("/")[0] for path in paths))
    return sorted(paths, key=lambda path: parents.index(path.split("/")[0]))


@st.composite
def _containers(draw: st.DrawFn, n: int, *, at_least: int, at_most: int) -> list[str]:
    """Draw different container paths, all at one depth."""
    count = draw(st.integers(min(at_least, n), min(max(at_most, at_least), n)))
    if count == 0:
        return []
    numbers = draw(st.lists(st.sampled_from([1, 2, 3, 9, 10, 11]), min_size=count, max_size=count, unique=True))
    prefix = draw(st.sampled_from(["slide_", "NCBI", "S"]))
    paths = [f"{prefix}{number}" for number in numbers]
    if draw(st.integers(0, 3)) == 0:
        return [f"{draw(st.sampled_from(['run1', 'run2']))}/{path}" for path in paths]
    return paths


@st.composite
def places(draw: st.DrawFn, n: int, *, vary: bool) -> Places:
    """Draw names, containers, slides and order of `n` cells."""
    signal = draw(st.sampled_from(["one", "attribute", "container", "wsi"])) if vary and n > 1 else "one"
    bounds = {"one": (0, 1), "attribute": (0, 3), "container": (2, 3), "wsi": (0, 1)}[signal]
    tracked = draw(st.sampled_from(["all", "containers", "no"])) if vary else "all"
    paths = draw(_containers(n, at_least=bounds[0], at_most=bounds[1])) if vary else []
    paths = _in_order(paths, tracked) or [""]
    least = 2 if n >= 6 else 1
    sizes = [least] * len(paths)
    for _ in range(n - least * len(paths)):
        sizes[draw(st.integers(0, len(paths) - 1))] += 1
    containers = [path for path, size in zip(paths, sizes, strict=True) for _ in range(size)]
    tells_order = tracked == "all" or (tracked == "containers" and paths != [""])
    order_key = None
    if vary and not tells_order and draw(st.booleans()):
        order_key = draw(st.sampled_from(["cell_order", "cell_names", "cell_ids", "obs_names", "barcodes"]))
    ordered = not tells_order and order_key is None
    names = _draw_names(draw, sizes, ordered=ordered, may_clash=signal == "container")
    creation = _draw_creation(draw, containers, tracked, tells_order=tells_order)
    slides, slide_names, values = _draw_slides(draw, signal, containers, n)
    wsi = {"wsi": "per slide", "one": "one"}.get(signal) or draw(st.sampled_from(["per slide", "one"]))
    return Places(containers, names, slides, slide_names, values, tracked, order_key, creation, wsi)


def _draw_names(draw: st.DrawFn, sizes: list[int], *, ordered: bool, may_clash: bool) -> list[str]:
    if may_clash and draw(st.booleans()):
        longest = draw(_names(max(sizes), ordered=ordered))
        return [name for size in sizes for name in longest[:size]]
    if not ordered:
        return draw(_names(sum(sizes), ordered=False))
    return draw(_names(sum(sizes), ordered=True))


def _draw_creation(draw: st.DrawFn, containers: list[str], tracked: str, *, tells_order: bool) -> list[int]:
    """Return the order in which the rows are written."""
    if not tells_order:
        return draw(st.permutations(range(len(containers))))
    return list(range(len(containers))) if tracked == "all" else _shuffle_containers(draw, containers)


def _shuffle_containers(draw: st.DrawFn, containers: list[str]) -> list[int]:
    """Return a creation order that keeps the order within each container."""
    waiting = {c: [row for row, its in enumerate(containers) if its == c] for c in dict.fromkeys(containers)}
    shuffled = draw(st.permutations(containers))
    return [waiting[container].pop(0) for container in shuffled]


_slide_labels = st.lists(
    st.sampled_from(["alpha", "B2", "TMA_7", "x.1", "42", "Z-9"]), min_size=3, max_size=3, unique=True
)


def _draw_numbers(draw: st.DrawFn, n: int) -> list[int]:
    """Return the slide of each of `n` rows, numbered as they are met; two or three slides."""
    least = 2 if n >= 6 else 1
    each = st.integers(0, min(3, n // least) - 1)
    raw = [0, 1] * least + draw(st.lists(each, min_size=n - 2 * least, max_size=n - 2 * least))
    raw = [slide if raw.count(slide) >= least else 0 for slide in raw]
    raw = draw(st.permutations(raw))
    return [list(dict.fromkeys(raw)).index(slide) for slide in raw]


def _draw_slides(
    draw: st.DrawFn, signal: str, containers: list[str], n: int
) -> tuple[list[int], list[str] | None, list[Any] | None]:
    """Return the slide of each row, the names of the slides, and the slide attribute of each row."""
    labels = draw(_slide_labels)
    single = draw(st.booleans())
    depth = containers[0].count("/")
    if signal == "attribute":
        numbers = _draw_numbers(draw, n)
        return numbers, labels[: len(set(numbers))], [labels[number] for number in numbers]
    if signal == "container":
        paths = list(dict.fromkeys(containers))
        return [paths.index(path) for path in containers], None if depth else paths, [labels[0]] * n if single else None
    if signal == "wsi":
        numbers = _draw_numbers(draw, n)
        return numbers, [f"{{stem}}_{i + 1}" for i in range(len(set(numbers)))], [labels[0]] * n if single else None
    if single:
        return [0] * n, [labels[0]], [labels[0]] * n
    return [0] * n, None if depth else [containers[0] or "{stem}"], None
