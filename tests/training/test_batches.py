import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raykd.training.batches import (
    EpochBatches,
    num_batches,
    split_for_workers,
    split_into_micro_batches,
)


@pytest.mark.parametrize(("num_rows", "batch_size"), [(1, 4), (7, 3), (64, 8), (1000, 32)])
@pytest.mark.parametrize("bucket_batches", [1, 3])
def test_every_row_is_in_exactly_one_batch_per_epoch(num_rows, batch_size, bucket_batches):
    lengths = np.random.default_rng(0).integers(3, 60, num_rows)
    batches = EpochBatches(lengths, batch_size, bucket_batches=bucket_batches, seed=1, epoch=1)
    assert len(batches) == num_batches(num_rows, batch_size)
    assert sorted(np.concatenate(batches).tolist()) == list(range(num_rows))
    assert all(len(batch) <= batch_size for batch in batches)


def test_the_order_depends_only_on_seed_and_epoch():
    lengths = np.arange(100)

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(
            EpochBatches(lengths, 8, bucket_batches=4, seed=seed, epoch=epoch)
        ).tolist()

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2)
    assert order(1, 1) != order(2, 1)


def test_a_batch_without_buckets_is_a_random_sample_of_all_lengths():
    lengths = np.sort(np.random.default_rng(0).integers(3, 128, 1600))
    batches = EpochBatches(lengths, 32, bucket_batches=1, seed=1, epoch=1)
    spread = [lengths[batch].std() for batch in batches]
    assert min(spread) > 0.6 * lengths.std()


def test_bucketed_batches_have_rows_of_similar_length():
    lengths = np.random.default_rng(0).integers(3, 128, 1600)
    batches = EpochBatches(lengths, 32, bucket_batches=50, seed=1, epoch=1)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.05 * lengths.sum()
    at_random = [np.arange(start, start + 32) for start in range(0, 1600, 32)]
    assert sum(32 * lengths[batch].max() for batch in at_random) > 1.8 * lengths.sum()


def cost(lengths: list[int], micro_batches: list[np.ndarray], overhead_tokens: float) -> float:
    values = np.array(lengths)
    return sum(len(rows) * values[rows].max() + overhead_tokens for rows in micro_batches)


@pytest.mark.parametrize("overhead_tokens", [0, 3, 40])
@pytest.mark.parametrize("lengths", [[5], [4, 4, 4], [9, 1, 5, 2, 8, 2], [30, 1, 2, 29, 15, 16, 3]])
def test_micro_batches_have_the_minimum_cost_of_all_splits(lengths, overhead_tokens):
    micro_batches = split_into_micro_batches(np.array(lengths), overhead_tokens)

    assert sorted(np.concatenate(micro_batches).tolist()) == list(range(len(lengths)))
    order = np.argsort(lengths)
    ways = [
        np.split(order, [cut + 1 for cut in range(len(lengths) - 1) if cuts >> cut & 1])
        for cuts in range(2 ** (len(lengths) - 1))
    ]
    fewest = min(2, len(lengths))
    least = min(cost(lengths, way, overhead_tokens) for way in ways if min(map(len, way)) >= fewest)
    assert min(map(len, micro_batches)) >= fewest
    assert cost(lengths, micro_batches, overhead_tokens) == least


def test_a_micro_batch_exceeds_the_limit_only_with_a_single_row():
    micro_batches = split_into_micro_batches(np.array([9, 1, 5, 2, 8, 2]), 1e9, max_tokens=8)
    assert [rows.tolist() for rows in micro_batches] == [[1, 3, 5], [2], [4], [0]]


def test_expensive_passes_give_one_micro_batch():
    assert len(split_into_micro_batches(np.arange(1, 100), 1e9)) == 1


@given(st.lists(st.integers(1, 512), min_size=1, max_size=40), st.integers(1, 8))
def test_workers_shares_have_each_row_once_with_similar_lengths_together(lengths, num_workers):
    shares = split_for_workers(np.array(lengths), num_workers)
    assert len(shares) == num_workers
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(lengths)))
    fewest = min(2, len(lengths) // num_workers)
    assert min(map(len, shares)) >= fewest
    ascending = [lengths[row] for share in shares for row in share]
    assert ascending == sorted(lengths)


def test_workers_shares_have_similar_numbers_of_tokens():
    lengths = np.array([10, 90, 30, 20, 40, 10, 60, 20, 20, 20])
    shares = split_for_workers(lengths, 2)
    assert [sorted(lengths[share].tolist()) for share in shares] == [
        [10, 10, 20, 20, 20, 20, 30, 40],
        [60, 90],
    ]
    assert [len(share) for share in split_for_workers(np.array([5, 5]), 4)] == [1, 1, 0, 0]
