"""What compiled (numba) loops share: a notice while they compile, and memory without checks."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from dlkit.core.progress import log


@contextmanager
def loading(what: str, seconds: int) -> Iterator[None]:
    """Say on a terminal why it takes long, if it does: only the first time is the code compiled."""
    notice = f"compiling {what}: once, about {seconds} seconds"
    timer = threading.Timer(2, log, [notice])
    timer.daemon = True
    if sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def pointer(context, builder, array_type, array, index):
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


@intrinsic
def item(typing_context, array, index):
    """array[index] of an index that is in bounds and not negative: numba does not look."""

    def generate(context, builder, signature, args):
        return builder.load(pointer(context, builder, signature.args[0], *args))

    return array.dtype(array, index), generate


@intrinsic
def prefetch(typing_context, array, index):
    """Have the memory at array[index] brought near, without waiting for it."""

    def generate(context, builder, signature, args):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = pointer(context, builder, signature.args[0], *args)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        # To read and to write, to stay in all caches, and data, not code.
        builder.call(function, [builder.bitcast(address, byte), number(1), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, index), generate
