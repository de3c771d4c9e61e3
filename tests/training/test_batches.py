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
def test_every_row_stands_in_exactly_one_batch_of_an_epoch(num_rows, batch_size, bucket_batches):
    lengths = np.random.default_rng(0).integers(3, 60, num_rows)
    batches = EpochBatches(lengths, batch_size, bucket_batches=bucket_batches, seed=1, epoch=1)
    assert len(batches) == num_batches(num_rows, batch_size)
    assert sorted(np.concatenate(batches).tolist()) == list(range(num_rows))
    assert all(len(batch) <= batch_size for batch in batches)


def test_the_order_depends_on_seed_and_epoch_alone():
    lengths = np.arange(100)

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(
            EpochBatches(lengths, 8, bucket_batches=4, seed=seed, epoch=epoch)
        ).tolist()

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2)
    assert order(1, 1) != order(2, 1)


def test_a_batch_is_a_random_sample_of_all_lengths_unless_buckets_are_asked_for():
    lengths = np.sort(np.random.default_rng(0).integers(3, 128, 1600))
    batches = EpochBatches(lengths, 32, bucket_batches=1, seed=1, epoch=1)
    spread = [lengths[batch].std() for batch in batches]
    assert min(spread) > 0.6 * lengths.std()


def test_rows_of_similar_length_share_a_batch_of_buckets():
    lengths = np.random.default_rng(0).integers(3, 128, 1600)
    batches = EpochBatches(lengths, 32, bucket_batches=50, seed=1, epoch=1)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.05 * lengths.sum()
    at_random = [np.arange(at, at + 32) for at in range(0, 1600, 32)]
    assert sum(32 * lengths[batch].max() for batch in at_random) > 1.8 * lengths.sum()


def cost(lengths: list[int], passes: list[np.ndarray], overhead_tokens: float) -> float:
    values = np.array(lengths)
    return sum(len(rows) * values[rows].max() + overhead_tokens for rows in passes)


@pytest.mark.parametrize("overhead_tokens", [0, 3, 40])
@pytest.mark.parametrize("lengths", [[5], [4, 4, 4], [9, 1, 5, 2, 8, 2], [30, 1, 2, 29, 15, 16, 3]])
def test_micro_batches_have_the_least_cost_of_all_splits(lengths, overhead_tokens):
    passes = split_into_micro_batches(np.array(lengths), overhead_tokens)

    assert sorted(np.concatenate(passes).tolist()) == list(range(len(lengths)))
    order = np.argsort(lengths)
    ways = [
        np.split(order, [at + 1 for at in range(len(lengths) - 1) if cuts >> at & 1])
        for cuts in range(2 ** (len(lengths) - 1))
    ]
    fewest = min(2, len(lengths))
    least = min(cost(lengths, way, overhead_tokens) for way in ways if min(map(len, way)) >= fewest)
    assert min(map(len, passes)) >= fewest
    assert cost(lengths, passes, overhead_tokens) == least


def test_no_pass_is_larger_than_told_but_a_row_that_is_alone():
    passes = split_into_micro_batches(np.array([9, 1, 5, 2, 8, 2]), 1e9, max_tokens=8)
    assert [rows.tolist() for rows in passes] == [[1, 3, 5], [2], [4], [0]]


def test_rows_of_any_length_make_one_pass_where_passes_are_dear():
    assert len(split_into_micro_batches(np.arange(1, 100), 1e9)) == 1


@given(st.lists(st.integers(1, 512), min_size=1, max_size=40), st.integers(1, 8))
def test_workers_shares_hold_each_row_once_and_like_lengths_together(lengths, num_workers):
    shares = split_for_workers(np.array(lengths), num_workers)
    assert len(shares) == num_workers
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(lengths)))
    fewest = min(2, len(lengths) // num_workers)
    assert min(map(len, shares)) >= fewest
    ascending = [lengths[row] for share in shares for row in share]
    assert ascending == sorted(lengths)


def test_workers_shares_have_about_equally_many_tokens():
    lengths = np.array([10, 90, 30, 20, 40, 10, 60, 20, 20, 20])
    shares = split_for_workers(lengths, 2)
    assert [sorted(lengths[share].tolist()) for share in shares] == [
        [10, 10, 20, 20, 20, 20, 30, 40],
        [60, 90],
    ]
    assert [len(share) for share in split_for_workers(np.array([5, 5]), 4)] == [1, 1, 0, 0]
