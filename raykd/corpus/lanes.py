"""Instructions that numba has no word for: many bytes compared at once, bits, prefetching."""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import extending, types

# Bytes compared at once.
LANES = 64

# To mypy, a call would need the typing context too.
intrinsic: Callable[[Callable[..., Any]], Callable[..., Any]] = extending.intrinsic
# To mypy, no callable.
_Tuple: Any = types.Tuple

_VECTOR = ir.VectorType(ir.IntType(8), LANES)


@intrinsic
def load_8(typing_context: Any, data: Any, at: Any) -> Any:
    """The 8 bytes of `data` from `at` on, as one integer."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _load(context, builder, signature, args, ir.IntType(64))

    return types.uint64(data, at), generate


@intrinsic
def trailing_zeros(typing_context: Any, bits: Any) -> Any:
    """Number of zero bits below the lowest one bit of a uint64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@intrinsic
def number_of_ones(typing_context: Any, bits: Any) -> Any:
    """Number of one bits of a uint64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


@intrinsic
def prefetch(typing_context: Any, data: Any, at: Any) -> Any:
    """Have the cache line of element `at` of `data` fetched, for it is read soon."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        pointer = builder.bitcast(builder.gep(array.data, [args[1]]), byte)
        # For reading, into every cache, data.
        builder.call(function, [pointer, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(data, at), generate


@intrinsic
def term_masks(typing_context: Any, data: Any, at: Any) -> Any:
    """One bit for each of 64 bytes: (letter, digit, mid-letter, mid-number, not ASCII or "_")."""

    def masks(builder: Any, block: Any) -> list[Any]:
        lower = builder.or_(block, _all_lanes(0x20))
        return [
            _is_between(builder, lower, "a", "z"),
            _is_between(builder, block, "0", "9"),
            _is_one_of(builder, block, ".:'"),
            _is_one_of(builder, block, ".,;'"),
            _any(builder, [_is_one_of(builder, block, "_"), _is_between(builder, block, 0x80)]),
        ]

    return _signature(5, data, at), _generator(masks)


@intrinsic
def text_masks(typing_context: Any, data: Any, at: Any) -> Any:
    r"""One bit for each of 64 bytes: (ASCII white space, may begin other white space, inside, \n).

    "May begin": the first byte of those characters among which the white space outside ASCII is.
    "Inside": any byte of a character but its first.
    """

    def masks(builder: Any, block: Any) -> list[Any]:
        spaces = [
            _is_between(builder, block, " ", " "),
            _is_between(builder, block, "\t", "\r"),
            _is_between(builder, block, 0x1C, 0x1F),
        ]
        leads = [
            _is_between(builder, block, 0xC2, 0xC2),
            _is_between(builder, block, 0xE1, 0xE3),
        ]
        return [
            _any(builder, spaces),
            _any(builder, leads),
            _is_between(builder, block, 0x80, 0xBF),
            _is_between(builder, block, "\n", "\n"),
        ]

    return _signature(4, data, at), _generator(masks)


def _signature(num_masks: int, data: Any, at: Any) -> Any:
    return _Tuple([types.uint64] * num_masks)(data, at)


def _generator(masks: Callable[[Any, Any], list[Any]]) -> Callable[[Any, Any, Any, Any], Any]:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        block = _load(context, builder, signature, args, _VECTOR)
        bits = [builder.bitcast(mask, ir.IntType(LANES)) for mask in masks(builder, block)]
        return context.make_tuple(builder, signature.return_type, bits)

    return generate


def _all_lanes(character: str | int) -> Any:
    code = ord(character) if isinstance(character, str) else character
    return ir.Constant(_VECTOR, [code] * LANES)


def _is_one_of(builder: Any, block: Any, characters: str) -> Any:
    return _any(builder, [_is_between(builder, block, sign, sign) for sign in characters])


def _is_between(builder: Any, block: Any, first: str | int, last: str | int = 0xFF) -> Any:
    least, most = (ord(c) if isinstance(c, str) else c for c in (first, last))
    offset = builder.sub(block, _all_lanes(least))
    return builder.icmp_unsigned("<=", offset, _all_lanes(most - least))


def _any(builder: Any, masks: Sequence[Any]) -> Any:
    found = masks[0]
    for mask in masks[1:]:
        found = builder.or_(found, mask)
    return found


def _load(context: Any, builder: Any, signature: Any, args: Any, kind: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, args[0])
    pointer = builder.bitcast(builder.gep(array.data, [args[1]]), kind.as_pointer())
    value = builder.load(pointer)
    value.align = 1
    return value
