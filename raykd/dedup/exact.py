"""When two texts are the same text, and which of them stays."""

from collections.abc import Callable
from unicodedata import normalize

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import regex
import xxhash

_IGNORABLE = regex.compile(r"\p{Default_Ignorable_Code_Point}+")
# These scripts put no blank between words, so that each letter has to count as a word.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_WORD = regex.compile(
    rf"{_UNSPACED}\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--{_UNSPACED}]+", flags=regex.VERSION1
)
_ASCII_TO_BLANKS = {code: " " for code in range(128) if not chr(code).isalnum()}
_BATCH_ROWS = 8192


def normalise(text: str) -> str:
    """The form in which texts are compared: Unicode's NFKC_Casefold, white space collapsed.

    Case, composed or decomposed accents, ligatures, full-width letters, soft hyphens and other
    invisible characters make no difference; punctuation does. Applying it twice changes nothing.

    Source: The Unicode Standard, section 3.13, definitions D146 and D147.
    """
    if text.isascii():
        return " ".join(text.lower().split())
    folded = normalize("NFKD", normalize("NFD", text).casefold()).casefold()
    return " ".join(normalize("NFKC", _IGNORABLE.sub("", folded)).split())


def words(normalised: str) -> list[str]:
    """Runs of letters, marks and digits, so that `said , "no"` has the words of `said, "no"`.

    Where a script has no blanks (Chinese, Japanese, Thai, ...) each letter is a word.
    """
    if normalised.isascii():
        return normalised.translate(_ASCII_TO_BLANKS).split()
    return [str(word) for word in _WORD.findall(normalised)]


def first_equal(
    texts: pa.ChunkedArray,
    digest: Callable[[bytes], bytes] = xxhash.xxh3_128_digest,
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> npt.NDArray[np.int64]:
    """For each text (N,), the position of the first one that is equal to it when normalised.

    A text is its own first when it is to be kept. Only the digests (16 bytes each) are held;
    texts with equal digests are compared themselves.

    Args:
        texts: strings.
        digest: 16 bytes of a text.
        advance: told of every text read, N in all.
    """
    digests = bytearray()
    for chunk in texts.chunks:
        for start in range(0, len(chunk), _BATCH_ROWS):
            batch = chunk.slice(start, _BATCH_ROWS).to_pylist()
            for text in batch:
                digests += digest(normalise(text).encode())
            advance(len(batch))
    halves = np.frombuffer(bytes(digests), dtype=np.uint64).reshape(-1, 2)
    firsts = np.arange(len(halves), dtype=np.int64)
    # lexsort is stable: positions with one digest stay in ascending order.
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    sorted_halves = halves[order]
    is_start = np.ones(len(order) + 1, dtype=bool)
    is_start[1:-1] = np.any(sorted_halves[1:] != sorted_halves[:-1], axis=1)
    starts = np.flatnonzero(is_start)
    for group in np.flatnonzero(np.diff(starts) > 1):
        seen: dict[str, int] = {}
        for position in order[starts[group] : starts[group + 1]].tolist():
            firsts[position] = seen.setdefault(normalise(texts[position].as_py()), position)
    return firsts
