"""Postings of a superblock are those that a dictionary of lists gives."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from raykd.corpus.analyze import TermLookup
from raykd.retrieval.known_terms import KnownTerms
from raykd.retrieval.postings import postings_of
from raykd.retrieval.scoring import Bm25Config, saturation_form


def found_postings(texts, terms):
    """(term, unit, saturation) of every posting, and the same by hand, all lengths being 1."""
    known, statistics = KnownTerms.of([pa.array(texts)], TermLookup(terms), len(terms))
    form = saturation_form(Bm25Config())
    zeros = np.zeros(len(texts), np.int32)
    made = postings_of(known.streams, zeros, np.ones(1), len(terms), form, (0, len(texts)))
    named = {number: term for term, number in zip(terms, known.term_numbers, strict=True)}
    found = {
        (named[number], unit): made.table[code]
        for number in range(len(terms))
        for unit, code in zip(
            made.units[made.offsets[number] : made.offsets[number + 1]].tolist(),
            made.codes[made.offsets[number] : made.offsets[number + 1]].tolist(),
            strict=True,
        )
    }
    by_hand = {
        (term, unit): tf / (tf + 1)
        for unit, text in enumerate(texts)
        for term, tf in Counter(text.split()).items()
    }
    return found, by_hand, statistics


def test_the_last_of_65_536_units_has_its_postings():
    texts = ["a"] * 65_535 + ["a b b"]
    found, by_hand, statistics = found_postings(texts, ["a", "b"])
    assert found == pytest.approx(by_hand)
    assert statistics.df.tolist() == [65_536, 1]


@pytest.mark.parametrize("tf", [32_767, 32_768, 70_000])
def test_a_term_is_counted_however_often_a_unit_says_it(tf):
    # The first 256 terms of a shard stand in a stream of their own.
    terms = [f"t{number:03d}" for number in range(300)]
    texts = [" ".join(terms), "t299 " * tf + "t000", "t000 " * tf, "", "t000 t299 t000"]
    found, by_hand, statistics = found_postings(texts, terms)
    assert found == pytest.approx(by_hand)
    assert statistics.df[[0, 1, 299]].tolist() == [4, 1, 3]


def test_terms_are_told_apart_however_many_there_are():
    terms = [f"t{number:06d}" for number in range(70_000)]
    texts = [" ".join(terms[first::7]) + " " + terms[first] for first in range(7)]
    found, by_hand, _ = found_postings(texts, terms)
    assert found == pytest.approx(by_hand)
