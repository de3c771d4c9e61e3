"""SIMD, bit and prefetch instructions for numba kernels."""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import extending, types

# Bytes compared at once.
LANES = 64

# Upper bounds compared at once.
BOUNDS = 256

# mypy would expect the typing context as an argument of each call.
intrinsic: Callable[[Callable[..., Any]], Callable[..., Any]] = extending.intrinsic
# mypy does not know that it is callable.
_Tuple: Any = types.Tuple

_VECTOR = ir.VectorType(ir.IntType(8), LANES)
_BOUNDS = ir.VectorType(ir.IntType(16), 32)


@intrinsic
def load_8(typing_context: Any, data: Any, index: Any) -> Any:
    """Load 8 bytes of `data` from `index` as one integer."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _load(context, builder, signature, args, ir.IntType(64))

    return types.uint64(data, index), generate


@intrinsic
def trailing_zeros(typing_context: Any, bits: Any) -> Any:
    """Count the zero bits below the lowest one bit of a uint64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@intrinsic
def number_of_ones(typing_context: Any, bits: Any) -> Any:
    """Count the one bits of a uint64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


@intrinsic
def prefetch(typing_context: Any, data: Any, index: Any) -> Any:
    """Prefetch the cache line of element `index` of `data` for reading."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        pointer = builder.bitcast(builder.gep(array.data, [args[1]]), byte)
        # Flags: read, all cache levels, data cache.
        builder.call(function, [pointer, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(data, index), generate


@intrinsic
def any_at_least(typing_context: Any, data: Any, index: Any, least: Any) -> Any:
    """Test whether any of `BOUNDS` uint16 of `data` from `index` is at least `least`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts = [
            _load(context, builder, signature, [args[0], place], _BOUNDS)
            for place in _places(builder, args[1])
        ]
        while len(parts) > 1:
            parts = [
                builder.select(builder.icmp_unsigned(">", one, other), one, other)
                for one, other in zip(parts[::2], parts[1::2], strict=True)
            ]
        reached = _bits_at_least(builder, parts[0], args[2])
        return builder.icmp_unsigned("!=", reached, ir.Constant(reached.type, 0))

    return types.boolean(data, index, types.uint16), generate


@intrinsic
def bits_at_least(typing_context: Any, data: Any, index: Any, least: Any) -> Any:
    """Compare 32 uint16 of `data` from `index` with `least`; one bit per element."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        part = _load(context, builder, signature, args, _BOUNDS)
        return builder.zext(_bits_at_least(builder, part, args[2]), ir.IntType(64))

    return types.uint64(data, index, types.uint16), generate


@intrinsic
def clear(typing_context: Any, data: Any, index: Any) -> Any:
    """Set `BOUNDS` uint16 of `data` from `index` to 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        for place in _places(builder, args[1]):
            pointer = builder.gep(array.data, [place])
            pointer = builder.bitcast(pointer, _BOUNDS.as_pointer())
            builder.store(ir.Constant(_BOUNDS, None), pointer).align = 2
        return context.get_dummy_value()

    return types.void(data, index), generate


def _places(builder: Any, index: Any) -> list[Any]:
    return [
        builder.add(index, ir.Constant(index.type, first))
        for first in range(0, BOUNDS, _BOUNDS.count)
    ]


def _bits_at_least(builder: Any, part: Any, least: Any) -> Any:
    one = builder.insert_element(
        ir.Constant(_BOUNDS, ir.Undefined), least, ir.Constant(ir.IntType(32), 0)
    )
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), _BOUNDS.count), None)
    all_least = builder.shuffle_vector(one, ir.Constant(_BOUNDS, ir.Undefined), zeros)
    reached = builder.icmp_unsigned(">=", part, all_least)
    return builder.bitcast(reached, ir.IntType(_BOUNDS.count))


@intrinsic
def term_masks(typing_context: Any, data: Any, index: Any) -> Any:
    """Classify 64 bytes by bits: (letter, digit, mid-letter, mid-number, non-ASCII or "_")."""

    def masks(builder: Any, block: Any) -> list[Any]:
        lower = builder.or_(block, _all_lanes(0x20))
        return [
            _is_between(builder, lower, "a", "z"),
            _is_between(builder, block, "0", "9"),
            _is_one_of(builder, block, ".:'"),
            _is_one_of(builder, block, ".,;'"),
            _any(builder, [_is_one_of(builder, block, "_"), _is_between(builder, block, 0x80)]),
        ]

    return _signature(5, data, index), _generator(masks)


@intrinsic
def text_masks(typing_context: Any, data: Any, index: Any) -> Any:
    r"""Classify 64 bytes, one bit each: (ASCII space, lead byte, continuation byte, \n).

    The lead bytes are those of characters that may be white space outside ASCII.
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

    return _signature(4, data, index), _generator(masks)


def _signature(num_masks: int, data: Any, index: Any) -> Any:
    return _Tuple([types.uint64] * num_masks)(data, index)


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
    combined = masks[0]
    for mask in masks[1:]:
        combined = builder.or_(combined, mask)
    return combined


def _load(context: Any, builder: Any, signature: Any, args: Any, kind: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, args[0])
    pointer = builder.bitcast(builder.gep(array.data, [args[1]]), kind.as_pointer())
    value = builder.load(pointer)
    value.align = 1
    return value
