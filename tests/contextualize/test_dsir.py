import math

import numpy as np
import oracle_dsir
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.contextualize.dsir import gumbel_noise, log_ratios, log_weights, ngram_counts

TEXTS = st.lists(st.text(alphabet="ab c\u00e9\u65e5.", max_size=30), min_size=1, max_size=8)


def test_words_and_pairs_of_words_are_counted():
    counts = ngram_counts(pa.array(["The cat, the cat.", None, "dog"]), 1 << 20)
    # the 2, cat 2, dog 1; the cat 2, cat the 1; no pair spans two texts.
    assert sorted(counts[counts > 0].tolist()) == [1, 1, 2, 2, 2]
    assert counts[xxhash.xxh3_64_intdigest(b"the") % (1 << 20)] == 2


def test_a_log_weight_is_the_sum_of_the_log_ratios_of_the_buckets():
    # One bucket per n-gram: task "a a b" has shares a 2/5, b 1/5, "a a" 1/5, "a b" 1/5, and the
    # general text "a b" has a, b and "a b" with 1/3 each.
    num_buckets = 1 << 20
    task, general = (ngram_counts(pa.array([text]), num_buckets) for text in ("a a b", "a b"))
    ratios = log_ratios(task, general, 1e-8)
    weights = log_weights(pa.array(["a", "a b", "a a", "zzz", ""]), ratios)
    a, b, pair = math.log(6 / 5), math.log(3 / 5), math.log(3 / 5)
    twice = 2 * a + math.log(0.2e8 + 1)
    assert weights.tolist() == pytest.approx([a, a + b + pair, twice, 0.0, 0.0], rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(task=TEXTS, general=TEXTS, num_buckets=st.sampled_from([1, 7, 10_000]))
def test_counts_and_weights_equal_those_of_the_formula(task, general, num_buckets):
    counts = [ngram_counts(pa.array(texts, pa.string()), num_buckets) for texts in (task, general)]
    for texts, found in zip((task, general), counts, strict=True):
        buckets = [b for text in texts for b in oracle_dsir.bucket_list(text, num_buckets)]
        assert found.tolist() == np.bincount(buckets, minlength=num_buckets).tolist()
    if not all(found.any() for found in counts):
        return
    weights = log_weights(pa.array(general, pa.string()), log_ratios(*counts, 1e-3))
    expected = [oracle_dsir.log_weight(text, task, general, num_buckets, 1e-3) for text in general]
    assert weights.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_weight_does_not_depend_on_the_other_texts():
    ratios = np.linspace(-1, 1, 10_000)
    texts = [f"word {number} of {number // 3} and {number % 5}" for number in range(50)]
    together = log_weights(pa.array(texts), ratios)
    assert together.tolist() == [log_weights(pa.array([text]), ratios)[0] for text in texts]


def test_noise_is_of_the_standard_gumbel_distribution_and_depends_on_id_and_seed():
    ids = pa.array([f"u{number}" for number in range(20_000)])
    noise = gumbel_noise(ids, 7)
    # Mean 0.5772 and standard deviation 1.2825; P(noise <= 0) = 1/e. Four standard errors.
    assert noise.mean() == pytest.approx(0.5772, abs=4 * 1.2825 / math.sqrt(20_000))
    assert (noise <= 0).mean() == pytest.approx(1 / math.e, abs=0.014)
    assert np.isfinite(noise).all()
    assert noise[:3].tolist() == pytest.approx([oracle_dsir.noise(f"u{n}", 7) for n in range(3)])
    assert gumbel_noise(ids[5:7], 7).tolist() == noise[5:7].tolist()
    assert (gumbel_noise(ids, 8) != noise).all()


def test_of_two_units_the_one_with_three_times_the_weight_is_drawn_three_times_as_often():
    # The task has "a" three times as often as "b", the general corpus both equally often.
    counts = [ngram_counts(pa.array(texts), 10_000) for texts in (["a", "a", "a", "b"], ["a", "b"])]
    weight_a, weight_b = log_weights(pa.array(["a", "b"]), log_ratios(*counts, 1e-8))
    num_draws = 20_000
    noise = gumbel_noise(pa.array([f"u{number}" for number in range(2 * num_draws)]), 7)
    is_a = weight_a + noise[:num_draws] > weight_b + noise[num_draws:]
    # Four standard deviations of the share of a binomial draw (20000, 3/4).
    assert is_a.mean() == pytest.approx(3 / 4, abs=0.0123)
