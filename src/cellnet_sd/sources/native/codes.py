"""The numbers that the compiled code speaks in: states, kinds, reasons, storage and columns."""

from enum import IntEnum
from typing import Final


class Kind(IntEnum):
    """What a component of a cell is."""

    ABSENT = 0
    DATASET = 1
    GROUP = 2
    EXTERNAL = 3
    """A link to another file, or a dataset whose bytes lie in other files: not to be followed."""
    FALLBACK = 4
    """Not understood here: to be read through h5py."""
    DAMAGED = 5
    """Its structure contradicts itself, or points outside the file."""


class Storage(IntEnum):
    """Where a dataset's bytes are."""

    NONE = 0
    """Nowhere: every element is the fill value."""
    COMPACT = 1
    CONTIGUOUS = 2
    SINGLE = 3
    """One chunk that covers the whole dataset."""
    CHUNKED = 4


class Reason(IntEnum):
    """Why an object is not read here; from `OUTSIDE` on it is damage."""

    OK = 0
    SOFT_LINK = 1
    USER_LINK = 2
    SHARED_MESSAGE = 3
    HEADER_VERSION = 4
    DATASPACE_VERSION = 5
    LAYOUT_VERSION = 6
    LAYOUT_CLASS = 7
    CHUNK_INDEX = 8
    PARTIAL_CHUNKS = 9
    LINK_VERSION = 10
    HEAP_OBJECT = 11
    FILTERED_HEAP = 12
    ATTRIBUTE_VERSION = 13
    DATATYPE = 15
    COMMITTED_DATATYPE = 16
    MANY_MESSAGES = 17
    UNKNOWN_MESSAGE = 18
    FILTER_VERSION = 19
    FILL_VALUE = 20
    CHUNK_OUTSIDE_EXTENT = 21
    SUPERBLOCK = 22
    GROUP_INDEX_VERSION = 23
    NESTING = 24
    WRITING = 25
    SHARED_BUDGET = 26
    """What a pass may do was spent, by other cells perhaps."""
    EXTERNAL_LINK = 40
    EXTERNAL_STORAGE = 41
    VIRTUAL = 42
    EXTERNAL_IMAGES = 43
    """The link to the group of a cell's images leads to another file."""
    OUTSIDE = 64
    SIGNATURE = 65
    CHECKSUM = 66
    LOOP = 67
    BUDGET = 68
    COUNT = 69
    SIZE = 70
    NAME = 71
    INCOMPLETE = 72
    HEAP_REFERENCE = 73
    TRUNCATED = 74
    GROW = 120
    """Not a finding: an output array is full, and the cell is read again with a larger one."""


FIRST_EXTERNAL: Final = 40
FIRST_DAMAGE: Final = 64

OK: Final = 0
SOFT_LINK: Final = 1
USER_LINK: Final = 2
SHARED_MESSAGE: Final = 3
HEADER_VERSION: Final = 4
DATASPACE_VERSION: Final = 5
LAYOUT_VERSION: Final = 6
LAYOUT_CLASS: Final = 7
CHUNK_INDEX: Final = 8
PARTIAL_CHUNKS: Final = 9
LINK_VERSION: Final = 10
HEAP_OBJECT: Final = 11
FILTERED_HEAP: Final = 12
ATTRIBUTE_VERSION: Final = 13
COMMITTED_DATATYPE: Final = 16
MANY_MESSAGES: Final = 17
UNKNOWN_MESSAGE: Final = 18
CHUNK_OUTSIDE_EXTENT: Final = 21
GROUP_INDEX_VERSION: Final = 23
NESTING: Final = 24
SHARED_BUDGET: Final = 26
EXTERNAL_LINK: Final = 40
EXTERNAL_STORAGE: Final = 41
VIRTUAL: Final = 42
EXTERNAL_IMAGES: Final = 43
OUTSIDE: Final = 64
SIGNATURE: Final = 65
CHECKSUM: Final = 66
LOOP: Final = 67
BUDGET: Final = 68
COUNT: Final = 69
SIZE: Final = 70
NAME: Final = 71
INCOMPLETE: Final = 72
HEAP_REFERENCE: Final = 73
GROW: Final = 120

# kinds and storage, as plain numbers for the compiled code
ABSENT: Final = 0
DATASET: Final = 1
GROUP: Final = 2
EXTERNAL: Final = 3
FALLBACK: Final = 4
DAMAGED: Final = 5
NOT_STORED: Final = 0
COMPACT: Final = 1
CONTIGUOUS: Final = 2
SINGLE: Final = 3
CHUNKED: Final = 4

UNDEFINED: Final = -1
"""An address that is not set (all bits one)."""

# state: `ctx`
C_STATUS: Final = 0
C_BASE: Final = 1
C_OFFSETS: Final = 2
C_LENGTHS: Final = 3
C_STEPS: Final = 4
C_LEAF_K: Final = 5
C_NODE_K: Final = 6
C_CHUNK_K: Final = 7
C_HEAP: Final = 8  # the global heap collection read last, and how far
C_HEAP_INDEX: Final = 9
C_HEAP_AT: Final = 10
C_HEAP_END: Final = 11
C_MEMBERS: Final = 12  # rows in use of the growing outputs
C_ATTRIBUTES: Final = 13
C_CHUNKS: Final = 14
C_ROWS: Final = 15  # rows that may still be written to them
C_MORE_LINKS: Final = 16  # rows that an array to work in lacks room for
C_MORE_RECORDS: Final = 17
C_MORE_BLOCKS: Final = 18
C_ALL_STEPS: Final = 19  # steps that a pass begins with
C_REFILLS: Final = 20  # how often they may be had again
C_ALONE: Final = 21  # whether a cell is read with all of them
CTX_SIZE: Final = 22

# an object header: `head[2 * type]` is the position of the message's data, `head[2 * type + 1]` its size
N_TYPES: Final = 25
H_LINKS: Final = 50
H_ATTRIBUTES: Final = 51
H_SHARED: Final = 52
HEAD_SIZE: Final = 53

M_DATASPACE: Final = 1
M_LINK_INFO: Final = 2
M_DATATYPE: Final = 3
M_OLD_FILL: Final = 4
M_FILL: Final = 5
M_LINK: Final = 6
M_EXTERNAL: Final = 7
M_LAYOUT: Final = 8
M_FILTERS: Final = 11
M_ATTRIBUTE: Final = 12
M_CONTINUATION: Final = 16
M_SYMBOL_TABLE: Final = 17
M_DRIVER: Final = 20
M_ATTRIBUTE_INFO: Final = 21
M_CACHE_IMAGE: Final = 24

# a link
L_NAME: Final = 0
L_NAME_SIZE: Final = 1
L_TYPE: Final = 2
L_TARGET: Final = 3
L_ORDER: Final = 4
LINK_COLUMNS: Final = 5
HARD: Final = 0
SOFT: Final = 1
EXTERNAL_TYPE: Final = 64

# an object: what fits a byte, codes, numbers, and what only members have
F_KIND: Final = 0
F_REASON: Final = 1
F_STORAGE: Final = 2
F_DTYPE: Final = 3
F_SHAPE: Final = 4
F_FILL: Final = 5
F_FILTERS: Final = 6
F_CHUNK_SHAPE: Final = 7
F_ATTRIBUTES: Final = 8
F_HEADER: Final = 9
F_ADDRESS: Final = 10
F_SIZE: Final = 11
F_MASK: Final = 12
F_CHUNK_START: Final = 13
F_CHUNK_COUNT: Final = 14
F_TEXT: Final = 15
F_TEXT_SIZE: Final = 16
F_NAME: Final = 17
F_PARENT: Final = 18
F_ORDER: Final = 19
FIELDS: Final = 20

# a chunk
K_ADDRESS: Final = 0
K_SIZE: Final = 1
K_MASK: Final = 2
K_INDEX: Final = 3
CHUNK_COLUMNS: Final = 4

# an attribute
A_PARENT: Final = 0
A_NAME: Final = 1
A_DTYPE: Final = 2
A_SHAPE: Final = 3
A_ADDRESS: Final = 4
A_SIZE: Final = 5
A_TEXT: Final = 6
A_TEXT_SIZE: Final = 7
ATTRIBUTE_COLUMNS: Final = 8

# tables of distinct messages
T_DTYPE: Final = 0
T_SHAPE: Final = 1
T_FILL: Final = 2
T_FILTERS: Final = 3
T_CHUNK_SHAPE: Final = 4
T_NAME: Final = 5
TABLES: Final = 6

MAX_RANK: Final = 32
MAX_BLOCKS: Final = 1024
MAX_DEPTH: Final = 32
