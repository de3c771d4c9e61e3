"""Compiled filter that selects the texts which may contain an evaluation sentence."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from raykd.text.wordings import wordings

_Bytes = npt.NDArray[np.uint8]
_Hashes = npt.NDArray[np.uint64]
_Positions = npt.NDArray[np.int64]

# FNV-1a over the bytes of a word, mixed by a constant of SplitMix64. Word hashes are the digits of
# a polynomial modulo 2^64 (rolling hash): consecutive words hash to a difference of two prefixes.
_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_BASE = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(31)
# Slots per key, a power of two: at this load most lookups end at the first slot.
_SLOTS_PER_KEY = 4

# Lower-cased byte for each byte of a word; 0 for bytes that separate words.
_LETTERS = np.array(
    [
        ord(chr(byte).lower()) if byte < 0x80 and chr(byte).isalnum() else byte * (byte >= 0x80)
        for byte in range(256)
    ],
    np.uint8,
)


class _Table(NamedTuple):
    """Hash table with open addressing: `keys` (S,), 0 if free; `values` (S,)."""

    keys: _Hashes
    values: _Positions


class _Sentences(NamedTuple):
    """Hashed sentences; group g has `lengths[group_offsets[g]:group_offsets[g + 1]]`."""

    wholes: _Table
    starts: _Table  # values: groups
    group_offsets: _Positions
    lengths: _Positions
    grams: _Table
    min_words: int
    ngram: int  # 0: none


class ContaminationKernel:
    """Filter without false negatives; its matches must be verified.

    It selects every text that equals a sentence, contains one of at least `min_words` words, or
    shares `ngram` consecutive words with one.
    """

    def __init__(self, sentences: Sequence[str], min_words: int, ngram: int | None) -> None:
        data, offsets = wordings(pa.array(sentences, pa.large_string()))
        wholes, lengths, starts, grams = _keys(data, offsets, min_words, ngram or 0)
        is_long = lengths >= min_words
        pairs = np.stack([starts[is_long], lengths[is_long].astype(np.uint64)], axis=1)
        pairs = np.unique(pairs, axis=0)
        groups, firsts = np.unique(pairs[:, 0], return_index=True)
        self._sentences = _Sentences(
            wholes=_table(np.unique(wholes)),
            starts=_table(groups),
            group_offsets=np.append(firsts, len(pairs)).astype(np.int64),
            lengths=pairs[:, 1].astype(np.int64),
            grams=_table(np.unique(grams)),
            min_words=min_words,
            ngram=ngram or 0,
        )

    def suspects(self, texts: pa.Array) -> _Positions:
        """Find the positions (ascending) of the texts that may be contaminated."""
        data, offsets = wordings(texts)
        return np.flatnonzero(_suspects(data, offsets, *self._sentences))


def _table(keys: _Hashes) -> _Table:
    size = 1 << max(4, (_SLOTS_PER_KEY * len(keys) - 1).bit_length())
    table = _Table(np.zeros(size, np.uint64), np.zeros(size, np.int64))
    _fill(table, keys)
    return table


@njit(cache=True, nogil=True)
def _fill(table: _Table, keys: _Hashes) -> None:
    mask = np.uint64(len(table.keys) - 1)
    for value in range(len(keys)):
        slot = keys[value] & mask
        while table.keys[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        table.keys[slot] = keys[value]
        table.values[slot] = value


@njit(cache=True, nogil=True)
def _find(table: _Table, key: np.uint64) -> int:
    """Look up the value of a key; -1 if absent."""
    mask = np.uint64(len(table.keys) - 1)
    slot = key & mask
    while table.keys[slot] != 0:
        if table.keys[slot] == key:
            return int(table.values[slot])
        slot = (slot + np.uint64(1)) & mask
    return -1


@njit(cache=True, nogil=True)
def _hash_words(data: _Bytes, first: int, last: int, prefixes: _Hashes) -> int:
    """Write the hashes of the first 0, 1, 2, ... words; return the number of words."""
    num_words = 0
    prefixes[0] = 0
    position = first
    while position < last:
        letter = _LETTERS[data[position]]
        position += 1
        if letter == 0:
            continue
        word = _FNV_OFFSET
        while letter != 0:
            word = (word ^ np.uint64(letter)) * _FNV_PRIME
            letter = _LETTERS[data[position]] if position < last else np.uint8(0)
            position += 1
        word = (word ^ (word >> _SHIFT)) * _MIX
        prefixes[num_words + 1] = prefixes[num_words] * _BASE + (word ^ (word >> _SHIFT))
        num_words += 1
    return num_words


@njit(cache=True, nogil=True)
def _power(exponent: int) -> np.uint64:
    power, factor = np.uint64(1), _BASE
    while exponent:
        if exponent & 1:
            power *= factor
        factor *= factor
        exponent >>= 1
    return power


@njit(cache=True, nogil=True)
def _key(prefixes: _Hashes, first: int, num_words: int, power: np.uint64) -> np.uint64:
    """Hash of `num_words` consecutive words, never 0; `power` is _BASE ** num_words."""
    key = prefixes[first + num_words] - prefixes[first] * power
    return key if key != 0 else np.uint64(1)


@njit(cache=True, nogil=True)
def _keys(
    data: _Bytes, offsets: _Positions, min_words: int, ngram: int
) -> tuple[_Hashes, _Positions, _Hashes, _Hashes]:
    """Hash of all words, number of words, and hash of the first words per text; all n-grams."""
    num_texts = len(offsets) - 1
    wholes, starts = np.zeros(num_texts, np.uint64), np.zeros(num_texts, np.uint64)
    lengths = np.zeros(num_texts, np.int64)
    grams = [np.uint64(0) for _ in range(0)]
    prefixes = np.empty(np.max(np.diff(offsets)) + 2 if num_texts else 2, np.uint64)
    for text in range(num_texts):
        num_words = _hash_words(data, offsets[text], offsets[text + 1], prefixes)
        lengths[text] = num_words
        wholes[text] = _key(prefixes, 0, num_words, _power(num_words))
        if num_words >= min_words:
            starts[text] = _key(prefixes, 0, min_words, _power(min_words))
        if ngram:
            for first in range(num_words - ngram + 1):
                grams.append(_key(prefixes, first, ngram, _power(ngram)))
    return wholes, lengths, starts, np.array(grams, np.uint64)


@njit(cache=True, nogil=True)
def _suspects(
    data: _Bytes,
    offsets: _Positions,
    wholes: _Table,
    starts: _Table,
    group_offsets: _Positions,
    sentence_lengths: _Positions,
    grams: _Table,
    min_words: int,
    ngram: int,
) -> npt.NDArray[np.bool_]:
    num_texts = len(offsets) - 1
    is_suspect = np.zeros(num_texts, np.bool_)
    prefixes = np.empty(np.max(np.diff(offsets)) + 2 if num_texts else 2, np.uint64)
    for text in range(num_texts):
        num_words = _hash_words(data, offsets[text], offsets[text + 1], prefixes)
        if _find(wholes, _key(prefixes, 0, num_words, _power(num_words))) >= 0 or _holds_sentence(
            prefixes, num_words, wholes, starts, group_offsets, sentence_lengths, min_words
        ):
            is_suspect[text] = True
        elif ngram:
            is_suspect[text] = _holds_gram(prefixes, num_words, grams, ngram)
    return is_suspect


@njit(cache=True, nogil=True)
def _holds_sentence(
    prefixes: _Hashes,
    num_words: int,
    wholes: _Table,
    starts: _Table,
    group_offsets: _Positions,
    sentence_lengths: _Positions,
    min_words: int,
) -> bool:
    power = _power(min_words)
    for first in range(num_words - min_words + 1):
        group = _find(starts, _key(prefixes, first, min_words, power))
        if group < 0:
            continue
        for place in range(group_offsets[group], group_offsets[group + 1]):
            length = sentence_lengths[place]
            if first + length > num_words:
                continue
            if _find(wholes, _key(prefixes, first, length, _power(length))) >= 0:
                return True
    return False


@njit(cache=True, nogil=True)
def _holds_gram(prefixes: _Hashes, num_words: int, grams: _Table, ngram: int) -> bool:
    power = _power(ngram)
    for first in range(num_words - ngram + 1):
        if _find(grams, _key(prefixes, first, ngram, power)) >= 0:
            return True
    return False
