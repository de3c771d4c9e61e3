"""Postings of a superblock, against a dictionary of lists."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from raykd.retrieval.bm25.block_max import LISTED, block_maxima
from raykd.retrieval.bm25.forward_index import ForwardIndex
from raykd.retrieval.bm25.postings import Postings, postings_of
from raykd.retrieval.bm25.scoring import Bm25Config, saturation_form
from raykd.text.analyzer import TermLookup


def found_postings(texts, terms):
    """(term, unit, saturation) of every posting, and the same by hand, all lengths being 1."""
    known, statistics = ForwardIndex.of([pa.array(texts)], TermLookup(terms), len(terms))
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
def test_a_term_is_counted_for_any_number_of_occurrences(tf):
    # The first 256 terms of a shard are in a separate stream.
    terms = [f"t{number:03d}" for number in range(300)]
    texts = [" ".join(terms), "t299 " * tf + "t000", "t000 " * tf, "", "t000 t299 t000"]
    found, by_hand, statistics = found_postings(texts, terms)
    assert found == pytest.approx(by_hand)
    assert statistics.df[[0, 1, 299]].tolist() == [4, 1, 3]


def test_terms_are_distinguished_for_any_vocabulary_size():
    terms = [f"t{number:06d}" for number in range(70_000)]
    texts = [" ".join(terms[first::7]) + " " + terms[first] for first in range(7)]
    found, by_hand, _ = found_postings(texts, terms)
    assert found == pytest.approx(by_hand)


@pytest.mark.parametrize("block_units", [1, 2, 3, 4, 7, 60_000])
def test_a_block_maximum_is_the_largest_score_of_its_units_rounded_up(block_units):
    rng = np.random.default_rng(8)
    num_units, table, idf = 65_536, rng.random(50), np.array([3.0, 0.5, 2.0, 0.0, 1.0])
    # A term in few units, one in the last only, one in none, one of no weight, one in most.
    units = [np.array([0, 1, 5, 12, 65_535]), np.array([65_535]), [], np.array([3, 9])]
    units.append(np.sort(rng.choice(num_units, 40_000, replace=False)))
    codes = [rng.integers(0, 50, len(own)) for own in units]
    offsets = np.concatenate([[0], np.cumsum([len(own) for own in units])]).astype(np.int32)
    postings = Postings(
        offsets,
        np.concatenate(units).astype(np.uint16),
        np.concatenate(codes).astype(np.uint16),
        table,
    )
    num_blocks = -(-num_units // block_units)
    maxima = block_maxima(postings, idf, block_units, num_blocks)
    for term in range(5):
        by_hand = np.zeros(num_blocks, np.int64)
        steps = np.ceil(idf[term] * (1 / maxima.step) * table[codes[term]])
        blocks = np.asarray(units[term], np.int64) // block_units
        np.maximum.at(by_hand, blocks, np.minimum(steps, 255).astype(np.int64))
        start, size, highest, row = maxima.terms[term].tolist()
        found = np.zeros(num_blocks, np.int64)
        if row == LISTED:
            listed = maxima.blocks[start : start + size].tolist()
            assert listed == sorted(set(listed))
            found[listed] = maxima.maxima[start : start + size]
        else:
            found += maxima.dense[row]
        assert np.array_equal(found, by_hand)
        assert highest == by_hand.max()
