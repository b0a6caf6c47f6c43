"""How this package's functions are compiled, where they are kept, and the types they take.

Left to itself, numba optimises every function together with all that it calls, and makes machine code of it, before it
goes on to the next caller: 120 functions took four times as long that way. Here a function that only compiled code
calls is a `part`: it is left as it is until it becomes machine code within the functions that Python calls.
"""
# mypy: disable-error-code="no-untyped-call"

import fcntl
import hashlib
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Final

import numba
import numpy as np
from llvmlite.binding import Linkage
from numba.core import typed_passes, types, untyped_passes
from numba.core.codegen import JITCodeLibrary, get_host_cpu_features
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import PassManager
from numba.core.registry import CPUDispatcher
from numpy.typing import NDArray

from cellnet_sd import layout
from cellnet_sd.settings import Settings

if TYPE_CHECKING:

    def int64(value: int) -> int:
        """Return a number as one of 64 bits with a sign."""

    def uint32(value: int) -> int:
        """Return a number as one of 32 bits without a sign."""

    def uint64(value: int) -> int:
        """Return a number as one of 64 bits without a sign."""
else:
    from numba import int64, uint32, uint64

__all__ = [
    "Bytes",
    "Ints",
    "compiled",
    "first_compilation",
    "forget_compiled",
    "int64",
    "is_compiled",
    "mark_compiled",
    "part",
    "uint32",
    "uint64",
]

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

_CONFIG: Final[Any] = numba.config
_OPTIONS: Final[dict[str, Any]] = {"nopython": True, "nogil": True, "error_model": "numpy", "_nrt": False}
"""Compiled functions allocate nothing and raise nothing. Without reference counts (`_nrt`), passing arrays on costs no
atomic operations, which took three quarters of the time."""
_ENTRY: Final = _OPTIONS | {"no_cfunc_wrapper": True}
_PART: Final = _ENTRY | {"no_cpython_wrapper": True}
_PASSES: Final = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    untyped_passes.IRProcessing,
    untyped_passes.RewriteSemanticConstants,
    untyped_passes.GenericRewrites,
    untyped_passes.ReconstructSSA,
    typed_passes.NopythonTypeInference,
    typed_passes.PreLowerStripPhis,
    typed_passes.IRLegalization,
    typed_passes.NativeLowering,
    typed_passes.NoPythonBackend,
)
"""The passes that do something in parts: these have no closures, no `with`, no array expressions."""


# --- compilation -----------------------------------------------------------------------------------------------------


class _PartLibrary(JITCodeLibrary):
    """The code of one part, neither linked nor optimised."""

    def finalize(self) -> None:
        self._finalized = True

    @property
    def parts(self) -> list[JITCodeLibrary]:
        """The libraries of what it calls."""
        return self._linking_libraries


class _EntryLibrary(JITCodeLibrary):
    """The code of a function called from Python, with all parts below it."""

    def add_linking_library(self, library: JITCodeLibrary) -> None:
        if library in self._linking_libraries:
            return
        super().add_linking_library(library)
        if isinstance(library, _PartLibrary):
            for one in library.parts:
                self.add_linking_library(one)

    def _optimize_final_module(self) -> None:
        """Make parts private to the function: LLVM then inlines those called once, and drops what no caller varies.

        As numba links them, others might call them, so each array is passed as seven numbers or more on the stack.
        """
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == Linkage.linkonce_odr:
                function.linkage = "internal"
        super()._optimize_final_module()


class _PartCompiler(Compiler):
    def __init__(self, typing: Any, target: Any, _: None, args: Any, returned: Any, flags: Any, names: Any) -> None:
        flags.no_compile = True
        super().__init__(typing, target, _PartLibrary(target.codegen(), "part"), args, returned, flags, names)

    def define_pipelines(self) -> list[PassManager]:
        passes = PassManager("part")
        for one in _PASSES:
            passes.add_pass(one, one.__name__)
        passes.finalize()
        return [passes]


class _EntryCompiler(Compiler):
    def __init__(self, typing: Any, target: Any, _: None, args: Any, returned: Any, flags: Any, names: Any) -> None:
        library = _EntryLibrary(target.codegen(), "entry")
        library.enable_object_caching()
        super().__init__(typing, target, library, args, returned, flags, names)


class _Entry(CPUDispatcher):
    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Compile once for all numbers, not once for each number that is written as such in a call."""
        return super().get_call_template(tuple(map(types.unliteral, args)), kws)


class _Part(_Entry):
    def add_overload(self, result: Any) -> None:
        """Make the part known to compiled code; there is nothing that Python could call."""
        known = result._replace(entry_point=object())
        self.targetctx.insert_user_function(known.entry_point, known.fndesc, [known.library])
        self.overloads[tuple(known.signature.args)] = known


def part[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function for the use of other compiled functions; Python cannot call it."""
    made: Callable[P, R] = _Part(function, targetoptions=_PART, pipeline_class=_PartCompiler)
    return made


def compiled[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function when it is first called; it releases the GIL and is kept on disk for the next process."""
    made = _Entry(function, targetoptions=_ENTRY, pipeline_class=_EntryCompiler)
    if _FOLDER is not None:
        before = _CONFIG.CACHE_DIR
        _CONFIG.CACHE_DIR = str(_FOLDER)
        try:
            made.enable_caching()
        finally:
            _CONFIG.CACHE_DIR = before
    typed: Callable[P, R] = made
    return typed


# --- what is kept ----------------------------------------------------------------------------------------------------


def _digest() -> str:
    """Return what the machine code depends on: numba itself looks only at the file of each function, not at callees."""
    sources = [*sorted(Path(__file__).parent.glob("*.py")), Path(layout.__file__)]
    versions = (numba.__version__, platform.python_version(), get_host_cpu_features())
    found = hashlib.sha256(repr(versions).encode())
    for source in sources:
        found.update(source.name.encode() + source.read_bytes())
    return found.hexdigest()[:20]


def _folder() -> Path | None:
    """Return where the machine code is kept, `None` if that cannot be written.

    The settings are as the environment has them: a folder that is set for a while must not hold what outlives it.
    """
    try:
        base = Path(_CONFIG.CACHE_DIR) if _CONFIG.CACHE_DIR else Settings().cache_dir / "compiled"
        folder = base / _digest()
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError, ValueError):
        return None
    return folder


_FOLDER: Final = _folder()
_MARKER: Final = _FOLDER / "complete" if _FOLDER else None


def is_compiled() -> bool:
    """Whether the machine code is kept from an earlier use; if not, the first use compiles for a while."""
    return _MARKER is not None and _MARKER.exists()


def mark_compiled() -> None:
    """Tell later processes that all the machine code is kept."""
    if _MARKER is not None:
        with suppress(OSError):
            _MARKER.touch()


@contextmanager
def first_compilation() -> Iterator[None]:
    """Let one process or thread compile while others wait to take over what it keeps."""
    if _FOLDER is None:
        yield
        return
    with (_FOLDER / "lock").open("w") as lock:
        with suppress(OSError):  # not every file system has locks; then each process compiles
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def forget_compiled() -> None:
    """Remove what is kept, once it turns out to be damaged."""
    if _FOLDER is not None:
        for file in _FOLDER.rglob("*"):
            if file.is_file() and file.name != "lock":
                with suppress(OSError):
                    file.unlink()
