"""Compiled passes over UTF-8: spans of units, made of sentences, and copies of spans."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.text.unspaced import next_word, num_words_between
from raykd.text.white_space import (
    Bytes,
    Integers,
    character_at,
    num_characters_of,
    num_words_of,
    trimmed,
)


@njit(cache=True, nogil=True)
def unit_spans(
    data: Bytes,
    starts: Integers,
    stops: Integers,
    num_words: Integers,
    is_unspaced: NDArray[np.bool_],
    kinds: NDArray[np.uint8],
    lengths: Integers,
    first_lengths: Integers,
    max_words: int,
    packed: bool,
    capacity: int,
) -> tuple[Integers, Integers, Integers, Integers, Integers]:
    """Compute the spans of pieces of documents from their sentences.

    Args:
        data: UTF-8 of all documents.
        starts: (N,) first byte of each document.
        stops: (N,) byte after each document.
        num_words: (N,) number of words of each document.
        is_unspaced: (N,) whether the document may have letters of a script without blanks.
        kinds: `unspaced.classes`; empty if no document has such letters.
        lengths: (S,) characters of the sentences of all documents; they cover the documents.
        first_lengths: (N + 1,) document i has `lengths[first_lengths[i] : first_lengths[i + 1]]`;
            a document without sentences and with at most `max_words` words is one piece.
        max_words: most words of a piece; longer sentences are cut between words.
        packed: whether adjacent sentences are joined up to `max_words` words.
        capacity: upper bound of the number of pieces.

    Returns:
        Document, first byte, end, character offset in the document, and words of each piece.
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
            first[num], after[num] = trimmed(data, start, stop)
            character_of[num] = num_characters_of(data, start, first[num])
            words_of[num] = num_words[document]
            num += 1
            continue
        num_before = num
        for number in range(first_lengths[document], first_lengths[document + 1]):
            end = _end_of(data, start, stop, lengths[number])
            # Pieces of this sentence are written after the previous ones, then possibly joined.
            free = first[num:], after[num:], words_of[num:]
            if is_unspaced[document]:
                num_pieces = _cut_unspaced(data, start, end, max_words, kinds, *free)
            else:
                num_pieces = _cut_sentence(data, start, end, max_words, *free)
            document_of[num : num + num_pieces] = document
            start = end
            if (
                packed
                and num_pieces > 0
                and num > num_before
                and words_of[num - 1] + words_of[num] <= max_words
            ):
                # Only a single piece can fit: a cut sentence starts with a full piece.
                words_of[num - 1] += words_of[num]
                after[num - 1] = after[num]
                assert num_pieces == 1
            else:
                num += num_pieces
        character, counted = 0, starts[document]
        for piece in range(num_before, num):
            character += num_characters_of(data, counted, first[piece])
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
    """Write the spans of the pieces of one sentence; return their number."""
    num_words = num_words_of(data, position, end)
    if num_words == 0:
        return 0
    if num_words <= max_words:
        first[0], after[0] = trimmed(data, position, end)
        words_of[0] = num_words
        return 1
    piece, in_word = -1, False
    while position < end:
        width, is_space = character_at(data, position)
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
def _cut_unspaced(
    data: Bytes,
    position: int,
    end: int,
    max_words: int,
    kinds: NDArray[np.uint8],
    first: Integers,
    after: Integers,
    words_of: Integers,
) -> int:
    """Write the spans of a sentence with letters of a script without blanks."""
    num_left = num_words_between(data, position, end, kinds)
    num_pieces = 0
    while num_left > 0:
        words_of[num_pieces] = min(num_left, max_words)
        for word in range(words_of[num_pieces]):
            start, position = next_word(data, position, end, kinds)
            if word == 0:
                first[num_pieces] = start
        after[num_pieces] = position
        num_left -= words_of[num_pieces]
        num_pieces += 1
    return num_pieces


@njit(cache=True, nogil=True)
def _end_of(data: Bytes, start: int, stop: int, num_characters: int) -> int:
    """Find the byte after `num_characters` characters."""
    while num_characters > 0 and start < stop:
        end = min(start + num_characters, stop)
        num_characters -= num_characters_of(data, start, end)
        start = end
    while start < stop and data[start] & 0xC0 == 0x80:
        start += 1
    return start


@njit(cache=True, nogil=True)
def copy_spans(data: Bytes, first: Integers, after: Integers) -> tuple[Bytes, NDArray[np.int32]]:
    """Concatenate the bytes of spans; return them and their offsets (spans + 1,)."""
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
