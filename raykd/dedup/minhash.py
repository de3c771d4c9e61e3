"""MinHash band keys for candidate near duplicates, and the exact Jaccard of shingle sets."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from raykd.config import Config
from raykd.text.normalize import code_point, normalize_all
from raykd.text.unspaced import IS_MARK, IS_UNSPACED, IS_WORD, classes

_NOTHING, _IN_UNSPACED, _IN_WORD = 0, 1, 2
# Mixing constants of SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number
# generators", doi:10.1145/2660193.2660195), and the prime and offset of FNV-1a.
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_NUM_ROUNDS = 3
_LAST_ROUND, _EMPTY = np.uint32(_NUM_ROUNDS << 30), np.uint32(0xFFFFFFFF)
_LOW = np.uint64(0xFFFFFFFF)
_FNV_OFFSET, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


class NearDuplicatesConfig(Config):
    """Definition of near duplicates: texts whose shingle sets have a Jaccard of `threshold`.

    A text shorter than a shingle is one shingle. With the defaults, 95 % of the pairs with Jaccard
    0.8 are compared, and 99.99 % of those with 0.9.

    Source: Broder 1997, "On the resemblance and containment of documents"; shingles of five words
    and bands of eight rows as in FineWeb (Penedo et al. 2024), the threshold as in Lee et al. 2022.
    """

    threshold: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Smallest Jaccard similarity of the shingles of near duplicates (0 to 1); 0.8 "
        "as in Lee et al. 2022.",
    )
    shingle_words: int = Field(
        5, ge=1, description="Consecutive words of a shingle; 5 as in FineWeb (Penedo et al. 2024)."
    )
    num_bands: int = Field(
        16,
        ge=1,
        le=1024,
        description="MinHash: bands of a signature; texts of similarity s are compared with "
        "probability 1 - (1 - s^rows_per_band)^num_bands.",
    )
    rows_per_band: int = Field(
        8, ge=1, le=1024, description="MinHash: rows of a band; 8 as in FineWeb."
    )
    seed: int = Field(0, ge=0, lt=2**64, description="MinHash: seed of the hash functions.")


@dataclass(frozen=True)
class Shingles:
    """64-bit shingle hashes of U texts; text u has hashes[starts[u]:starts[u + 1]].

    Attributes:
        hashes: (S,) hashes of all shingles.
        starts: (U + 1,) first position of each text in `hashes`.
    """

    hashes: NDArray[np.uint64]
    starts: NDArray[np.int64]

    def sets(self) -> Self:
        """Remove repeated hashes per text, and sort them."""
        return type(self)(*_sets(self.hashes, self.starts))

    def num_each(self) -> NDArray[np.int64]:
        """Count the hashes of each text, (U,)."""
        return np.diff(self.starts)


def shingles(texts: pa.Array, shingle_words: int) -> Shingles:
    """Compute the shingles of each text (U,) in order of occurrence; none for texts without words.

    Words are defined by `raykd.text.normalize.words`. Two different shingles have the same hash
    with probability 2**-64.
    """
    normalized = normalize_all(texts)
    # At most one word per two bytes, plus one.
    room = len(normalized.data) // 2 + len(normalized) + 1
    hashes = np.empty(room, np.uint64)
    starts = _shingles(normalized.data, normalized.starts, classes(), shingle_words, hashes)
    return Shingles(hashes[: starts[-1]], starts)


def band_keys(text_shingles: Shingles, config: NearDuplicatesConfig) -> NDArray[np.uint64]:
    """Compute one key per text and band (U, num_bands); texts that share a key are candidates.

    A row of the signature is the minimum of the shingles' values in it: two texts agree in a row
    with probability equal to their Jaccard. Each shingle draws one row per round; rows that are
    empty after the last round get a value from every shingle. This needs less work and has less
    variance than a value for every row and shingle.

    Source: Dahlgaard, Knudsen and Thorup 2017, "Fast Similarity Sketching", arXiv:1704.04370.
    """
    random = np.random.default_rng(config.seed)
    num_rows = config.num_bands * config.rows_per_band
    round_numbers = random.integers(2**64, size=(_NUM_ROUNDS, 2), dtype=np.uint64)
    row_numbers = random.integers(2**32, size=(num_rows, 2), dtype=np.uint32)
    # Multiplication by an odd factor is a bijection.
    round_numbers[:, 1] |= np.uint64(1)
    row_numbers[:, 1] |= np.uint32(1)
    keys: NDArray[np.uint64] = _band_keys(
        text_shingles.hashes, text_shingles.starts, round_numbers, row_numbers, config.num_bands
    )
    return keys


def jaccard(
    sets: Shingles, left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compute the Jaccard (N,) of the sets left[i] and right[i]; 0 for two empty sets."""
    similarity: NDArray[np.float64] = _jaccard(sets.hashes, sets.starts, left, right)
    return similarity


@njit(cache=True, nogil=True)
def _mixed(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(30))) * _MIX[0]
    value = (value ^ (value >> np.uint64(27))) * _MIX[1]
    return value ^ (value >> np.uint64(31))


@njit(cache=True, nogil=True)
def _words(
    text: NDArray[np.uint8], kinds: NDArray[np.uint8], word_hashes: NDArray[np.uint64]
) -> int:
    """Write the hash of every word; return the number of words."""
    num_words = 0
    state = _NOTHING
    value = _FNV_OFFSET
    position = 0
    while position < len(text):
        code, length = code_point(text, position)
        kind = kinds[code]
        is_same = (state == _IN_WORD and kind & IS_WORD) or (
            state == _IN_UNSPACED and kind & IS_MARK
        )
        if not is_same:
            if state != _NOTHING:
                word_hashes[num_words] = _mixed(value)
                num_words += 1
            value = _FNV_OFFSET
            state = _NOTHING
            if kind & IS_UNSPACED:
                state = _IN_UNSPACED
            elif kind & IS_WORD:
                state = _IN_WORD
        if state != _NOTHING:
            for byte in range(position, position + length):
                value = (value ^ np.uint64(text[byte])) * _FNV_PRIME
        position += length
    if state != _NOTHING:
        word_hashes[num_words] = _mixed(value)
        num_words += 1
    return num_words


@njit(cache=True, nogil=True)
def _shingles(
    data: NDArray[np.uint8],
    text_starts: NDArray[np.int64],
    kinds: NDArray[np.uint8],
    shingle_words: int,
    hashes: NDArray[np.uint64],
) -> NDArray[np.int64]:
    """Write the shingles of all texts; return the start of each text's shingles."""
    starts = np.zeros(len(text_starts), np.int64)
    for text in range(len(text_starts) - 1):
        first = starts[text]
        # A shingle overwrites its own first word, which no later shingle needs.
        num_words = _words(data[text_starts[text] : text_starts[text + 1]], kinds, hashes[first:])
        size = min(shingle_words, num_words)
        num_shingles = num_words - size + 1 if num_words else 0
        for shingle in range(first, first + num_shingles):
            value = np.uint64(size)
            for word in range(shingle, shingle + size):
                value = (value + hashes[word]) * _FNV_PRIME
                value ^= value >> np.uint64(29)
            hashes[shingle] = _mixed(value)
        starts[text + 1] = first + num_shingles
    return starts


@njit(cache=True, nogil=True)
def _band_keys(
    hashes: NDArray[np.uint64],
    starts: NDArray[np.int64],
    round_numbers: NDArray[np.uint64],
    row_numbers: NDArray[np.uint32],
    num_bands: int,
) -> NDArray[np.uint64]:
    """Compute the band keys of each text's signature."""
    num_rows = len(row_numbers)
    rows_per_band = num_rows // num_bands
    keys = np.empty((len(starts) - 1, num_bands), np.uint64)
    signature = np.empty(num_rows, np.uint32)
    for text in range(len(starts) - 1):
        _sketch(hashes[starts[text] : starts[text + 1]], round_numbers, row_numbers, signature)
        for band in range(num_bands):
            key = np.uint64(band)
            for row in range(band * rows_per_band, (band + 1) * rows_per_band):
                key = (key ^ np.uint64(signature[row])) * _FNV_PRIME
                key ^= key >> np.uint64(32)
            keys[text, band] = _mixed(key)
    return keys


@njit(cache=True, nogil=True)
def _sketch(
    hashes: NDArray[np.uint64],
    round_numbers: NDArray[np.uint64],
    row_numbers: NDArray[np.uint32],
    signature: NDArray[np.uint32],
) -> None:
    """Write the signature; the two highest bits of a value hold its round."""
    num_rows = np.uint64(len(signature))
    signature[:] = _EMPTY
    for number in range(_NUM_ROUNDS):
        first = np.uint64(number) << np.uint64(30)
        mask, factor = round_numbers[number, 0], round_numbers[number, 1]
        for position in range(len(hashes)):
            drawn = (hashes[position] ^ mask) * factor
            row = (((drawn ^ (drawn >> np.uint64(32))) & _LOW) * num_rows) >> np.uint64(32)
            value = np.uint32(first | drawn >> np.uint64(34))
            signature[row] = min(signature[row], value)
    for row in range(len(signature)):
        if signature[row] >= _LAST_ROUND:
            signature[row] = _smallest(hashes, row_numbers[row, 0], row_numbers[row, 1])


@njit(cache=True, nogil=True)
def _smallest(hashes: NDArray[np.uint64], mask: np.uint32, factor: np.uint32) -> np.uint32:
    """Compute the minimum over all shingles; branch-free, so that it is vectorized."""
    smallest = _EMPTY
    for position in range(len(hashes)):
        value = np.uint32(np.uint32(np.uint32(hashes[position]) ^ mask) * factor)
        smallest = min(smallest, np.uint32(value >> np.uint32(2) | _LAST_ROUND))
    return smallest


@njit(cache=True, nogil=True)
def _sets(
    hashes: NDArray[np.uint64], starts: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    unique = np.empty_like(hashes)
    unique_starts = np.zeros_like(starts)
    end = 0
    for text in range(len(starts) - 1):
        ordered = np.sort(hashes[starts[text] : starts[text + 1]])
        for position in range(len(ordered)):
            if position == 0 or ordered[position] != ordered[position - 1]:
                unique[end] = ordered[position]
                end += 1
        unique_starts[text + 1] = end
    return unique[:end], unique_starts


@njit(cache=True, nogil=True)
def _jaccard(
    hashes: NDArray[np.uint64],
    starts: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> NDArray[np.float64]:
    similarity = np.zeros(len(left))
    for pair in range(len(left)):
        one, one_end = starts[left[pair]], starts[left[pair] + 1]
        other, other_end = starts[right[pair]], starts[right[pair] + 1]
        total = one_end - one + other_end - other
        shared = 0
        while one < one_end and other < other_end:
            if hashes[one] == hashes[other]:
                shared += 1
                one += 1
                other += 1
            elif hashes[one] < hashes[other]:
                one += 1
            else:
                other += 1
        if total > 0:
            similarity[pair] = shared / (total - shared)
    return similarity
