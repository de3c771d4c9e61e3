"""Documents to retrieval units: sentences, sentences packed into passages, or whole lines."""

import re
from collections.abc import Iterable, Iterator
from typing import Literal, Self

import sentencex
from pydantic import Field, model_validator

from raykd.config import Config

# sentencex takes quadratic time on long text with sentence ends outside ASCII.
WINDOW_CHARS = 8192
_WORD = re.compile(r"\S+")

_Span = tuple[int, int]


class UnitsConfig(Config):
    """How a document becomes units; a word is what stands between white space.

    The default is the size of the passages that the CILDA and contextual-corpus papers retrieve:
    392 to 495 bytes, about 75 words on average.
    """

    policy: Literal["packed", "sentence", "line"] = "packed"
    max_words: int = Field(default=100, ge=1)
    min_words: int = Field(default=5, ge=1)

    @model_validator(mode="after")
    def _some_length_fits(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is above max_words {self.max_words}")
        return self


def unit_id(source_digest: str, record_offset: int, char_offset: int) -> str:
    """Name of a unit, made of its source's content and its place there alone.

    Within a source the names sort as the text runs.

    Args:
        source_digest: hexadecimal digest of the source file; its first 16 digits are used.
        record_offset: where the document stands in the file: byte of its line, or row.
        char_offset: where the unit starts in the document.
    """
    return f"{source_digest[:16]}-{record_offset:012d}-{char_offset:08d}"


def cut(text: str, config: UnitsConfig) -> Iterator[tuple[int, str, int]]:
    """Cut a document into pieces, the short ones included.

    `packed` joins neighbouring sentences as long as they hold at most `max_words` words;
    `sentence` keeps each apart. Both cut a longer sentence at white space. `line` keeps the
    document as it is.

    Yields:
        (character offset, piece, number of words); the piece stands in the text at the offset.
    """
    num_words = len(text.split())
    if config.policy == "line":
        yield 0, text, num_words
    elif config.policy == "packed" and 0 < num_words <= config.max_words:
        yield len(text) - len(text.lstrip()), text.strip(), num_words
    else:
        pieces = _bounded(text, _sentences(text), config.max_words)
        if config.policy == "packed":
            pieces = _packed(pieces, config.max_words)
        for start, stop, piece_words in pieces:
            yield start, text[start:stop], piece_words


def is_unit(num_words: int, config: UnitsConfig) -> bool:
    """Whether a piece of this many words is long enough to be kept; a `line` always is."""
    return config.policy == "line" or num_words >= config.min_words


def _sentences(text: str) -> Iterator[_Span]:
    """Spans that cover the text; a sentence that a window cuts off is read again in the next."""
    position = 0
    while position < len(text):
        window = text[position : position + WINDOW_CHARS]
        sentences = [sentence for sentence in sentencex.segment("en", window) if sentence]
        if position + len(window) < len(text):
            if len(sentences) > 1:
                sentences.pop()
            else:
                sentences = [_up_to_last_space(window)]
        for sentence in sentences:
            yield position, position + len(sentence)
            position += len(sentence)


def _up_to_last_space(window: str) -> str:
    head = window.rsplit(None, 1)
    return window[: len(head[0])] if len(head) == 2 else window


def _bounded(text: str, spans: Iterable[_Span], max_words: int) -> Iterator[tuple[int, int, int]]:
    """Spans with their number of words, trimmed, and cut where they hold more than `max_words`."""
    for start, stop in spans:
        sentence = text[start:stop]
        num_words = len(sentence.split())
        if num_words > max_words:
            words = [word.span() for word in _WORD.finditer(text, start, stop)]
            for first in range(0, num_words, max_words):
                group = words[first : first + max_words]
                yield group[0][0], group[-1][1], len(group)
        elif num_words:
            indent = len(sentence) - len(sentence.lstrip())
            yield start + indent, start + len(sentence.rstrip()), num_words


def _packed(
    pieces: Iterable[tuple[int, int, int]], max_words: int
) -> Iterator[tuple[int, int, int]]:
    packed: tuple[int, int, int] | None = None
    for start, stop, num_words in pieces:
        if packed is None:
            packed = (start, stop, num_words)
        elif packed[2] + num_words <= max_words:
            packed = (packed[0], stop, packed[2] + num_words)
        else:
            yield packed
            packed = (start, stop, num_words)
    if packed is not None:
        yield packed
