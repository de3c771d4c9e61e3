"""Compiled passes over UTF-8: white space, words, lines and characters, 64 bytes at a time.

White space is defined by `str.isspace`; a word is a run of other characters.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.text.simd import LANES, number_of_ones, text_masks, trailing_zeros

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

_ASCII_SPACE = np.zeros(128, np.bool_)
_ASCII_SPACE[[character for character in range(128) if chr(character).isspace()]] = True
_ONE = np.uint64(1)
_LAST_LANE = np.uint64(LANES - 1)


@njit(cache=True, nogil=True, inline="always")
def character_at(data: Bytes, position: int) -> tuple[int, bool]:
    """Decode the character at a position: number of bytes, and whether it is white space."""
    lead = data[position]
    if lead < 0x80:
        return 1, _ASCII_SPACE[lead]
    if lead < 0xE0:
        return 2, lead == 0xC2 and (data[position + 1] == 0x85 or data[position + 1] == 0xA0)
    if lead < 0xF0:
        return 3, lead <= 0xE3 and _is_wide_space(lead, data[position + 1], data[position + 2])
    return 4, False


@njit(cache=True, nogil=True)
def _is_wide_space(first: int, second: int, third: int) -> bool:
    """Test for U+1680, U+2000 to U+200A, U+2028, U+2029, U+202F, U+205F and U+3000."""
    if first == 0xE2:
        if second == 0x80:
            return third <= 0x8A or third == 0xA8 or third == 0xA9 or third == 0xAF
        return second == 0x81 and third == 0x9F
    if first == 0xE1:
        return second == 0x9A and third == 0x80
    return first == 0xE3 and second == 0x80 and third == 0x80


@njit(cache=True, nogil=True)
def count_words(data: Bytes, starts: Integers, stops: Integers) -> Integers:
    """Count the words (N,) of N documents `data[start:stop]`."""
    num_words = np.zeros(len(starts), np.int64)
    for document in range(len(starts)):
        num_words[document] = num_words_of(data, starts[document], stops[document])
    return num_words


@njit(cache=True, nogil=True)
def num_words_of(data: Bytes, position: int, stop: int) -> int:
    """Count the words of `data[position:stop]`."""
    count = was_word = np.uint64(0)
    while position < stop:
        if position + LANES <= len(data):
            spaces, maybe_spaces, _, _ = text_masks(data, position)
            beyond = _beyond(stop - position)
            if maybe_spaces & ~beyond == 0:
                words = ~(spaces | beyond)
                count += number_of_ones(words & ~((words << _ONE) | was_word))
                was_word = words >> _LAST_LANE
                position += LANES
                continue
        # Character by character near white space outside ASCII, and near the end of the data.
        end = min(position + LANES, stop)
        while position < end:
            width, is_space = 1, False
            # The vector loop may have stopped inside a character.
            if data[position] & 0xC0 != 0x80:
                width, is_space = character_at(data, position)
            is_word = np.uint64(not is_space)
            count += is_word & ~was_word
            was_word = is_word
            position += width
    return int(np.int64(count))


@njit(cache=True, nogil=True)
def _beyond(num_bytes: int) -> np.uint64:
    """Mark the lanes after the first `num_bytes` bytes with one bits."""
    # In two steps: a shift by 64 is undefined.
    last = np.uint64(min(num_bytes, LANES) - 1)
    return ~np.uint64(0) << last << _ONE


@njit(cache=True, nogil=True)
def has_blank(data: Bytes, starts: Integers, stops: Integers) -> bool:
    """Test whether any document has no word."""
    for document in range(len(starts)):
        if not _has_word(data, starts[document], stops[document]):
            return True
    return False


@njit(cache=True, nogil=True)
def are_blank(data: Bytes, starts: Integers, stops: Integers) -> NDArray[np.bool_]:
    """Mark the documents (N,) `data[start:stop]` that have no word."""
    is_blank = np.zeros(len(starts), np.bool_)
    for document in range(len(starts)):
        is_blank[document] = not _has_word(data, starts[document], stops[document])
    return is_blank


@njit(cache=True, nogil=True)
def _has_word(data: Bytes, position: int, stop: int) -> bool:
    while position < stop:
        width, is_space = character_at(data, position)
        if not is_space:
            return True
        position += width
    return False


@njit(cache=True, nogil=True)
def lines_with_words(data: Bytes) -> tuple[Integers, Integers]:
    r"""Find the lines with a word: starts and stops, without `\n` and one `\r`."""
    ends = _line_ends(data)
    starts, stops = np.empty(len(ends), np.int64), np.empty(len(ends), np.int64)
    num_lines = start = 0
    for end in ends:
        if _has_word(data, start, end):
            starts[num_lines] = start
            stops[num_lines] = end - (data[end - 1] == 0x0D)
            num_lines += 1
        start = end + 1
    return starts[:num_lines], stops[:num_lines]


@njit(cache=True, nogil=True)
def _line_ends(data: Bytes) -> Integers:
    r"""Find the position of each `\n`, and the end of the data."""
    num_lines = 1
    for byte in data:
        num_lines += byte == 0x0A
    ends = np.empty(num_lines, np.int64)
    num_lines = position = 0
    while position + LANES <= len(data):
        _, _, _, line_feeds = text_masks(data, position)
        while line_feeds != 0:
            ends[num_lines] = position + np.int64(trailing_zeros(line_feeds))
            num_lines += 1
            line_feeds &= line_feeds - _ONE
        position += LANES
    for offset in range(position, len(data)):
        if data[offset] == 0x0A:
            ends[num_lines] = offset
            num_lines += 1
    ends[num_lines] = len(data)
    return ends


@njit(cache=True, nogil=True)
def trimmed(data: Bytes, start: int, stop: int) -> tuple[int, int]:
    """Trim white space: first byte of the first word, and the byte after the last one."""
    while True:
        width, is_space = character_at(data, start)
        if not is_space:
            break
        start += width
    while True:
        last = stop - 1
        while data[last] & 0xC0 == 0x80:
            last -= 1
        _, is_space = character_at(data, last)
        if not is_space:
            return start, stop
        stop = last


@njit(cache=True, nogil=True)
def num_characters_of(data: Bytes, position: int, stop: int) -> int:
    """Count the characters that begin in `data[position:stop]`."""
    num_inside = np.uint64(0)
    num_bytes = max(stop - position, 0)
    while position < stop and position + LANES <= len(data):
        _, _, inside, _ = text_masks(data, position)
        num_inside += number_of_ones(inside & ~_beyond(stop - position))
        position += LANES
    for offset in range(position, stop):
        num_inside += np.uint64(data[offset] & 0xC0 == 0x80)
    return num_bytes - int(np.int64(num_inside))
