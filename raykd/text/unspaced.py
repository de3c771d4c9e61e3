"""Words in scripts without blanks between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese.

Each letter of such a script, with its marks, counts as a word. Units, near duplicates,
decontamination and corpus cards share this definition.
"""

from functools import cache

import numpy as np
import regex
from numba import njit
from numpy.typing import NDArray

from raykd.text.white_space import Bytes, Integers, character_at
from raykd.text.words import character

UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}]--{UNSPACED}]"

IS_UNSPACED, IS_MARK, IS_WORD = 1, 2, 4


@cache
def classes() -> NDArray[np.uint8]:
    """Class bits of every code point (0x110000,): `IS_UNSPACED`, `IS_MARK`, `IS_WORD`."""
    everything = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    bits = np.zeros(0x110000, np.uint8)
    for pattern, bit in ((UNSPACED, IS_UNSPACED), (r"\p{M}", IS_MARK), (LETTER, IS_WORD)):
        for run in regex.finditer(f"{pattern}+", everything, flags=regex.VERSION1):
            # The string has no surrogates.
            start, end = (edge + 0x800 * (edge >= 0xD800) for edge in run.span())
            bits[start:end] |= bit
    return bits


@njit(cache=True, nogil=True)
def may_be_unspaced(data: Bytes, starts: Integers, stops: Integers) -> NDArray[np.bool_]:
    """Mark the documents (N,) that may contain such a script; there are no false negatives."""
    may_be = np.zeros(len(starts), np.bool_)
    for document in range(len(starts)):
        may_be[document] = _holds_high_byte(data[starts[document] : stops[document]])
    return may_be


@njit(cache=True, nogil=True)
def _holds_high_byte(text: Bytes) -> bool:
    # U+2000 to U+2E7F (dashes, quotation marks and other signs) start with 0xE2 and a byte below
    # 0xBA; these scripts start with other bytes from 0xE0. Branch-free, so that it is vectorized.
    high = np.uint8(0)
    following = text[1:]
    for position in range(len(following)):
        is_sign = (text[position] == np.uint8(0xE2)) & (following[position] < np.uint8(0xBA))
        high |= np.uint8(text[position] >= np.uint8(0xE0)) & ~np.uint8(is_sign) & np.uint8(1)
    return bool(high)


@njit(cache=True, nogil=True)
def next_word(data: Bytes, position: int, stop: int, kinds: NDArray[np.uint8]) -> tuple[int, int]:
    """Find the next word of `data[position:stop]`: its first byte, and the byte after it.

    Words are separated by white space. In addition, each letter of a script without blanks begins a
    word, and so does another letter or digit after it. Marks and signs belong to the word before
    them, or to the next word if there is none.

    Args:
        data: UTF-8 text.
        position: first byte of a character.
        stop: end of the text.
        kinds: class bits of `classes`.

    Returns:
        Start and end of the word; `stop` twice if there is no word.
    """
    while position < stop:
        width, is_space = character_at(data, position)
        if not is_space:
            break
        position += width
    start = position
    has_letter = is_unspaced = False
    while position < stop:
        width, is_space = character_at(data, position)
        if is_space:
            break
        code, _ = character(data, position, stop)
        kind = kinds[code]
        if kind & IS_MARK == 0:
            if kind & IS_UNSPACED != 0:
                if has_letter:
                    break
                has_letter = is_unspaced = True
            elif kind & IS_WORD != 0:
                if is_unspaced:
                    break
                has_letter = True
        position += width
    return start, position


@njit(cache=True, nogil=True)
def num_words_between(data: Bytes, position: int, stop: int, kinds: NDArray[np.uint8]) -> int:
    """Count the words of `data[position:stop]`."""
    num_words = 0
    while position < stop:
        start, position = next_word(data, position, stop, kinds)
        num_words += start < position
    return num_words
