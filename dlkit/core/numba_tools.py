"""Tools for numba loops: a notice while they compile, vectors, and unchecked array access."""

import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numba
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from dlkit.core.environment import cache
from dlkit.core.progress import log

PACKAGE = Path(__file__).parent.parent


def source_digest() -> str:
    """A digest of all sources with compiled functions."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(PACKAGE.glob("*/*.py")):
        content = path.read_bytes()
        if b"njit" in content:
            digest.update(content)
    return digest.hexdigest()[:16]


def choose_cache() -> None:
    """Keep compiled code in a folder of its own for each state of the sources.

    numba compiles a function again when its own file changes, but not when a function or a constant
    of another file changes that it uses; it would then compute what an older version did.
    """
    if os.environ.get("NUMBA_CACHE_DIR"):
        return
    with suppress(OSError, RuntimeError):  # no home, or a full disk: numba's own places
        folder = cache() / "numba" / source_digest()
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            vars(numba.config)["CACHE_DIR"] = str(folder)


choose_cache()  # before any function is decorated
njit = numba.njit


@contextmanager
def compile_notice(what: str, seconds: int) -> Iterator[None]:
    """Print a notice on a terminal if the code is compiled, which happens once and takes long."""
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
    """array[index] without bounds check or negative indices."""

    def generate(context, builder, signature, args):
        return builder.load(pointer(context, builder, signature.args[0], *args))

    return array.dtype(array, index), generate


@intrinsic
def prefetch(typing_context, array, index):
    """Prefetch the memory at array[index] into the caches."""

    def generate(context, builder, signature, args):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = pointer(context, builder, signature.args[0], *args)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        # To read and to write, to stay in all caches, and data, not code.
        builder.call(function, [builder.bitcast(address, byte), number(1), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, index), generate


LANES = 16  # numbers in a vector: one AVX-512 register, or as many smaller ones as it takes
FAST = ("contract", "reassoc", "nsz")


class Vector(types.Type):
    """LANES float32 numbers in registers, which LLVM maps to the processor's vectors."""

    def __init__(self) -> None:
        super().__init__("Vector")


vector_type = Vector()
register = ir.VectorType(ir.FloatType(), LANES)


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager, frontend_type):
        super().__init__(manager, frontend_type, register)


@intrinsic
def zeros(typing_context):
    """A vector of zeros."""

    def generate(context, builder, signature, args):
        return ir.Constant(register, [0.0] * LANES)

    return vector_type(), generate


@intrinsic
def load(typing_context, array, index):
    """Load LANES float32 numbers from array[index] on."""

    def generate(context, builder, signature, args):
        address = pointer(context, builder, signature.args[0], *args)
        return builder.load(builder.bitcast(address, register.as_pointer()), align=4)

    return vector_type(array, index), generate


@intrinsic
def store(typing_context, array, index, vector):
    """Store a vector at array[index]."""

    def generate(context, builder, signature, args):
        address = pointer(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], builder.bitcast(address, register.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, index, vector), generate


@intrinsic
def fma(typing_context, vector, number, plus):
    """vector * number + plus, of a vector or float32 `number`."""

    def generate(context, builder, signature, args):
        factor = args[1]
        if signature.args[1] != vector_type:
            alone = ir.Constant(register, ir.Undefined)
            alone = builder.insert_element(alone, factor, ir.IntType(32)(0))
            first = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            factor = builder.shuffle_vector(alone, alone, first)
        return builder.fadd(builder.fmul(args[0], factor, FAST), args[2], FAST)

    number = vector_type if number == vector_type else types.float32
    return vector_type(vector_type, number, vector_type), generate


@intrinsic
def sum_lanes(typing_context, vector):
    """The sum of a vector's numbers, as float32."""

    def generate(context, builder, signature, args):
        part, width = args[0], LANES
        while width > 1:
            width //= 2
            halves = [
                ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(a, a + width)))
                for a in (0, width)
            ]
            low, high = (builder.shuffle_vector(part, part, half) for half in halves)
            part = builder.fadd(low, high, FAST)
        return builder.extract_element(part, ir.IntType(32)(0))

    return types.float32(vector_type), generate
