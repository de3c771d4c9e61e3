"""The form in which texts are compared: one text at a time, or a whole column, compiled."""

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

# Code points below this are normalized by the kernel where they can be taken one by one: the
# alphabets of the world and the Chinese letters, which stay as they are.
_NUM_MAPPED = 0xA000
_FIRST_CHINESE = 0x3400
# The whole of Unicode's combinations with a second letter that is no mark: vowels and finals of
# Hangul syllables.
_HANGUL_SECONDS = (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))
_BLANK = 32
# Bytes looked at together.
_BLOCK = 128


def normalize(text: str) -> str:
    """The form in which texts are compared: Unicode's NFKC_Casefold, white space collapsed.

    Case, composed or decomposed accents, ligatures, full-width letters, soft hyphens and other
    invisible characters make no difference; punctuation does. Applying it twice changes nothing.

    Source: The Unicode Standard, section 3.13, definitions D146 and D147.
    """
    if text.isascii():
        return " ".join(text.lower().split())
    return " ".join(_folded(text).split())


def words(normalized: str) -> list[str]:
    """Runs of letters, marks and digits, so that `said , "no"` has the words of `said, "no"`.

    Where a script has no blanks (Chinese, Japanese, Thai, ...) each letter is a word.
    """
    if normalized.isascii():
        return normalized.translate(_ASCII_TO_BLANKS).split()
    return [str(word) for word in _WORD.findall(normalized)]


@dataclass(frozen=True)
class Normalized:
    """Normalized texts as UTF-8, one after the other; text u is data[starts[u]:starts[u + 1]].

    data: (num_bytes,); starts: (U + 1,).
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def texts(self) -> Iterator[memoryview]:
        """The bytes of each text."""
        view = self.data.data
        return (view[start:end] for start, end in pairwise(self.starts.tolist()))


def normalize_all(texts: pa.Array) -> Normalized:
    """What `normalize` makes of each text, several times as fast as calling it.

    Texts with letters that cannot be taken one by one (combining marks, Hangul, and all that lies
    beyond U+9FFF) go through `normalize` itself.

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
    """Bytes, and where each text starts in them; nulls have no bytes."""
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
    """What code points below `_NUM_MAPPED` become, and which can be taken one by one.

    A letter can when it, and all that the steps of `normalize` make of it, starts with one that
    no mark order and no composition ties to the letter before it.

    Returns:
        UTF-8 bytes, white space as blanks; (N + 1,) where each code point's start; (N,) bool.

    Source: Unicode Standard Annex 15, "Normalization Forms", section 9, on boundaries.
    """
    # No pair stands above U+1FFFF but those of CJK compatibility, which are single letters.
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
def code_point(data: NDArray[np.uint8], at: int) -> tuple[np.int64, int]:
    """Code point of the UTF-8 sequence at `at`, and its number of bytes."""
    first = np.int64(data[at])
    if first < 0x80:
        return first, 1
    if first < 0xE0:
        return (first & 31) << 6 | np.int64(data[at + 1]) & 63, 2
    code = np.int64(data[at + 1]) & 63
    code = code << 6 | np.int64(data[at + 2]) & 63
    if first < 0xF0:
        return (first & 15) << 12 | code, 3
    return (first & 7) << 18 | code << 6 | np.int64(data[at + 3]) & 63, 4


@njit(cache=True, nogil=True)
def _measure(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    mapped_starts: NDArray[np.int32],
    is_alone: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Upper bound of the bytes of each normalized text, and which the kernel cannot take."""
    num_texts = len(offsets) - 1
    num_bytes = np.empty(num_texts, np.int64)
    is_general = np.zeros(num_texts, np.bool_)
    for text in range(num_texts):
        start, end = offsets[text], offsets[text + 1]
        num_bytes[text] = end - start
        if _is_ascii(data[start:end]):
            continue
        at = start
        total = 0
        while at < end:
            code, length = code_point(data, at)
            if code >= len(is_alone) or not is_alone[code]:
                is_general[text] = True
                break
            total += mapped_starts[code + 1] - mapped_starts[code]
            at += length
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
    """Write every normalized text to `out`; returns where each starts."""
    starts = np.zeros(len(offsets), np.int64)
    position = 0
    slow_at = 0
    for text in range(len(offsets) - 1):
        size = num_bytes[text]
        if is_general[text]:
            out[position : position + size] = slow_data[slow_at : slow_at + size]
            position += size
            slow_at += size
        else:
            piece = data[offsets[text] : offsets[text + 1]]
            position += _write_mapped(piece, mapped, mapped_starts, out[position : position + size])
        starts[text + 1] = position
    return starts


# The next three have no branch in their loops and no number wider than a byte, so that they
# become vector instructions: twenty times as fast as the general way.


@njit(cache=True, nogil=True)
def _is_ascii(text: NDArray[np.uint8]) -> bool:
    found = np.uint8(0)
    for at in range(len(text)):
        found |= text[at]
    return bool(found < 128)


@njit(cache=True, nogil=True)
def _is_clean(text: NDArray[np.uint8]) -> bool:
    """Whether a text is printable ASCII whose only white space is single blanks inside."""
    if len(text) == 0:
        return True
    dirty = np.uint8((text[0] == 32) | (text[-1] == 32))
    for at in range(len(text)):
        dirty |= np.uint8(np.uint8(text[at] - np.uint8(32)) >= np.uint8(95))
    previous, following = text[:-1], text[1:]
    for at in range(len(following)):
        dirty |= np.uint8((previous[at] | following[at]) == np.uint8(32))
    return bool(dirty == 0)


@njit(cache=True, nogil=True)
def _write_lower(text: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    for at in range(len(text)):
        is_upper = np.uint8(np.uint8(text[at] - np.uint8(65)) < np.uint8(26))
        out[at] = np.uint8(text[at] | np.uint8(is_upper << np.uint8(5)))


@njit(cache=True, nogil=True)
def _ascii_end(text: NDArray[np.uint8], at: int) -> int:
    """Where the ASCII that starts at `at` ends."""
    if text[at] >= 128:
        return at
    # All at once first: the way of most texts.
    if at == 0 and _is_ascii(text):
        return len(text)
    while at + _BLOCK <= len(text) and _is_ascii(text[at : at + _BLOCK]):
        at += _BLOCK
    while at < len(text) and text[at] < 128:
        at += 1
    return at


@njit(cache=True, nogil=True)
def _write_mapped(
    text: NDArray[np.uint8],
    mapped: NDArray[np.uint8],
    mapped_starts: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> int:
    """Write what each letter becomes, with one blank for a run of white space inside the text.

    Returns the number of bytes written.
    """
    position = 0
    at = 0
    is_blank_due = False
    while at < len(text):
        end = _ascii_end(text, at)
        if at < end and text[at] == _BLANK:
            is_blank_due = position > 0
            at += 1
        has_blank_after = at < end and text[end - 1] == _BLANK
        stretch = text[at : end - has_blank_after]
        if len(stretch) > 0 and _is_clean(stretch):
            if is_blank_due:
                out[position] = _BLANK
                position += 1
            _write_lower(stretch, out[position : position + len(stretch)])
            position += len(stretch)
            at = end
            is_blank_due = has_blank_after
        end = min(end + 1, len(text))
        while at < end:
            code, length = code_point(text, at)
            at += length
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
