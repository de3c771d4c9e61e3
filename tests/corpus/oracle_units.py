"""The slow, obvious way from documents to units, one string at a time."""

import re

from raykd.corpus.units import sentences

WORD = re.compile(r"\S+")


def cut(text, config):
    """Pieces of a document, the short ones included: (character offset, piece, words)."""
    num_words = len(text.split())
    if config.policy == "line":
        return [(0, text, num_words)]
    if config.policy == "packed" and 0 < num_words <= config.max_words:
        return [(len(text) - len(text.lstrip()), text.strip(), num_words)]
    pieces = bounded(text, config.max_words)
    if config.policy == "packed":
        pieces = packed(pieces, config.max_words)
    return [(start, text[start:stop], num_words) for start, stop, num_words in pieces]


def units_of(text, config):
    """The pieces that are kept: (character offset, piece)."""
    return [
        (offset, piece)
        for offset, piece, num_words in cut(text, config)
        if config.policy == "line" or num_words >= config.min_words
    ]


def bounded(text, max_words):
    """Sentences without white space around them, cut where they hold more than `max_words`."""
    start = 0
    for length in sentences(text):
        words = [word.span() for word in WORD.finditer(text, start, start + length)]
        for first in range(0, len(words), max_words):
            group = words[first : first + max_words]
            yield group[0][0], group[-1][1], len(group)
        start += length


def packed(pieces, max_words):
    """Neighbours joined as long as they hold at most `max_words`."""
    joined = []
    for start, stop, num_words in pieces:
        if joined and joined[-1][2] + num_words <= max_words:
            joined[-1] = (joined[-1][0], stop, joined[-1][2] + num_words)
        else:
            joined.append((start, stop, num_words))
    return joined
