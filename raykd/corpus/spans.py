"""Compiled passes over UTF-8 bytes: words, lines, the spans of units, and their copies.

White space is what `str.isspace` calls so; a word is what stands between it.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

_ASCII_SPACE = np.zeros(128, np.bool_)
_ASCII_SPACE[[character for character in range(128) if chr(character).isspace()]] = True
# What a byte says of white space where characters are not taken apart; the bytes inside a character
# count as parts of a word.
_WORD, _SPACE, _LEAD_OF_SPACE = range(3)
_KINDS = np.zeros(256, np.uint8)
_KINDS[:128][_ASCII_SPACE] = _SPACE
_KINDS[[0xC2, 0xE1, 0xE2, 0xE3]] = _LEAD_OF_SPACE


@njit(cache=True, nogil=True, inline="always")
def _character(data: Bytes, position: int) -> tuple[int, bool]:
    """Bytes of the character at a position, and whether it is white space."""
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
    """U+1680, U+2000 to U+200A, U+2028, U+2029, U+202F, U+205F and U+3000."""
    if first == 0xE2:
        if second == 0x80:
            return third <= 0x8A or third == 0xA8 or third == 0xA9 or third == 0xAF
        return second == 0x81 and third == 0x9F
    if first == 0xE1:
        return second == 0x9A and third == 0x80
    return first == 0xE3 and second == 0x80 and third == 0x80


@njit(cache=True, nogil=True)
def count_words(data: Bytes, starts: Integers, stops: Integers) -> Integers:
    """Words of each of N documents `data[start:stop]` of UTF-8."""
    num_words = np.zeros(len(starts), np.int64)
    for document in range(len(starts)):
        position, stop = starts[document], stops[document]
        in_word, count = False, 0
        while position < stop:
            kind = _KINDS[data[position]]
            width, is_space = 1, kind == _SPACE
            if kind == _LEAD_OF_SPACE:
                width, is_space = _character(data, position)
            position += width
            count += not is_space and not in_word
            in_word = not is_space
        num_words[document] = count
    return num_words


@njit(cache=True, nogil=True)
def has_blank(data: Bytes, starts: Integers, stops: Integers) -> bool:
    """Whether one of the documents has no word."""
    for document in range(len(starts)):
        position, stop = starts[document], stops[document]
        while position < stop:
            width, is_space = _character(data, position)
            if not is_space:
                break
            position += width
        if position >= stop:
            return True
    return False


@njit(cache=True, nogil=True)
def lines_of(data: Bytes) -> tuple[Integers, Integers]:
    r"""Starts and stops of the lines of UTF-8 that hold a word, without `\n` and one `\r`."""
    num_lines = 1
    for byte in data:
        num_lines += byte == 0x0A
    starts, stops = np.empty(num_lines, np.int64), np.empty(num_lines, np.int64)
    num_lines, start = 0, 0
    has_word = False
    position = 0
    while position <= len(data):
        if position == len(data) or data[position] == 0x0A:
            if has_word:
                starts[num_lines] = start
                stops[num_lines] = position - (data[position - 1] == 0x0D)
                num_lines += 1
            position += 1
            start, has_word = position, False
        elif has_word:
            position += 1
        else:
            width, is_space = _character(data, position)
            has_word = not is_space
            position += width
    return starts[:num_lines], stops[:num_lines]


@njit(cache=True, nogil=True)
def unit_spans(
    data: Bytes,
    starts: Integers,
    stops: Integers,
    num_words: Integers,
    lengths: Integers,
    first_lengths: Integers,
    max_words: int,
    packed: bool,
    capacity: int,
) -> tuple[Integers, Integers, Integers, Integers, Integers]:
    """Where the pieces of documents stand, made of their sentences.

    Args:
        data: UTF-8.
        starts: (N,) first byte of each document.
        stops: (N,) byte after each document.
        num_words: (N,) of each document.
        lengths: (S,) characters of the sentences of all documents, which cover them.
        first_lengths: (N + 1,) document i has `lengths[first_lengths[i] : first_lengths[i + 1]]`;
            one that has none, and at most `max_words` words, is a piece as a whole.
        max_words: a longer sentence is cut at white space.
        packed: join neighbours as long as they hold at most `max_words` words.
        capacity: at least the number of pieces.

    Returns:
        Of each piece: its document, first byte, byte after it, character in its document, words.
    """
    document_of = np.empty(capacity, np.int64)
    first = np.empty(capacity, np.int64)
    after = np.empty(capacity, np.int64)
    character_of = np.empty(capacity, np.int64)
    words_of = np.empty(capacity, np.int64)
    num = 0
    for document in range(len(starts)):
        start, stop = starts[document], stops[document]
        if first_lengths[document] == first_lengths[document + 1] and num_words[document] > 0:
            document_of[num] = document
            first[num], after[num] = _trimmed(data, start, stop)
            character_of[num] = _num_characters(data, start, first[num])
            words_of[num] = num_words[document]
            num += 1
            continue
        num_before = num
        for number in range(first_lengths[document], first_lengths[document + 1]):
            end = _end_of(data, start, stop, lengths[number])
            # Pieces of this sentence are written behind those before it, then perhaps joined.
            num_pieces = _cut_sentence(
                data, start, end, max_words, first[num:], after[num:], words_of[num:]
            )
            document_of[num : num + num_pieces] = document
            start = end
            if (
                packed
                and num_pieces > 0
                and num > num_before
                and words_of[num - 1] + words_of[num] <= max_words
            ):
                # Only the first piece can fit: behind a piece that is full comes another sentence.
                words_of[num - 1] += words_of[num]
                after[num - 1] = after[num]
                assert num_pieces == 1
            else:
                num += num_pieces
        character, counted = 0, starts[document]
        for piece in range(num_before, num):
            character += _num_characters(data, counted, first[piece])
            counted = first[piece]
            character_of[piece] = character
    return document_of[:num], first[:num], after[:num], character_of[:num], words_of[:num]


@njit(cache=True, nogil=True)
def _cut_sentence(
    data: Bytes,
    position: int,
    end: int,
    max_words: int,
    first: Integers,
    after: Integers,
    words_of: Integers,
) -> int:
    """Write where the pieces of one sentence stand; returns their number."""
    piece, in_word = -1, False
    while position < end:
        kind = _KINDS[data[position]]
        width, is_space = 1, kind == _SPACE
        if kind == _LEAD_OF_SPACE:
            width, is_space = _character(data, position)
        if is_space == in_word:
            if in_word:
                after[piece] = position
            else:
                if piece < 0 or words_of[piece] == max_words:
                    piece += 1
                    first[piece], words_of[piece] = position, 0
                words_of[piece] += 1
            in_word = not is_space
        position += width
    if in_word:
        after[piece] = end
    return piece + 1


@njit(cache=True, nogil=True)
def _trimmed(data: Bytes, start: int, stop: int) -> tuple[int, int]:
    """First byte of the first word, and the byte after the last one; there is a word."""
    while True:
        width, is_space = _character(data, start)
        if not is_space:
            break
        start += width
    while True:
        last = stop - 1
        while data[last] & 0xC0 == 0x80:
            last -= 1
        _, is_space = _character(data, last)
        if not is_space:
            return start, stop
        stop = last


@njit(cache=True, nogil=True)
def _num_characters(data: Bytes, start: int, stop: int) -> int:
    num = 0
    for position in range(start, stop):
        num += data[position] & 0xC0 != 0x80
    return num


@njit(cache=True, nogil=True)
def _end_of(data: Bytes, start: int, stop: int, num_characters: int) -> int:
    """The byte after so many characters."""
    while num_characters > 0 and start < stop:
        end = min(start + num_characters, stop)
        num_characters -= _num_characters(data, start, end)
        start = end
    while start < stop and data[start] & 0xC0 == 0x80:
        start += 1
    return start


@njit(cache=True, nogil=True)
def copy_spans(data: Bytes, first: Integers, after: Integers) -> tuple[Bytes, NDArray[np.int32]]:
    """The bytes of spans one behind another, and the offsets between them, (spans + 1,)."""
    offsets = np.zeros(len(first) + 1, np.int32)
    for span in range(len(first)):
        offsets[span + 1] = offsets[span] + after[span] - first[span]
    copies = np.empty(offsets[-1], np.uint8)
    for span in range(len(first)):
        copies[offsets[span] : offsets[span + 1]] = data[first[span] : after[span]]
    return copies, offsets


@njit(cache=True, nogil=True)
def write_digits(rows: NDArray[np.uint8], first: int, after: int, values: Integers) -> None:
    """Write values as decimals with leading zeros to columns `first` to `after` of `rows`."""
    for row in range(len(values)):
        value = values[row]
        for column in range(after - 1, first - 1, -1):
            rows[row, column] = 0x30 + value % 10
            value //= 10
