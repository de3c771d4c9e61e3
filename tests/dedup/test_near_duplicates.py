import random

import numpy as np
import oracle_dedup
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.dedup.buckets import NUM_HEADS, Buckets, keys_of, near_pairs
from raykd.dedup.clusters import near_duplicates
from raykd.dedup.minhash import NearDuplicatesConfig, band_keys, jaccard, shingles

CONFIG = NearDuplicatesConfig()
# Few words, so that shingles are shared; of every kind that words are made of.
WORDS = [
    "a",
    "B",
    "naïve",
    "x_1",
    "我喜",
    "ข\u0e31น",
    "ก\u0301",
    "!",
    "\u0301",
    "e\u0301",
    "नमस्ते",
    "--",
]
TEXT = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join) | st.text(max_size=8)


def units(texts):
    return pa.table({"unit_id": [f"u{row:04}" for row in range(len(texts))], "text": texts})


def similarity(left, right, shingle_words):
    sets = shingles(pa.array([left, right]), shingle_words).sets()
    return float(jaccard(sets, np.array([0]), np.array([1]))[0])


def variant(text, num_changes, seed):
    parts = text.split()
    for position in random.Random(seed).sample(range(len(parts)), num_changes):
        parts[position] = f"changed{seed}x{position}"
    return " ".join(parts)


def prose(seed, num_words=100):
    choose = random.Random(seed)
    return " ".join(f"w{choose.randrange(5000)}" for _ in range(num_words))


@settings(deadline=None)
@given(TEXT, TEXT, st.integers(1, 4))
def test_jaccard_equals_that_of_the_shingle_sets(left, right, shingle_words):
    expected = oracle_dedup.jaccard(left, right, shingle_words)
    assert similarity(left, right, shingle_words) == expected


def test_every_character_gives_the_same_words_alone_and_in_a_column():
    codes = [*range(0x3400), *range(0x3400, 0xD800, 16), *range(0xE000, 0x30000, 16)]
    texts = [f"a{chr(code)}b\u0301c{chr(code)}{chr(code)}\u0301" for code in codes]
    text_shingles = shingles(pa.array(texts), 1).num_each().tolist()
    assert text_shingles == [
        len(oracle_dedup.words(oracle_dedup.normalize(text))) for text in texts
    ]


def test_a_text_shorter_than_a_shingle_is_one_shingle_and_one_without_words_is_none():
    text_shingles = shingles(
        pa.array(["one two", "", "?!", "one two three four five six", "One, two"]), 5
    )
    assert text_shingles.num_each().tolist() == [1, 0, 0, 2, 1]
    assert text_shingles.hashes[0] == text_shingles.hashes[-1]
    removals = near_duplicates(units(["?", "!", "", "a b", "A, b!"]), CONFIG)
    assert removals.rows.tolist() == [4]
    assert removals.partners.tolist() == [3]
    assert removals.similarities.tolist() == [1.0]


def every_pair(one, other):
    return True


def removals_of(texts, config, key_bits=64):
    removals = near_duplicates(units(texts), config, key_bits=key_bits)
    columns = (removals.rows, removals.partners, removals.similarities)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def expected_removals(texts, config, has_key):
    size = config.shingle_words
    partners = oracle_dedup.near_partners(texts, config.threshold, size, has_key)
    return [
        (row, partner, oracle_dedup.jaccard(texts[row], texts[partner], size))
        for row, partner in enumerate(partners)
        if partner != row
    ]


@settings(deadline=None)
@given(st.lists(TEXT, max_size=12), st.sampled_from([0.2, 0.5, 0.8, 1.0]), st.integers(1, 3))
def test_removals_match_the_naive_result_if_every_pair_is_a_candidate(texts, threshold, size):
    config = NearDuplicatesConfig(threshold=threshold, shingle_words=size, num_bands=2)
    assert removals_of(texts, config, key_bits=0) == expected_removals(texts, config, every_pair)


# Sets of 5 of 7 words: many pairs near the thresholds, and buckets larger than the heads.
FEW_WORDS = st.lists(st.sets(st.sampled_from("abcdefg"), min_size=2, max_size=5), max_size=60)


@settings(deadline=None)
@given(
    FEW_WORDS, st.sampled_from([0.3, 0.5, 0.7]), st.integers(0, 6), st.integers(1, 3), st.integers()
)
def test_of_units_with_a_shared_key_a_near_duplicate_of_a_kept_unit_is_removed(
    sets, threshold, key_bits, num_bands, seed
):
    texts = [" ".join(sorted(words)) for words in sets]
    config = NearDuplicatesConfig(
        threshold=threshold,
        shingle_words=1,
        num_bands=num_bands,
        rows_per_band=2,
        seed=seed % 2**64,
    )
    _, keys = keys_of(pa.chunked_array([pa.array(texts, pa.string())]), config, key_bits)

    def has_key(one, other):
        return bool((keys[one] == keys[other]).any())

    assert removals_of(texts, config, key_bits) == expected_removals(texts, config, has_key)


def test_shifted_units_are_removed_only_for_a_unit_that_they_largely_share():
    words = [f"w{number}" for number in range(150)]
    texts = [" ".join(words[3 * step : 3 * step + 60]) for step in range(30)]
    removals = removals_of(texts, CONFIG, key_bits=4)
    # Of three in a row the first is kept; it shares 53 of 59 and 50 of 62 shingles with the others.
    assert [(row, partner) for row, partner, _ in removals] == [
        (row, row - row % 3) for row in range(30) if row % 3
    ]
    assert {round(similarity, 3) for _, _, similarity in removals} == {0.806, 0.898}


def test_bands_miss_few_near_duplicates_and_add_none():
    texts = [prose(seed) for seed in range(60)]
    texts += [variant(text, seed % 4, seed) for seed, text in enumerate(texts)]
    removals = removals_of(texts, CONFIG)
    expected = expected_removals(texts, CONFIG, every_pair)
    assert set(removals) <= set(expected)
    assert len(removals) >= 0.9 * len(expected)
    assert removals_of(texts, CONFIG, key_bits=4) == expected


def test_the_signature_estimates_jaccard_without_bias():
    config = NearDuplicatesConfig(num_bands=1024, rows_per_band=1)
    left, right = prose(1, 200), variant(prose(1, 200), 10, 1)
    keys = [band_keys(shingles(pa.array([left, right]), 5), config)]
    for seed in range(1, 8):
        keys.append(
            band_keys(
                shingles(pa.array([left, right]), 5), config.model_copy(update={"seed": seed})
            )
        )
    estimate = float(np.mean([one == other for one, other in keys]))
    # Four standard deviations of 8192 independent rows.
    assert estimate == pytest.approx(oracle_dedup.jaccard(left, right, 5), abs=0.022)


def test_in_a_chain_a_unit_is_kept_if_no_earlier_kept_unit_is_near():
    texts = [prose(0)]
    for step in range(12):
        texts.append(variant(texts[-1], 1, step))
    removals = removals_of(texts, CONFIG)
    assert {similarity >= CONFIG.threshold for _, _, similarity in removals} == {True}
    partners = {partner for _, partner, _ in removals}
    assert 0 in partners
    assert len(partners) > 1
    assert not partners & {row for row, _, _ in removals}


def test_removals_depend_only_on_earlier_units():
    texts = [variant(prose(seed % 40), seed % 5, seed) for seed in range(200)]
    # More of a kind than are compared pair by pair.
    texts += [f"{prose(1000)} page {number}" for number in range(150)]
    random.Random(5).shuffle(texts)
    whole = removals_of(texts, CONFIG)
    assert len(whole) > 200
    for num_texts in (50, 200, 330):
        assert removals_of(texts[:num_texts], CONFIG) == [
            removal for removal in whole if removal[0] < num_texts
        ]


def test_one_of_many_similar_units_is_kept_without_comparing_all_pairs():
    texts = [f"{prose(1000)} page {number}" for number in range(2000)]

    taken = pa.array(texts)
    buckets = Buckets.of_keys(np.zeros(2000, np.uint64), np.arange(2000), lambda rows: rows)
    pairs = near_pairs(buckets, lambda rows: taken.take(pa.array(rows)), CONFIG)
    assert len(pairs.left) < 2000 * NUM_HEADS
    assert [row for row, _, _ in removals_of(texts, CONFIG, key_bits=0)] == list(range(1, 2000))


@pytest.mark.parametrize("texts", [[], [""], ["a"], [None, None]])
def test_tables_of_zero_and_one_rows_have_no_near_duplicates(texts):
    table = pa.table(
        {"unit_id": pa.array(range(len(texts)), pa.int64()), "text": pa.array(texts, pa.string())}
    )
    assert near_duplicates(table, CONFIG).rows.tolist() == []


def test_the_seed_changes_the_hash_functions():
    text_shingles = shingles(pa.array([prose(1)]), 5)
    keys = band_keys(text_shingles, CONFIG)
    assert (keys == band_keys(text_shingles, CONFIG)).all()
    assert not (keys == band_keys(text_shingles, NearDuplicatesConfig(seed=1))).any()
    assert len(set(keys[0].tolist())) == 16
