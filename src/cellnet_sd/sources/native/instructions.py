"""What numba has no words for: instructions of processors, as LLVM has them, and a call of the system.

None of them checks what it is given: callers have seen that all of it lies in the arrays.
"""
# mypy: disable-error-code="no-untyped-call"

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 8
_BYTE, _WORD, _LONG = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_WORDS = ir.VectorType(_WORD, LANES)


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any, pointee: Any) -> Any:
    """Return the address of item `at` of an array, as one of what lies there."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), pointee.as_pointer())


def _fetch_ahead(_: Any, buf: Any, at: Any) -> Any:
    def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        buf, at = arguments
        place = _place(context, builder, signature.args[0], buf, at, _BYTE)
        kind = ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _WORD, _WORD, _WORD])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(fetch, [place, _WORD(0), _WORD(3), _WORD(1)])  # for reading, into all caches, as data
        return context.get_dummy_value()

    return types.none(buf, at), made


def _not_zero(_: Any, values: Any, at: Any) -> Any:
    def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        dtype = signature.args[0].dtype
        kind = ir.VectorType(context.get_data_type(dtype), LANES)
        values, at = arguments
        place = _place(context, builder, signature.args[0], values, at, kind)
        lanes = builder.load(place, align=dtype.bitwidth // 8)
        compare = builder.fcmp_unordered if isinstance(dtype, types.Float) else builder.icmp_unsigned
        differ = compare("!=", lanes, ir.Constant(kind, None))
        return builder.zext(builder.bitcast(differ, _BYTE), _LONG)

    return types.uint64(values, at), made


def _put(_: Any, out: Any, at: Any, base: Any, table: Any, row: Any) -> Any:
    def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, place, first, rows, number = arguments
        start = builder.mul(number, _LONG(LANES))
        numbers = builder.load(_place(context, builder, signature.args[3], rows, start, _WORDS), align=4)
        undefined = ir.Constant(_WORDS, ir.Undefined)
        one = builder.insert_element(undefined, builder.trunc(first, _WORD), _WORD(0))
        every = builder.shuffle_vector(one, undefined, ir.Constant(_WORDS, [0] * LANES))
        lanes = builder.add(numbers, every)
        builder.store(lanes, _place(context, builder, signature.args[0], target, place, _WORDS), align=4)
        return context.get_dummy_value()

    return types.none(out, at, base, table, row), made


def _pread(_: Any, descriptor: Any, out: Any, at: Any, size: Any, position: Any) -> Any:
    def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        descriptor, out, at, size, position = arguments
        kind = ir.FunctionType(_LONG, [_WORD, _BYTE.as_pointer(), _LONG, _LONG])
        function = cgutils.get_or_insert_function(builder.module, kind, "pread")
        place = _place(context, builder, signature.args[1], out, at, _BYTE)
        return builder.call(function, [builder.trunc(descriptor, _WORD), place, size, position])

    return types.int64(descriptor, out, at, size, position), made


if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    def fetch_ahead(buf: NDArray[np.uint8], at: int) -> None:
        """Ask the processor for the bytes at `at`, and go on without waiting for them."""

    def not_zero(values: NDArray[Any], at: int) -> int:
        """Return which of the `LANES` values from `at` on are not zero, as bits: the first is the lowest."""

    def put(out: NDArray[np.int32], at: int, base: int, table: NDArray[np.int32], row: int) -> None:
        """Write a row of `table` (n, `LANES`), `base` added to each of its numbers, to `out[at:]`."""

    def pread(descriptor: int, out: NDArray[np.uint8], at: int, size: int, position: int) -> int:
        """Read bytes of an open file into `out[at:]`, by pread(2); return how many, or -1."""

else:
    fetch_ahead, not_zero, put, pread = map(intrinsic, (_fetch_ahead, _not_zero, _put, _pread))
