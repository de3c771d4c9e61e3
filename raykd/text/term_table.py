"""Compiled hash table of terms, and lookup of the terms of texts.

The key of a term of up to 16 bytes is the term itself as two integers, so that comparisons need no
loop; the key of a longer term is (0, hash), and its bytes are compared. One byte of each term's
hash is stored in a separate array, of which eight slots are compared at once: most lookups of
unknown terms end there, and no branch depends on whether a term is known.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.text.characters import Characters
from raykd.text.simd import load_8, prefetch, trailing_zeros
from raykd.text.words import MAX_BOUNDS, MAX_TERM_BYTES, PADDING, find_words, write_lower

_KEY_BYTES = 16
_WINDOW = 8
_ENTRY = 4

# byte | 0x20 lower-cases ASCII letters and leaves digits and joining signs unchanged.
_FOLD_8 = np.uint64(0x2020202020202020)
_AS_IT_IS = np.uint64(0)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONES = np.uint64(0x0101010101010101)
_HIGH_BITS = np.uint64(0x8080808080808080)
_MIX_1 = np.uint64(0x9E3779B97F4A7C15)
_MIX_2 = np.uint64(0xC2B2AE3D27D4EB4F)


# np.uint64; mypy cannot infer the types of its arithmetic.
Unsigned = Any


class TermTable(NamedTuple):
    """Hash table of terms, numbered from 1 in the order of insertion.

    Attributes:
        fingerprints: (S + 8,) one byte of the hash of the term in each slot, 0 if free; S is a
            power of two, and the first eight slots are repeated at the end.
        entries: (4 * (S + 1),) four integers per slot: two of the key, the term number, unused.
        starts: (capacity + 2,) term t is spellings[starts[t]:starts[t + 1]].
        spellings: UTF-8 of all terms, with `PADDING` extra bytes.
        shift: 64 - log2(S).
    """

    fingerprints: NDArray[np.uint8]
    entries: NDArray[np.uint64]
    starts: NDArray[np.int64]
    spellings: NDArray[np.uint8]
    shift: int


@njit(cache=True, nogil=True)
def new_table(capacity: int, spelling_bytes: int) -> TermTable:
    """Make an empty table for `capacity` terms with `spelling_bytes` bytes in total."""
    bits = 8
    while 1 << bits < 2 * capacity:
        bits += 1
    return TermTable(
        np.zeros((1 << bits) + _WINDOW, np.uint8),
        np.zeros(_ENTRY * ((1 << bits) + 1), np.uint64),
        np.zeros(capacity + 2, np.int64),
        np.zeros(spelling_bytes + PADDING, np.uint8),
        64 - bits,
    )


@njit(cache=True, nogil=True)
def _key(term: NDArray[np.uint8], size: int) -> tuple[Unsigned, Unsigned]:
    if size > _KEY_BYTES:
        return np.uint64(0), _hash_long(term, size)
    return _short_key(term, np.uint64(0), np.uint64(size), _AS_IT_IS)


@njit(cache=True, nogil=True)
def _short_key(
    data: NDArray[np.uint8], start: Unsigned, size: Unsigned, fold: Unsigned
) -> tuple[Unsigned, Unsigned]:
    # All unsigned: numba converts mixed signed and unsigned operands to floating point.
    eight = np.uint64(8)
    beyond_8 = np.uint64(4) * (np.uint64(16) - max(size, eight))
    low = (load_8(data, start) | fold) & (_ALL >> (eight * (eight - min(size, eight))))
    # In two steps: a shift by 64 is undefined.
    high = (load_8(data, start + eight) | fold) & (_ALL >> beyond_8 >> beyond_8)
    return low, high


@njit(cache=True, nogil=True)
def _hash_long(term: NDArray[np.uint8], size: int) -> Unsigned:
    mixed = np.uint64(size)
    for offset in range(0, size - 8, 8):
        mixed = (mixed ^ load_8(term, offset)) * _MIX_1
        mixed ^= mixed >> np.uint64(29)
    return (mixed ^ load_8(term, size - 8)) * _MIX_1


@njit(cache=True, nogil=True)
def _place(low: Unsigned, high: Unsigned, shift: Unsigned) -> tuple[Unsigned, Unsigned]:
    """Compute the first slot of a term, and its fingerprint."""
    mixed = (low * _MIX_1) ^ (high * _MIX_2)
    return mixed >> shift, max((mixed >> (shift - np.uint64(8))) & np.uint64(0xFF), np.uint64(1))


@njit(cache=True, nogil=True)
def _zero_bytes(eight_bytes: Unsigned) -> Unsigned:
    """Mark the high bit of each zero byte; only the lowest mark is reliable."""
    return (eight_bytes - _ONES) & ~eight_bytes & _HIGH_BITS


@njit(cache=True, nogil=True)
def _find(table: TermTable, term: NDArray[np.uint8], size: int) -> int:
    """Look up the number of a term of `size` bytes; 0 if it is not in the table."""
    low, high = _key(term, size)
    slot, fingerprint = _place(low, high, np.uint64(table.shift))
    while table.fingerprints[slot] != 0:
        entry = np.uint64(_ENTRY) * slot
        if (
            table.fingerprints[slot] == fingerprint
            and table.entries[entry] == low
            and table.entries[entry + np.uint64(1)] == high
        ):
            number = int(np.int64(table.entries[entry + np.uint64(2)]))
            if low != 0 or _is_spelled(table, number, term, size):
                return number
        slot = _next_slot(table, slot)
    return 0


@njit(cache=True, nogil=True)
def _next_slot(table: TermTable, slot: Unsigned) -> Unsigned:
    return (slot + np.uint64(1)) & np.uint64(len(table.fingerprints) - _WINDOW - 1)


@njit(cache=True, nogil=True)
def _is_spelled(table: TermTable, number: int, term: NDArray[np.uint8], size: int) -> bool:
    first = table.starts[number]
    if table.starts[number + 1] - first != size:
        return False
    offset = 0
    while offset < size and term[offset] == table.spellings[first + offset]:
        offset += 1
    return offset == size


@njit(cache=True, nogil=True)
def _add(table: TermTable, number: int, term: NDArray[np.uint8], size: int) -> bool:
    """Add a new term with the next free number; return False if the table is full."""
    first = table.starts[number]
    if number + 1 >= len(table.starts) or first + size + PADDING > len(table.spellings):
        return False
    for offset in range(size):
        table.spellings[first + offset] = term[offset]
    table.starts[number + 1] = first + size
    _put(table, number)
    return True


@njit(cache=True, nogil=True)
def _put(table: TermTable, number: int) -> None:
    start = table.starts[number]
    low, high = _key(table.spellings[start:], table.starts[number + 1] - start)
    slot, fingerprint = _place(low, high, np.uint64(table.shift))
    while table.fingerprints[slot] != 0:
        slot = _next_slot(table, slot)
    table.fingerprints[slot] = fingerprint
    if slot < _WINDOW:
        table.fingerprints[slot + np.uint64(len(table.fingerprints) - _WINDOW)] = fingerprint
    entry = np.uint64(_ENTRY) * slot
    table.entries[entry], table.entries[entry + np.uint64(1)] = low, high
    table.entries[entry + np.uint64(2)] = number


@njit(cache=True, nogil=True)
def grown(table: TermTable, num_terms: int) -> TermTable:
    """Copy the terms into a table of twice the capacity."""
    larger = new_table(2 * (len(table.starts) - 2), 2 * len(table.spellings))
    larger.starts[: len(table.starts)] = table.starts
    larger.spellings[: len(table.spellings)] = table.spellings
    for number in range(1, num_terms + 1):
        _put(larger, number)
    return larger


@njit(cache=True, nogil=True)
def table_of(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> tuple[TermTable, int]:
    """Build a table of the distinct terms in `data`; return it and the number of terms."""
    num_terms = 0
    table = new_table(len(offsets) - 1, offsets[-1] - offsets[0])
    for term in range(len(offsets) - 1):
        spelled, size = data[offsets[term] :], offsets[term + 1] - offsets[term]
        if _find(table, spelled, size) == 0:
            num_terms += 1
            _add(table, num_terms, spelled, size)
    return table, num_terms


@njit(cache=True, nogil=True)
def _is_zero(bits: Unsigned) -> Unsigned:
    """Compute 1 for zero and 0 otherwise, without a branch."""
    return ((bits | (np.uint64(0) - bits)) >> np.uint64(63)) ^ np.uint64(1)


@njit(cache=True, nogil=True)
def _probe(
    data: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    num_bounds: int,
    table: TermTable,
    probes: NDArray[np.uint64],
) -> None:
    """Prefetch the table entries of a batch of ASCII words.

    Args:
        data: UTF-8 text; it is lower-cased for the lookup.
        bounds: start and end of each word.
        num_bounds: number of bounds.
        table: table of terms.
        probes: (words, 3) output: the key of each word, and the start of its candidate entry, plus
            1 if the word cannot be in another entry, plus 2 if it has at most 16 bytes.
    """
    fingerprints, entries, shift = table.fingerprints, table.entries, np.uint64(table.shift)
    one, last_slot = np.uint64(1), np.uint64(len(fingerprints) - _WINDOW - 1)
    for word in range(num_bounds >> 1):
        start = np.uint64(bounds[2 * word])
        size = np.uint64(bounds[2 * word + 1]) - start
        low, high = _short_key(data, start, size, _FOLD_8)
        slot, fingerprint = _place(low, high, shift)
        window = load_8(fingerprints, slot)
        same = _zero_bytes(window ^ fingerprint * _ONES)
        is_none = _is_zero(same)
        slot = (slot + (trailing_zeros(same) >> np.uint64(3))) & last_slot
        # If no fingerprint matches, probe the first entry: it is in the cache.
        entry = np.uint64(_ENTRY) * (slot & (is_none - one))
        prefetch(entries, entry)
        is_nowhere_else = is_none & (_is_zero(_zero_bytes(window)) ^ one)
        is_short = np.uint64(size <= np.uint64(_KEY_BYTES))
        probes[word, 0], probes[word, 1] = low, high
        probes[word, 2] = entry | (is_nowhere_else & is_short) | is_short << one


@njit(cache=True, nogil=True)
def find_terms(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    first: int,
    tables: Characters,
    table: TermTable,
    num_terms: int,
    num_known: int,
    adds: bool,
    term_ids: NDArray[np.int32],
    num_ids: int,
    ends: NDArray[np.int64],
    lengths: NDArray[np.int32],
) -> tuple[int, int, int]:
    """Find the terms of the texts, starting with text `first`.

    Args:
        data: UTF-8 of all texts and `PADDING` extra bytes.
        offsets: (U + 1,) text u is data[offsets[u]:offsets[u + 1]].
        first: position of the first text.
        tables: tables of the characters.
        table: table of terms.
        num_terms: number of terms in the table.
        num_known: number of known terms; the terms after them are stop words.
        adds: whether unknown terms are added to the table.
        term_ids: output: ids (number - 1) of the known terms, from `num_ids`.
        num_ids: number of ids already written.
        ends: (U,) output: end of each text's ids.
        lengths: (U,) output: number of terms of each text, without stop words.

    Returns:
        The text at which to resume with a larger table, or U; `num_terms`; `num_ids`.
    """
    bounds = np.empty(MAX_BOUNDS, np.int64)
    lower = np.zeros(MAX_TERM_BYTES + PADDING, np.uint8)
    front: Any = np.int64(0)
    probes = np.empty((MAX_BOUNDS // 2, 3), np.uint64)
    entries, one = table.entries, np.uint64(1)
    may_miss = np.uint64(0 if adds else 1)
    for text in range(first, len(lengths)):
        position, end = int(offsets[text]), int(offsets[text + 1])
        num_before = num_ids
        length = 0
        while position < end:
            position, num_bounds, is_ascii = find_words(data, position, end, tables, bounds)
            if is_ascii:
                _probe(data, bounds, num_bounds, table, probes)
            for word in range(num_bounds >> 1):
                if is_ascii:
                    low, high, probe = probes[word]
                    entry = probe & ~np.uint64(3)
                    is_it = _is_zero((entries[entry] ^ low) | (entries[entry + one] ^ high))
                    is_it &= probe >> one
                    if is_it | (probe & may_miss) != 0:
                        known: Any = np.int64(entries[entry + np.uint64(2)] * is_it) - 1
                        term_ids[num_ids] = known
                        num_ids += int(np.uint64(known) < np.uint64(num_known))
                        length += known < num_known
                        continue
                start, word_end = bounds[2 * word], bounds[2 * word + 1]
                while start < word_end:
                    start, size = write_lower(data, (start, word_end), tables, lower, front)
                    number = _find(table, lower, size)
                    if adds and number == 0:
                        number = num_terms + 1
                        if not _add(table, number, lower, size):
                            return text, num_terms, num_before
                        num_terms = number
                    term_ids[num_ids] = number - 1
                    num_ids += 0 < number <= num_known
                    length += number <= num_known
        ends[text] = num_ids
        lengths[text] = length
    return len(lengths), num_terms, num_ids


@njit(cache=True, nogil=True)
def spell_terms(
    data: NDArray[np.uint8], end: int, tables: Characters, out: NDArray[np.uint8]
) -> int:
    """Write the terms of one text, each followed by a zero byte; return the bytes written."""
    bounds = np.empty(MAX_BOUNDS, np.int64)
    # Not literals: numba would compile the called functions again for literal types.
    position: Any = np.int64(0)
    out_end: Any = np.int64(0)
    while position < end:
        position, num_bounds, _ = find_words(data, position, end, tables, bounds)
        for pair in range(0, num_bounds, 2):
            start, word_end = bounds[pair], bounds[pair + 1]
            while start < word_end:
                start, out_end = write_lower(data, (start, word_end), tables, out, out_end)
                out[out_end] = 0
                out_end += 1
    return int(out_end)
