"""Importance weights of units by hashed n-grams (DSIR).

Source: Xie et al. 2023, "Data Selection for Language Models via Importance Resampling",
arXiv:2302.03169. The n-grams of a text are its words and its pairs of consecutive words, and a
bucket of an n-gram is its hash modulo the number of buckets:

    word: h(w), the XXH3-64 hash of its UTF-8 bytes, with seed 0
    pair: mix(h(v) * 0x9E3779B97F4A7C15 + h(w)) modulo 2^64, mix being the finalizer of SplitMix64

The log importance weight of a text x is the sum over its n-grams, repeats included, of

    log(p_task(bucket) + s) - log(p_general(bucket) + s),

where p is the share of a bucket among the n-grams of the task's training sentences or of the
general corpus, and s is `DsirConfig.smoothing`. Units with the largest sum of log weight and Gumbel
noise are a sample without replacement in proportion to the weights (Gumbel top-k).

Differences from the authors' package: words are those of `text.analyzer`, without punctuation
marks; the hash is another; p_general is of the whole corpus; short units are not dropped.
"""

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray
from pydantic import Field

from raykd.config import Config
from raykd.text.analyzer import number_terms

_FACTOR = np.uint64(0x9E3779B97F4A7C15)
# Finalizer of SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number generators",
# doi:10.1145/2660193.2660195).
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
# The units of a random corpus have the smallest hashes of their ids: noise from the same hashes
# would make the two corpora avoid each other.
_NOISE_SEED = 0x47554D42454C
# A uniform number has 52 bits, so that its center (number + 1/2) / 2^52 is exact and below 1.
_UNIFORM_BITS = 52


class DsirConfig(Config):
    """Settings of the importance weights of a DSIR corpus."""

    num_buckets: int = Field(
        10_000,
        ge=1,
        le=1 << 24,
        description="Buckets that words and pairs of words are hashed into; 10,000 as in Xie et "
        "al. 2023.",
    )
    smoothing: float = Field(
        1e-8,
        gt=0,
        le=1,
        description="Added to the share of each bucket before the logarithm; 1e-8 as in the "
        "authors' package. With few task sentences, a larger one (1e-5) keeps a word that the task "
        "lacks from outweighing all others.",
    )


def ngram_counts(texts: pa.Array, num_buckets: int) -> NDArray[np.int64]:
    """Count the n-grams of all texts per bucket, (num_buckets,); nulls count as empty texts."""
    buckets, _ = _ngrams(texts, num_buckets)
    return np.bincount(buckets, minlength=num_buckets)


def log_ratios(
    task: NDArray[np.int64], general: NDArray[np.int64], smoothing: float
) -> NDArray[np.float64]:
    """Compute log p_task - log p_general per bucket from counts, both smoothed, (num_buckets,)."""
    logs = [np.log(counts / max(1, counts.sum()) + smoothing) for counts in (task, general)]
    return np.asarray(logs[0] - logs[1], np.float64)


def log_weights(texts: pa.Array, ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the log importance weight of each text, (U,); 0 for a text without words.

    Args:
        texts: U texts; nulls count as empty.
        ratios: result of `log_ratios`.
    """
    buckets, text_numbers = _ngrams(texts, len(ratios))
    # Sums in order of the n-grams of a text, so that they do not depend on the other texts.
    sums = np.bincount(text_numbers, weights=ratios[buckets], minlength=len(texts))
    return sums.astype(np.float64)


def gumbel_noise(unit_ids: pa.Array, seed: int) -> NDArray[np.float64]:
    """Draw standard Gumbel noise per unit, (U,), that depends only on its id and the seed."""
    numbers = np.array(
        [
            xxhash.xxh3_64_intdigest(unit_id.encode(), seed ^ _NOISE_SEED)
            for unit_id in unit_ids.to_pylist()
        ],
        np.uint64,
    )
    uniform = (numbers >> np.uint64(64 - _UNIFORM_BITS)).astype(np.float64) + 0.5
    return np.asarray(-np.log(-np.log(uniform / 2.0**_UNIFORM_BITS)), np.float64)


def _ngrams(texts: pa.Array, num_buckets: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List bucket and text of every n-gram: the words of all texts, then the pairs of words."""
    terms, stream = number_terms(texts)
    hashes = np.array([xxhash.xxh3_64_intdigest(term.encode()) for term in terms], np.uint64)
    words = hashes[stream.term_ids]
    text_numbers = np.repeat(np.arange(len(texts)), np.diff(stream.offsets))
    is_pair = text_numbers[1:] == text_numbers[:-1]
    pairs = _mixed(words[:-1][is_pair] * _FACTOR + words[1:][is_pair])
    ngrams = np.concatenate([words, pairs]) % np.uint64(num_buckets)
    return ngrams.astype(np.int64), np.concatenate([text_numbers, text_numbers[1:][is_pair]])


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return values ^ (values >> np.uint64(31))
