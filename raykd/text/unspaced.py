"""Words of scripts that put no blank between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese.

The one definition for units, near duplicates, leaks and corpus cards: each letter of such a script,
with its marks, counts as a word.
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
    """Bits of every code point (0x110000,): `IS_UNSPACED`, `IS_MARK`, `IS_WORD` for a `LETTER`."""
    everything = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    found = np.zeros(0x110000, np.uint8)
    for pattern, bit in ((UNSPACED, IS_UNSPACED), (r"\p{M}", IS_MARK), (LETTER, IS_WORD)):
        for run in regex.finditer(f"{pattern}+", everything, flags=regex.VERSION1):
            # The surrogates are left out of the string.
            start, end = (at + 0x800 * (at >= 0xD800) for at in run.span())
            found[start:end] |= bit
    return found


@njit(cache=True, nogil=True)
def may_be_unspaced(data: Bytes, starts: Integers, stops: Integers) -> NDArray[np.bool_]:
    """Documents (N,) that may hold a letter of such a script; false for none that does."""
    found = np.zeros(len(starts), np.bool_)
    for document in range(len(starts)):
        found[document] = _holds_high_byte(data[starts[document] : stops[document]])
    return found


@njit(cache=True, nogil=True)
def _holds_high_byte(text: Bytes) -> bool:
    # U+2000 to U+2E7F, dashes, quotation marks and other signs, start with 0xE2 and less than 0xBA;
    # all scripts in question but the radicals after them start with another byte from 0xE0 on. One
    # pass without branches, so that it becomes vector instructions.
    found = np.uint8(0)
    following = text[1:]
    for at in range(len(following)):
        is_sign = (text[at] == np.uint8(0xE2)) & (following[at] < np.uint8(0xBA))
        found |= np.uint8(text[at] >= np.uint8(0xE0)) & ~np.uint8(is_sign) & np.uint8(1)
    return bool(found)


@njit(cache=True, nogil=True)
def next_word(data: Bytes, position: int, stop: int, kinds: NDArray[np.uint8]) -> tuple[int, int]:
    """First byte of the next word of `data[position:stop]`, and the byte after it.

    A word is what is between white space, but a letter of a script without blanks begins one of its
    own, and so does another letter or digit behind it. Marks and signs belong to the word before
    them, and to the one after them where there is none. Without such a script in the text, words
    are what is between white space.

    Args:
        data: UTF-8.
        position: a character starts there.
        stop: the byte after the text.
        kinds: what `classes` returns.

    Returns:
        `stop` twice where there is no word.
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
    """Words of `data[position:stop]`."""
    num_words = 0
    while position < stop:
        start, position = next_word(data, position, stop, kinds)
        num_words += start < position
    return num_words
