"""What can go wrong, as a reader of Cell-NET meets it.

Every error names the file, the cell and the key where there is one, and the way out.
"""


class CellNetError(Exception):
    """Base of every error this package raises on its own account."""


class LayoutError(CellNetError):
    """The file is not Cell-NET, or a component is stored in a form that cannot be told for sure."""


class TooManyKeysError(LayoutError):
    """Attributes have so many keys that a table of them would be mostly empty, or would never be done."""


class CorruptFileError(CellNetError):
    """The bytes cannot be trusted: truncated, damaged, absurdly sized, or pointing outside the file."""


class FileBusyError(CellNetError):
    """Another process is writing the file, or did not close it."""


class MalformedCellError(CellNetError):
    """One component of one cell cannot be read as what it should be."""


class SelectionError(CellNetError):
    """`where=`, `cells=`, `slides=` or `genes=` ask for something the file does not hold."""


class SourceMovedError(CellNetError):
    """The file that an object was read from is gone, or is not the file it was."""


class RemoteError(CellNetError):
    """A remote file cannot be reached or is not served in parts, or what is asked for takes a local file."""


class AccessDeniedError(RemoteError):
    """The server of a remote file refuses it."""


class NoIndexError(RemoteError):
    """A remote file has no index, without which it is not read."""


class NotEnoughMemoryError(CellNetError):
    """What was asked for does not fit in memory."""


class OutputExistsError(CellNetError):
    """The output exists, and overwriting it was not asked for, or would destroy what is no output."""


class ConversionError(CellNetError):
    """A conversion cannot go on; what it has finished is kept."""


class ClusterError(CellNetError):
    """The workers of a cluster cannot go on; what they have finished is kept."""


class MissingDependencyError(CellNetError):
    """An optional package is needed to decode what is stored."""


class CellNetWarning(UserWarning):
    """Something was taken, left out or coerced that the user should know of."""
