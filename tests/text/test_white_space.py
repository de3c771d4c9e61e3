"""Vectorized counts equal the counts of Python per character."""

from itertools import product

import numpy as np
import pytest

from raykd.text.white_space import count_words, lines_with_words

SPACES = [" ", "\t", "\x1c", "\x85", "\xa0", "\u1680", "\u2000", "\u2029", "\u205f", "\u3000"]
# Of one to four bytes; the first bytes of some are also those of white space.
LETTERS = ["a", "é", "¡", "က", "€", "、", "\uffff", "😀"]
# One more byte than is compared at once, so that each pattern occurs at every offset.
SHIFTS = range(65)


def side_by_side(texts):
    """All texts in one array, where each starts, and where it stops."""
    stops = np.cumsum([len(text.encode()) for text in texts])
    data = np.frombuffer("".join(texts).encode(), np.uint8)
    return data, np.append(0, stops[:-1]), stops


@pytest.mark.parametrize("letter", LETTERS)
def test_words_are_counted_for_any_alignment_of_characters(letter):
    texts = [
        "x" * shift + letter + space + letter + tail
        for shift, space, tail in product(SHIFTS, SPACES, ["", " y" * 40, "\u3000" + "y" * 70])
    ]
    assert count_words(*side_by_side(texts)).tolist() == [len(text.split()) for text in texts]


def test_lines_of_white_space_are_skipped_for_any_alignment():
    lines = ["x" * shift + middle for shift, middle in product(SHIFTS, ["", "é", "\u3000", "\r"])]
    blank = [space * 3 for space in SPACES * 26]
    text = "\n".join(f"{line}\n{between}" for line, between in zip(lines, blank, strict=True))
    data = text.encode()
    starts, stops = lines_with_words(np.frombuffer(data, np.uint8))
    found = [data[start:stop].decode() for start, stop in zip(starts, stops, strict=True)]
    assert found == [line.removesuffix("\r") for line in lines if line.strip()]
