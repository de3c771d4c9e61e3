"""Memory banks, queues, and the choice of negatives."""

import pytest
import torch

from raykd.objectives.base import Epoch
from raykd.objectives.losses.gather import rows_of_all_workers
from raykd.objectives.losses.memory_bank import (
    Bank,
    OtherRows,
    Queue,
    random_numbers,
    random_vectors,
)

LABELS = torch.tensor([2.0, 0, 1, 1, 0, 2, 2, 0, 1, 0, 0, 2])
SCORES = torch.tensor([0.0, 5, 2.5, 1.2, 3.6, 2.2, 1, 4.4])


def draw_others(
    labels: torch.Tensor, margin: float, num_draws: int, *, epoch: int = 1
) -> OtherRows:
    others = OtherRows(labels, margin, num_draws)
    others.start_epoch(Epoch(seed=7, number=epoch, total=9))
    return others


def test_negatives_are_different_rows_of_another_label():
    rows = torch.arange(12)
    for epoch in range(1, 50):
        drawn = draw_others(LABELS, 0.0, 5, epoch=epoch).draw(rows)

        assert drawn.shape == (12, 5)
        assert (LABELS[drawn] != LABELS[:, None]).all()
        assert all(len(set(row)) == 5 for row in drawn.tolist())


def test_negatives_for_scores_differ_by_more_than_the_margin():
    rows = torch.arange(8)
    for epoch in range(1, 50):
        drawn = draw_others(SCORES, 1.0, 3, epoch=epoch).draw(rows)

        assert ((SCORES[drawn] - SCORES[:, None]).abs() > 1).all()
        assert all(len(set(row)) == 3 for row in drawn.tolist())


def test_negatives_without_labels_are_all_other_rows():
    rows = torch.arange(6)

    drawn = draw_others(rows, 0.0, 5).draw(rows)

    assert [sorted(row) for row in drawn.tolist()] == [
        [other for other in range(6) if other != row] for row in range(6)
    ]


def test_a_pool_smaller_than_the_draw_gives_each_row_about_equally_often():
    # No row shares row 0's label: 7 draws from the 3 others take two twice and one three times.
    others = draw_others(torch.tensor([1.0, 0, 0, 0]), 0.0, 7)

    counts = others.draw(torch.tensor([0, 1])).flatten().bincount(minlength=4)

    assert counts[0] == 7
    assert sorted(counts[1:].tolist()) == [2, 2, 3]
    assert others.num_different(torch.tensor([0, 1])).tolist() == [3, 1]


def test_rows_of_the_pool_are_drawn_equally_often():
    # Row 1's pool has 7 rows, 4 are drawn per epoch: 4/7 of 2000 epochs, +-5 deviations.
    counts = torch.zeros(12)
    for epoch in range(2000):
        counts[draw_others(LABELS, 0.0, 4, epoch=epoch).draw(torch.tensor([1]))] += 1

    expected = 2000 * 4 / 7 * (LABELS != 0)
    assert (counts - expected).abs().max() < 5 * (2000 * 4 / 7 * 3 / 7) ** 0.5


def test_draws_depend_on_the_epoch_and_not_on_the_batch():
    others = draw_others(LABELS, 0.0, 4)
    drawn = others.draw(torch.tensor([3, 8, 5]))

    assert torch.equal(others.draw(torch.tensor([5])), drawn[2:])
    assert torch.equal(draw_others(LABELS, 0.0, 4).draw(torch.tensor([5])), drawn[2:])
    assert not torch.equal(draw_others(LABELS, 0.0, 4, epoch=2).draw(torch.tensor([5])), drawn[2:])


def test_a_bank_updates_only_the_batchs_rows_with_momentum():
    initial = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 0.5]])
    bank = Bank(initial.clone(), momentum=0.25)

    bank.update(torch.tensor([2, 0]), torch.tensor([[0.6, 0.8], [0.0, 1.0]]))

    # Row 0: (0.25, 0.75), of length sqrt(0.625); row 2: (0.45, 0.6 + 0.125), of squared length
    # 0.2025 + 0.525625.
    expected = torch.tensor([[0.316228, 0.948683], [0.6, 0.8], [0.527359, 0.849634]])
    torch.testing.assert_close(bank.vectors, expected)
    assert torch.equal(bank.vectors[1], initial[1])


def test_a_bank_scores_an_anchor_against_the_given_rows():
    bank = Bank(torch.eye(3), momentum=0.5)
    anchors = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])

    cosines = bank.cosines(anchors, torch.tensor([[0, 2], [1, 1]]))

    assert cosines.tolist() == [[1, 3], [5, 5]]


def test_a_queue_drops_its_oldest_vectors_first():
    queue = Queue(torch.zeros(5, 2))
    assert queue.row_ids.tolist() == [-1] * 5
    for first in (0, 3, 6):
        rows = torch.arange(first, first + 3)
        queue.push(rows, rows[:, None].expand(3, 2).float())

    assert queue.row_ids.tolist() == [4, 5, 6, 7, 8]
    assert queue.vectors[:, 1].tolist() == [4, 5, 6, 7, 8]


def test_a_batch_may_be_larger_than_the_queue():
    queue = Queue(torch.zeros(2, 1))

    queue.push(torch.arange(3), torch.ones(3, 1))

    assert queue.row_ids.tolist() == [1, 2]


def test_random_vectors_have_mean_length_one_and_depend_on_the_seed():
    first, repeated, other = (
        random_vectors(500, 12, random_numbers(seed, 0)) for seed in (1, 1, 2)
    )

    assert first.abs().max() <= 0.5  # sqrt(3 / 12)
    assert first.square().sum(1).mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(first, repeated)
    assert not torch.equal(first, other)


def test_the_rows_of_a_single_worker_are_in_order():
    row_ids, vectors = rows_of_all_workers(torch.tensor([5, 2]), torch.tensor([[5.0], [2.0]]))

    assert row_ids.tolist() == [2, 5]
    assert vectors.tolist() == [[2], [5]]
