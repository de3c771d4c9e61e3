"""Naive implementation of cutting documents into units, one string at a time."""

import re

import regex

from raykd.corpus.units import sentences

TOKEN = re.compile(r"\S+")
SCRIPTS = ["Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar"]
U = "[" + "".join(rf"\p{{{script}}}" for script in SCRIPTS) + r"]--\p{M}"
L = rf"[\p{{L}}\p{{N}}]--[{U}]"
OTHER = rf"\p{{Any}}--[{U}]--[{L}]"
HAS_UNSPACED = regex.compile(f"[{U}]", flags=regex.VERSION1)
# Punctuation, then a letter of a script without blanks or a run of others, and punctuation.
WORD = regex.compile(
    rf"[{OTHER}]*[{U}][{OTHER}]*|[{OTHER}]*[{L}][[{L}][{OTHER}]]*|[{OTHER}]+",
    flags=regex.VERSION1,
)


def words_between(text, start, stop):
    """Return the spans of the words."""
    for token in TOKEN.finditer(text, start, stop):
        if not token.group().isascii() and HAS_UNSPACED.search(token.group()):
            for word in WORD.finditer(token.group()):
                yield token.start() + word.start(), token.start() + word.end()
        else:
            yield token.span()


def cut(text, config):
    """Return all pieces of a document, with short ones: (character offset, piece, words)."""
    num_words = len(list(words_between(text, 0, len(text))))
    if config.policy == "line":
        return [(0, text, num_words)]
    if config.policy == "packed" and 0 < num_words <= config.max_words:
        return [(len(text) - len(text.lstrip()), text.strip(), num_words)]
    pieces = bounded(text, config.max_words)
    if config.policy == "packed":
        pieces = packed(pieces, config.max_words)
    return [(start, text[start:stop], num_words) for start, stop, num_words in pieces]


def units_of(text, config):
    """Return the kept pieces: (character offset, piece)."""
    return [
        (offset, piece)
        for offset, piece, num_words in cut(text, config)
        if config.policy == "line" or num_words >= config.min_words
    ]


def bounded(text, max_words):
    """Return stripped sentences; those with more than `max_words` words are cut."""
    start = 0
    for length in sentences(text):
        words = list(words_between(text, start, start + length))
        for first in range(0, len(words), max_words):
            group = words[first : first + max_words]
            yield group[0][0], group[-1][1], len(group)
        start += length


def packed(pieces, max_words):
    """Join adjacent pieces as long as they have at most `max_words` words."""
    joined = []
    for start, stop, num_words in pieces:
        if joined and joined[-1][2] + num_words <= max_words:
            joined[-1] = (joined[-1][0], stop, joined[-1][2] + num_words)
        else:
            joined.append((start, stop, num_words))
    return joined
