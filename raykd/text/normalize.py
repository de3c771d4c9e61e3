"""Normalization of texts for comparisons: of a single text, and compiled for a column."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import regex
from numba import njit
from numpy.typing import NDArray

from raykd.text.unspaced import LETTER, UNSPACED

_IGNORABLE = regex.compile(r"\p{Default_Ignorable_Code_Point}+")
_WORD = regex.compile(rf"{UNSPACED}\p{{M}}*|{LETTER}+", flags=regex.VERSION1)
_ASCII_TO_BLANKS = {code: " " for code in range(128) if not chr(code).isalnum()}

# The kernel normalizes code points below this limit that are independent of their neighbors:
# alphabets, and Chinese characters, which are unchanged.
_NUM_MAPPED = 0xA000
_FIRST_CHINESE = 0x3400
# Second characters of compositions that are not marks: vowels and finals of Hangul syllables.
_HANGUL_SECONDS = (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))
_BLANK = 32
# Bytes tested for ASCII at once.
_BLOCK = 128


def normalize(text: str) -> str:
    """Normalize a text for comparisons: Unicode's NFKC_Casefold, white space collapsed.

    It removes differences in case, composition, ligatures, width and invisible characters, but not
    in punctuation. It is idempotent.

    Source: The Unicode Standard, section 3.13, definitions D146 and D147.
    """
    if text.isascii():
        return " ".join(text.lower().split())
    return " ".join(_folded(text).split())


def words(normalized: str) -> list[str]:
    """Split a normalized text into words: runs of letters, marks and digits.

    In scripts without blanks (Chinese, Japanese, Thai, ...) each letter is a word.
    """
    if normalized.isascii():
        return normalized.translate(_ASCII_TO_BLANKS).split()
    return [str(word) for word in _WORD.findall(normalized)]


@dataclass(frozen=True)
class Normalized:
    """U normalized texts as UTF-8; text u is data[starts[u]:starts[u + 1]].

    Attributes:
        data: (num_bytes,) concatenated texts.
        starts: (U + 1,) first byte of each text.
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def texts(self) -> Iterator[memoryview]:
        """Iterate over the bytes of each text."""
        view = self.data.data
        return (view[start:end] for start, end in pairwise(self.starts.tolist()))


def normalize_all(texts: pa.Array) -> Normalized:
    """Apply `normalize` to each text, several times as fast as single calls.

    Texts with characters that depend on their neighbors (combining marks, Hangul) or are beyond
    U+9FFF are passed to `normalize`.

    Args:
        texts: (U,) strings of any Arrow string type, sliced or not; null counts as empty.
    """
    data, offsets = _buffers(texts)
    mapped, mapped_starts, is_alone = _mapping()
    num_bytes, is_general = _measure(data, offsets, mapped_starts, is_alone)
    general = np.flatnonzero(is_general)
    slow = [
        normalize(bytes(data[offsets[row] : offsets[row + 1]]).decode()).encode()
        for row in general.tolist()
    ]
    num_bytes[general] = [len(text) for text in slow]
    room = np.concatenate([np.zeros(1, np.int64), np.cumsum(num_bytes)])
    slow_data = np.frombuffer(b"".join(slow), np.uint8)
    out = np.empty(int(room[-1]), np.uint8)
    starts = _write(data, offsets, is_general, slow_data, num_bytes, mapped, mapped_starts, out)
    return Normalized(out[: starts[-1]], starts)


def _folded(text: str) -> str:
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFD", text).casefold()).casefold()
    return unicodedata.normalize("NFKC", _IGNORABLE.sub("", folded))


def _buffers(texts: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """View the bytes and the start of each text; nulls have no bytes."""
    if texts.type not in (pa.string(), pa.large_string()):
        texts = texts.cast(pa.large_string())
    if texts.null_count:
        texts = texts.fill_null("")
    offset_type = np.int64 if texts.type == pa.large_string() else np.int32
    _, offset_buffer, data_buffer = texts.buffers()
    if len(texts) == 0 or data_buffer is None:
        return np.empty(0, np.uint8), np.zeros(len(texts) + 1, np.int64)
    offsets = np.frombuffer(offset_buffer, offset_type)[texts.offset :][: len(texts) + 1]
    return np.frombuffer(data_buffer, np.uint8), offsets.astype(np.int64)


@cache
def _mapping() -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.bool_]]:
    """Normalized forms of the code points below `_NUM_MAPPED`, and which are independent.

    A character is independent if it, and its result after each step of `normalize`, starts with a
    character that neither reorders nor composes with the preceding one.

    Returns:
        UTF-8 bytes, white space as blanks; start of each code point's bytes (N + 1,); whether each
        code point is independent (N,).

    Source: Unicode Standard Annex 15, "Normalization Forms", section 9, on boundaries.
    """
    # Above U+1FFFF only single CJK compatibility characters decompose.
    pairs = (unicodedata.decomposition(chr(code)).split() for code in range(0x20000))
    seconds = {int(pair[1], 16) for pair in pairs if len(pair) == 2 and pair[0][0] != "<"}
    seconds |= set(_HANGUL_SECONDS)

    def starts_anew(text: str) -> bool:
        return not text or (unicodedata.combining(text[0]) == 0 and ord(text[0]) not in seconds)

    mapped = bytearray()
    starts = np.zeros(_NUM_MAPPED + 1, np.int32)
    is_alone = np.zeros(_NUM_MAPPED, bool)
    for code in range(_FIRST_CHINESE):
        letter = chr(code)
        decomposed = unicodedata.normalize("NFD", letter)
        folded = decomposed.casefold()
        compatible = unicodedata.normalize("NFKD", folded)
        result = _folded(letter)
        forms = (letter, decomposed, folded, compatible, compatible.casefold(), result)
        is_alone[code] = all(map(starts_anew, forms))
        mapped += "".join(" " if form.isspace() else form for form in result).encode()
        starts[code + 1] = len(mapped)
    chinese = "".join(map(chr, range(_FIRST_CHINESE, _NUM_MAPPED))).encode()
    is_alone[_FIRST_CHINESE:] = True
    starts[_FIRST_CHINESE + 1 :] = len(mapped) + np.arange(3, len(chinese) + 1, 3)
    return np.frombuffer(bytes(mapped) + chinese, np.uint8), starts, is_alone


@njit(cache=True, nogil=True)
def code_point(data: NDArray[np.uint8], position: int) -> tuple[np.int64, int]:
    """Decode the UTF-8 sequence at `position`: code point and number of bytes."""
    first = np.int64(data[position])
    if first < 0x80:
        return first, 1
    if first < 0xE0:
        return (first & 31) << 6 | np.int64(data[position + 1]) & 63, 2
    code = np.int64(data[position + 1]) & 63
    code = code << 6 | np.int64(data[position + 2]) & 63
    if first < 0xF0:
        return (first & 15) << 12 | code, 3
    return (first & 7) << 18 | code << 6 | np.int64(data[position + 3]) & 63, 4


@njit(cache=True, nogil=True)
def _measure(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    mapped_starts: NDArray[np.int32],
    is_alone: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Bound the bytes of each normalized text; mark the texts that the kernel cannot process."""
    num_texts = len(offsets) - 1
    num_bytes = np.empty(num_texts, np.int64)
    is_general = np.zeros(num_texts, np.bool_)
    for text in range(num_texts):
        start, end = offsets[text], offsets[text + 1]
        num_bytes[text] = end - start
        if _is_ascii(data[start:end]):
            continue
        position = start
        total = 0
        while position < end:
            code, length = code_point(data, position)
            if code >= len(is_alone) or not is_alone[code]:
                is_general[text] = True
                break
            total += mapped_starts[code + 1] - mapped_starts[code]
            position += length
        num_bytes[text] = total
    return num_bytes, is_general


@njit(cache=True, nogil=True)
def _write(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    is_general: NDArray[np.bool_],
    slow_data: NDArray[np.uint8],
    num_bytes: NDArray[np.int64],
    mapped: NDArray[np.uint8],
    mapped_starts: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> NDArray[np.int64]:
    """Write every normalized text to `out`; return the start of each."""
    starts = np.zeros(len(offsets), np.int64)
    position = 0
    slow_position = 0
    for text in range(len(offsets) - 1):
        size = num_bytes[text]
        if is_general[text]:
            out[position : position + size] = slow_data[slow_position : slow_position + size]
            position += size
            slow_position += size
        else:
            piece = data[offsets[text] : offsets[text + 1]]
            position += _write_mapped(piece, mapped, mapped_starts, out[position : position + size])
        starts[text + 1] = position
    return starts


# The loops of the next three functions are branch-free and use only bytes, so that they are
# vectorized: twenty times as fast as the general path.


@njit(cache=True, nogil=True)
def _is_ascii(text: NDArray[np.uint8]) -> bool:
    combined = np.uint8(0)
    for index in range(len(text)):
        combined |= text[index]
    return bool(combined < 128)


@njit(cache=True, nogil=True)
def _is_clean(text: NDArray[np.uint8]) -> bool:
    """Test for printable ASCII whose only white space is single blanks inside."""
    if len(text) == 0:
        return True
    dirty = np.uint8((text[0] == 32) | (text[-1] == 32))
    for index in range(len(text)):
        dirty |= np.uint8(np.uint8(text[index] - np.uint8(32)) >= np.uint8(95))
    previous, following = text[:-1], text[1:]
    for index in range(len(following)):
        dirty |= np.uint8((previous[index] | following[index]) == np.uint8(32))
    return bool(dirty == 0)


@njit(cache=True, nogil=True)
def _write_lower(text: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    for index in range(len(text)):
        is_upper = np.uint8(np.uint8(text[index] - np.uint8(65)) < np.uint8(26))
        out[index] = np.uint8(text[index] | np.uint8(is_upper << np.uint8(5)))


@njit(cache=True, nogil=True)
def _ascii_end(text: NDArray[np.uint8], position: int) -> int:
    """Find the end of the ASCII run that starts at `position`."""
    if text[position] >= 128:
        return position
    # Most texts are entirely ASCII.
    if position == 0 and _is_ascii(text):
        return len(text)
    while position + _BLOCK <= len(text) and _is_ascii(text[position : position + _BLOCK]):
        position += _BLOCK
    while position < len(text) and text[position] < 128:
        position += 1
    return position


@njit(cache=True, nogil=True)
def _write_mapped(
    text: NDArray[np.uint8],
    mapped: NDArray[np.uint8],
    mapped_starts: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> int:
    """Write the mapped characters, with one blank per run of white space inside the text.

    Returns:
        The number of bytes written.
    """
    position = 0
    cursor = 0
    is_blank_due = False
    while cursor < len(text):
        end = _ascii_end(text, cursor)
        if cursor < end and text[cursor] == _BLANK:
            is_blank_due = position > 0
            cursor += 1
        has_blank_after = cursor < end and text[end - 1] == _BLANK
        stretch = text[cursor : end - has_blank_after]
        if len(stretch) > 0 and _is_clean(stretch):
            if is_blank_due:
                out[position] = _BLANK
                position += 1
            _write_lower(stretch, out[position : position + len(stretch)])
            position += len(stretch)
            cursor = end
            is_blank_due = has_blank_after
        end = min(end + 1, len(text))
        while cursor < end:
            code, length = code_point(text, cursor)
            cursor += length
            for source in range(mapped_starts[code], mapped_starts[code + 1]):
                byte = mapped[source]
                if byte == _BLANK:
                    is_blank_due = position > 0
                    continue
                if is_blank_due:
                    out[position] = _BLANK
                    position += 1
                    is_blank_due = False
                out[position] = byte
                position += 1
    return position
