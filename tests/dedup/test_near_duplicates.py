import random

import numpy as np
import oracle_dedup
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.dedup.clusters import candidate_pairs, components, near_duplicates
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
    for at in random.Random(seed).sample(range(len(parts)), num_changes):
        parts[at] = f"changed{seed}x{at}"
    return " ".join(parts)


def prose(seed, num_words=100):
    choose = random.Random(seed)
    return " ".join(f"w{choose.randrange(5000)}" for _ in range(num_words))


@settings(deadline=None)
@given(TEXT, TEXT, st.integers(1, 4))
def test_jaccard_is_that_of_the_sets_of_shingles(left, right, shingle_words):
    expected = oracle_dedup.jaccard(left, right, shingle_words)
    assert similarity(left, right, shingle_words) == expected


def test_every_character_makes_the_words_it_makes_by_itself():
    codes = [*range(0x3400), *range(0x3400, 0xD800, 16), *range(0xE000, 0x30000, 16)]
    texts = [f"a{chr(code)}b\u0301c{chr(code)}{chr(code)}\u0301" for code in codes]
    found = shingles(pa.array(texts), 1).num_each().tolist()
    assert found == [len(oracle_dedup.words(oracle_dedup.normalise(text))) for text in texts]


def test_a_text_shorter_than_a_shingle_is_one_shingle_and_one_without_words_is_none():
    found = shingles(pa.array(["one two", "", "?!", "one two three four five six", "One, two"]), 5)
    assert found.num_each().tolist() == [1, 0, 0, 2, 1]
    assert found.hashes[0] == found.hashes[-1]
    removals = near_duplicates(units(["?", "!", "", "a b", "A, b!"]), CONFIG)
    assert removals.rows.tolist() == [4]
    assert removals.partners.tolist() == [3]
    assert removals.similarities.tolist() == [1.0]


@settings(deadline=None)
@given(st.lists(TEXT, max_size=12), st.sampled_from([0.2, 0.5, 0.8, 1.0]), st.integers(1, 3))
def test_with_every_pair_a_candidate_the_removals_are_those_of_all_pairs(texts, threshold, size):
    config = NearDuplicatesConfig(threshold=threshold, shingle_words=size, num_bands=2)
    found = near_duplicates(units(texts), config, key_bits=0)
    firsts = oracle_dedup.near_firsts(texts, threshold, size)
    expected = [row for row, first in enumerate(firsts) if first != row]
    assert found.rows.tolist() == expected
    assert found.partners.tolist() == [firsts[row] for row in expected]
    assert found.similarities.tolist() == [
        oracle_dedup.jaccard(texts[row], texts[firsts[row]], size) for row in expected
    ]


def test_bands_lose_few_near_duplicates_and_add_none():
    texts = [prose(seed) for seed in range(60)]
    texts += [variant(text, seed % 4, seed) for seed, text in enumerate(texts)]
    found = near_duplicates(units(texts), CONFIG)
    firsts = oracle_dedup.near_firsts(texts, CONFIG.threshold, CONFIG.shingle_words)
    expected = {row for row, first in enumerate(firsts) if first != row}
    assert set(found.rows.tolist()) <= expected
    assert len(found.rows) >= 0.9 * len(expected)
    assert near_duplicates(units(texts), CONFIG, key_bits=4).rows.tolist() == sorted(expected)


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


def test_a_chain_is_one_cluster_of_which_the_first_is_kept():
    texts = [prose(0)]
    for step in range(12):
        texts.append(variant(texts[-1], 1, step))
    found = near_duplicates(units(texts), CONFIG)
    assert found.rows.tolist() == list(range(1, 13))
    assert set(found.partners.tolist()) == {0}
    assert found.similarities[0] >= 0.8
    assert found.similarities[-1] < 0.8


def test_the_clusters_do_not_depend_on_the_order_of_the_rows():
    texts = [variant(prose(seed % 40), seed % 5, seed) for seed in range(200)]
    # More of a kind than are compared pair by pair.
    texts += [f"{prose(1000)} page {number}" for number in range(150)]
    table = units(texts)
    order = list(range(len(texts)))
    expected = clusters(near_duplicates(table, CONFIG), table)
    for seed in range(3):
        random.Random(seed).shuffle(order)
        shuffled = pa.Table.from_batches(table.take(order).to_batches(max_chunksize=7))
        assert clusters(near_duplicates(shuffled, CONFIG), shuffled) == expected


def clusters(removals, table):
    ids = table["unit_id"].to_pylist()
    members = {}
    for row, partner in zip(removals.rows.tolist(), removals.partners.tolist(), strict=True):
        members.setdefault(partner, {partner}).add(row)
    return {frozenset(ids[row] for row in rows) for rows in members.values()}


def test_many_of_a_kind_become_one_without_comparing_all_pairs():
    rows = np.arange(5000)
    left, right = candidate_pairs(np.zeros(5000, np.uint64), rows.astype(np.uint64), rows)
    assert len(left) < 5000 * 17
    assert (left < right).all()
    assert set(components(left, right, 5000).tolist()) == {0}


@pytest.mark.parametrize("texts", [[], [""], ["a"], [None, None]])
def test_the_smallest_tables_have_no_near_duplicates(texts):
    table = pa.table(
        {"unit_id": pa.array(range(len(texts)), pa.int64()), "text": pa.array(texts, pa.string())}
    )
    assert near_duplicates(table, CONFIG).rows.tolist() == []


def test_another_seed_chooses_other_hash_functions():
    found = shingles(pa.array([prose(1)]), 5)
    keys = band_keys(found, CONFIG)
    assert (keys == band_keys(found, CONFIG)).all()
    assert not (keys == band_keys(found, NearDuplicatesConfig(seed=1))).any()
    assert len(set(keys[0].tolist())) == 16
