"""Compiled word segmentation of UTF-8 text.

Words of ASCII letters and digits, and of signs between them, are found with bit masks, 63 bytes at
a time. Words with other characters, including underscores, are found by the automaton of
`characters`.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.text.characters import DEAD, FIRST_CLOSED, LEADING_JOINS, START, Characters
from raykd.text.simd import number_of_ones, term_masks, trailing_zeros

# Bytes that must be readable after the text.
PADDING = 64
# Word bounds, (start, end) pairs, that `find_words` returns at a time.
MAX_BOUNDS = 512

MAX_TERM_CHARS = 255
MAX_TERM_BYTES = 4 * MAX_TERM_CHARS

# Bounds written at once.
_UNROLL = 8
_STEP = 63  # The 64th bit of a mask is only lookahead.


# Any: numba treats elements of arrays as `int`, mypy does not.
Bounds = NDArray[Any]


@njit(cache=True, nogil=True)
def find_words(
    data: NDArray[np.uint8], start: int, end: int, tables: Characters, bounds: Bounds
) -> tuple[int, int, bool]:
    """Find the next words of one text, at most as many as fit into `bounds`.

    Args:
        data: UTF-8 with `PADDING` bytes after the text.
        start: start of the text, or end of the previous words.
        end: end of the text.
        tables: tables of the characters.
        bounds: (MAX_BOUNDS,) output: start and end of each word.

    Returns:
        The position at which to resume (`end` if complete), the number of bounds, and whether the
        words have only ASCII letters, digits and signs, so that `byte | 0x20` lower-cases them.
    """
    position, num_bounds, is_other = _ascii_words(data, start, end, bounds)
    if num_bounds > 0 or not is_other:
        return position, num_bounds, True
    position, num_bounds = _other_words(data, position, end, tables, bounds)
    return position, num_bounds, False


@njit(cache=True, nogil=True)
def _ascii_words(
    data: NDArray[np.uint8], start: int, end: int, bounds: Bounds
) -> tuple[int, int, bool]:
    """Find ASCII words, up to the first word that may contain another character."""
    one, low_63 = np.uint64(1), np.uint64((1 << _STEP) - 1)
    was_letter = was_digit = was_word = np.uint64(0)
    num_bounds = 0
    position = start
    while position < end:
        letters, digits, mid_letters, mid_nums, others = term_masks(data, position)
        if end - position < 64:
            within = (one << np.uint64(end - position)) - one
            letters, digits, others = letters & within, digits & within, others & within
        others &= low_63
        before_letters = (letters << one) | was_letter
        before_digits = (digits << one) | was_digit
        joined = mid_letters & before_letters & (letters >> one)
        joined |= mid_nums & before_digits & (digits >> one)
        words = (letters | digits | joined) & low_63
        edges = (words ^ ((words << one) | was_word)) & low_63
        if others != 0:
            edges &= (others & (~others + one)) - one
        num_after = num_bounds + int(np.int64(number_of_ones(edges)))
        while num_bounds < num_after:
            # Always eight at a time: a loop of variable length would mispredict branches.
            for number in range(_UNROLL):
                bounds[num_bounds + number] = position + np.int64(trailing_zeros(edges))
                edges &= edges - one
            num_bounds += _UNROLL
        num_bounds = num_after
        if others != 0:
            other: Any = position + np.int64(trailing_zeros(others))
            return *_step_back(data, other, start, bounds, num_bounds), True
        was_letter = (letters >> np.uint64(_STEP - 1)) & one
        was_digit = (digits >> np.uint64(_STEP - 1)) & one
        was_word = words >> np.uint64(_STEP - 1)
        position += _STEP
        if num_bounds > MAX_BOUNDS - _STEP - _UNROLL:
            if num_bounds % 2 == 1:
                return bounds[num_bounds - 1], num_bounds - 1, False
            return position, num_bounds, False
    if num_bounds % 2 == 1:
        bounds[num_bounds] = end
        num_bounds += 1
    return end, num_bounds, False


@njit(cache=True, nogil=True)
def _step_back(
    data: NDArray[np.uint8], other: int, start: int, bounds: Bounds, num_bounds: int
) -> tuple[int, int]:
    """Find the start of the word that may contain `other`; pop that word from `bounds`."""
    if num_bounds % 2 == 1:
        restart: int = bounds[num_bounds - 1]
        return restart, num_bounds - 1
    if other == start:
        return other, num_bounds
    sign = data[other - 1]
    if num_bounds > 0 and bounds[num_bounds - 1] == other - 1 and _may_join(sign):
        return bounds[num_bounds - 2], num_bounds - 2
    if sign == ord("#") or sign == ord("*"):
        return other - 1, num_bounds
    return other, num_bounds


@njit(cache=True, nogil=True)
def _may_join(sign: int) -> bool:
    return (
        sign == ord(".")
        or sign == ord(":")
        or sign == ord("'")
        or sign == ord(",")
        or sign == ord(";")
    )


@njit(cache=True, nogil=True)
def _other_words(
    data: NDArray[np.uint8], start: int, end: int, tables: Characters, bounds: Bounds
) -> tuple[int, int]:
    """Find words of any characters; stop before ASCII words."""
    position, num_bounds, no_joins_before = start, 0, start
    # Not a literal: numba would compile the called functions again for a literal type.
    start_state: Any = np.int64(START)
    while position < end and num_bounds < MAX_BOUNDS:
        code, after = character(data, position, end)
        if position > start and code < 0x80 and _is_letter_or_digit(code):
            break
        state = _next_state(tables, start_state, code)
        if state == DEAD or (state == LEADING_JOINS and position < no_joins_before):
            position = after
            continue
        word_end = after if state >= FIRST_CLOSED else position
        cursor = after
        while cursor < end:
            code, following = character(data, cursor, end)
            next_state = _next_state(tables, state, code)
            if next_state == DEAD:
                break
            state, cursor = next_state, following
            if state >= FIRST_CLOSED:
                word_end = cursor
        if word_end > position:
            bounds[num_bounds], bounds[num_bounds + 1] = position, word_end
            num_bounds += 2
            position = word_end
        else:
            # Avoids quadratic time on runs of underscores.
            no_joins_before = cursor
            position = after
    return position, num_bounds


@njit(cache=True, nogil=True)
def _is_letter_or_digit(code: int) -> bool:
    return ord("a") <= code | 0x20 <= ord("z") or ord("0") <= code <= ord("9")


@njit(cache=True, nogil=True)
def _next_state(tables: Characters, state: int, code: int) -> int:
    column = tables.columns[min(code, len(tables.columns) - 1)]
    return int(np.int64(tables.next_states[state, column]))


@njit(cache=True, nogil=True)
def character(data: NDArray[np.uint8], position: int, end: int) -> tuple[int, int]:
    """Decode the code point at `position`, and find the next one; U+0000 for invalid UTF-8."""
    byte = int(np.int64(data[position]))
    if byte < 0x80:
        return byte, position + 1
    if byte < 0xC0:
        return 0, position + 1
    size = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
    if position + size > end:
        return 0, end
    code = byte & (0x7F >> size)
    for offset in range(1, size):
        code = code << 6 | int(np.int64(data[position + offset])) & 0x3F
    return code, position + size


@njit(cache=True, nogil=True)
def write_lower(
    data: NDArray[np.uint8],
    word: tuple[int, int],
    tables: Characters,
    out: NDArray[np.uint8],
    out_end: int,
) -> tuple[int, int]:
    """Write the first `MAX_TERM_CHARS` characters of a word, lower-cased, to `out`.

    Returns:
        Start of the remaining characters in `data`, and end of the output in `out`.
    """
    position, end = word
    for _ in range(MAX_TERM_CHARS):
        if position >= end:
            break
        code, position = character(data, position, end)
        if code < len(tables.lower):
            code = int(np.int64(tables.lower[code]))
        if code < 0x80:
            out[out_end] = code
            out_end += 1
            continue
        size = 1 if code < 0x800 else 2 if code < 0x10000 else 3
        out[out_end] = (0xF0 << (3 - size) & 0xFF) | code >> 6 * size
        for offset in range(1, size + 1):
            out[out_end + offset] = 0x80 | code >> 6 * (size - offset) & 0x3F
        out_end += size + 1
    return position, out_end
