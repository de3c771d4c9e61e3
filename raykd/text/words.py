"""Compiled search for the words of UTF-8 text, straight on its bytes.

Words of ASCII letters and digits, and signs between them, are found 63 bytes at a time from bit
masks, which carry no state from word to word. A word with any other character, an underscore
among them, is found by the automaton of `characters`.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.text.characters import DEAD, FIRST_CLOSED, LEADING_JOINS, START, Characters
from raykd.text.simd import number_of_ones, term_masks, trailing_zeros

# Bytes that must be readable after the text.
PADDING = 64
# Bounds of words: (start, end) pairs, as many as `find_words` finds at a time.
MAX_BOUNDS = 512

MAX_TERM_CHARS = 255
MAX_TERM_BYTES = 4 * MAX_TERM_CHARS

# Bounds written at once.
_AT_ONCE = 8
_STEP = 63  # The 64th bit of a mask only tells what follows the 63rd.


# Any: to mypy, elements of arrays are no `int`; to numba they are.
Bounds = NDArray[Any]


@njit(cache=True, nogil=True)
def find_words(
    data: NDArray[np.uint8], start: int, end: int, tables: Characters, bounds: Bounds
) -> tuple[int, int, bool]:
    """Find words of one text from `start` on, as many as `bounds` holds or fewer.

    Args:
        data: UTF-8, `PADDING` bytes longer than the text.
        start: where the text starts, or where the words found so far end.
        end: where the text ends.
        tables: of the characters.
        bounds: (MAX_BOUNDS,) is filled with where words start and end.

    Returns:
        Where to go on (`end` when there is no more), the number of bounds, and whether the words
        are made of ASCII letters, digits and signs only, so that `byte | 0x20` lower-cases them.
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
    """As `find_words`, up to the first word that may hold a character of another kind."""
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
            # Eight at a time, though fewer may be left: how many, a processor cannot guess.
            for number in range(_AT_ONCE):
                bounds[num_bounds + number] = position + np.int64(trailing_zeros(edges))
                edges &= edges - one
            num_bounds += _AT_ONCE
        num_bounds = num_after
        if others != 0:
            other: Any = position + np.int64(trailing_zeros(others))
            return *_step_back(data, other, start, bounds, num_bounds), True
        was_letter = (letters >> np.uint64(_STEP - 1)) & one
        was_digit = (digits >> np.uint64(_STEP - 1)) & one
        was_word = words >> np.uint64(_STEP - 1)
        position += _STEP
        if num_bounds > MAX_BOUNDS - _STEP - _AT_ONCE:
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
    """Where the word that may hold the character at `other` starts; it is taken off `bounds`."""
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
    """As `find_words`, for words of any characters; stops before ASCII words."""
    position, num_bounds, no_joins_before = start, 0, start
    # A variable: numba would compile what takes a literal once more.
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
        at = after
        while at < end:
            code, at_next = character(data, at, end)
            next_state = _next_state(tables, state, code)
            if next_state == DEAD:
                break
            state, at = next_state, at_next
            if state >= FIRST_CLOSED:
                word_end = at
        if word_end > position:
            bounds[num_bounds], bounds[num_bounds + 1] = position, word_end
            num_bounds += 2
            position = word_end
        else:
            # Without this, a run of underscores would be read again from each of them.
            no_joins_before = at
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
def character(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """The code point at `at` and where the next one starts; U+0000 for what is not UTF-8."""
    byte = int(np.int64(data[at]))
    if byte < 0x80:
        return byte, at + 1
    if byte < 0xC0:
        return 0, at + 1
    size = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
    if at + size > end:
        return 0, end
    code = byte & (0x7F >> size)
    for offset in range(1, size):
        code = code << 6 | int(np.int64(data[at + offset])) & 0x3F
    return code, at + size


@njit(cache=True, nogil=True)
def write_lower(
    data: NDArray[np.uint8],
    word: tuple[int, int],
    tables: Characters,
    out: NDArray[np.uint8],
    at: int,
) -> tuple[int, int]:
    """Write the first `MAX_TERM_CHARS` characters of a word, lower-cased, to `out` from `at` on.

    Returns:
        Where the characters that are left start in `data`, and where `out` is free.
    """
    position, end = word
    for _ in range(MAX_TERM_CHARS):
        if position >= end:
            break
        code, position = character(data, position, end)
        if code < len(tables.lower):
            code = int(np.int64(tables.lower[code]))
        if code < 0x80:
            out[at] = code
            at += 1
            continue
        size = 1 if code < 0x800 else 2 if code < 0x10000 else 3
        out[at] = (0xF0 << (3 - size) & 0xFF) | code >> 6 * size
        for offset in range(1, size + 1):
            out[at + offset] = 0x80 | code >> 6 * (size - offset) & 0x3F
        at += size + 1
    return position, at
