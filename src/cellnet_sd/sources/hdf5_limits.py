"""How much h5py may list and read of a file in all: many links can name one thing, which it goes through for each.

Nothing is counted before `limit_to` is called, as a process does that reads a file for another.
"""

import math
from pathlib import Path

from h5py import h5a, h5g, h5o
from h5py._objects import ObjectID

from cellnet_sd.errors import CorruptFileError
from cellnet_sd.sources.allowance import listed_in_all, most_in_all

_ATTRIBUTE = 4
"""What an attribute counts: it is mostly read, too, which takes much longer."""


class _Left:
    """How many names may still be listed, and how many bytes of text may still be read that are not their own."""

    def __init__(self) -> None:
        self.path = Path()
        self.names = math.inf
        self.text = math.inf
        self.seen: set[int] = set()


_LEFT = _Left()


def limit_to(path: Path) -> None:
    """Let no more be listed and read of a file, from now on, than a sound one of its size has."""
    size = path.stat().st_size
    _LEFT.path, _LEFT.names, _LEFT.text = path, listed_in_all(size), most_in_all(size)
    _LEFT.seen.clear()


def member_names(group: h5g.GroupID) -> list[bytes]:
    """Return the names in a group.

    Raises
    ------
    CorruptFileError
        If they are too many, with those that were listed before.
    """
    _take_names(group.get_num_objs())
    return list(group)


def attr_names(node: ObjectID) -> list[str]:
    """Return the names of the attributes of an object.

    Raises
    ------
    CorruptFileError
        If they are too many, with those that were listed before.
    """
    _take_names(_ATTRIBUTE * h5a.get_num_attrs(node))
    names: list[bytes] = []
    h5a.iterate(node, names.append)  # opening each by its number would list all for each
    return [name.decode(errors="replace") for name in names]


def take_text(node: ObjectID, size: int, *, is_elsewhere: bool) -> None:
    """Count a text of an object: what is compressed may be more than the file, if it is not shared.

    Parameters
    ----------
    node
        The object.
    size
        Bytes of the text.
    is_elsewhere
        Whether the object but names the text, as others may.

    Raises
    ------
    CorruptFileError
        If it is too much, with what was read before.
    """
    if math.isinf(_LEFT.text):  # nothing is counted, and nothing kept of millions of objects
        return
    address = h5o.get_info(node).addr
    if is_elsewhere or address in _LEFT.seen:
        _LEFT.text -= size
    _LEFT.seen.add(address)
    if _LEFT.text < 0:
        msg = f"{_LEFT.path}: the texts of its cells are more in all than the file holds."
        raise CorruptFileError(msg)


def _take_names(n: int) -> None:
    _LEFT.names -= n
    if _LEFT.names < 0:
        msg = f"{_LEFT.path}: its cells name more members and attributes in all than the file holds."
        raise CorruptFileError(msg)
