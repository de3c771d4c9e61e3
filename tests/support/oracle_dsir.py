"""DSIR by its formula, one n-gram at a time, for comparison with `raykd.contextualize.dsir`."""

import math
from collections import Counter
from itertools import pairwise

import xxhash

from raykd.text.analyzer import terms

_MASK = 2**64 - 1


def bucket_list(text, num_buckets):
    words = [xxhash.xxh3_64_intdigest(term.encode()) for term in terms(text)]
    hashes = list(words)
    for left, right in pairwise(words):
        value = (left * 0x9E3779B97F4A7C15 + right) & _MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        hashes.append(value ^ (value >> 31))
    return [value % num_buckets for value in hashes]


def log_weight(text, task, general, num_buckets, smoothing):
    """`task` and `general` are lists of texts."""
    shares = []
    for texts in (task, general):
        counts = Counter(bucket for other in texts for bucket in bucket_list(other, num_buckets))
        total = sum(counts.values())
        shares.append({bucket: count / total for bucket, count in counts.items()})
    return math.fsum(
        math.log(shares[0].get(bucket, 0) + smoothing)
        - math.log(shares[1].get(bucket, 0) + smoothing)
        for bucket in bucket_list(text, num_buckets)
    )


def noise(unit_id, seed):
    number = xxhash.xxh3_64_intdigest(unit_id.encode(), seed ^ 0x47554D42454C) >> 12
    return -math.log(-math.log((number + 0.5) / 2**52))


def best(units, task, num_units, seed, num_buckets, smoothing):
    """Ids of the units of the largest keys, ascending; `units` maps unit_id to text."""
    general = list(units.values())
    keys = {
        unit_id: log_weight(text, task, general, num_buckets, smoothing) + noise(unit_id, seed)
        for unit_id, text in units.items()
    }
    return sorted(sorted(keys, key=lambda unit_id: (-keys[unit_id], unit_id))[:num_units])
