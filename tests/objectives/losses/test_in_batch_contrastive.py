"""In-batch contrastive loss in one process; for two workers see test_cilda.py."""

from math import e, log

import pytest
import torch
from torch.nn.functional import one_hot

from raykd.objectives.losses.in_batch_contrastive import (
    gathered_candidates,
    info_nce,
    own_candidates,
)

NUM_ROWS = 32


def contrast(anchors: torch.Tensor, candidates: torch.Tensor) -> float:
    return info_nce(anchors, *own_candidates(candidates), temperature=2.0).item()


def test_the_loss_by_hand():
    anchors = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    candidates = torch.tensor([[3.0, 0.0], [0.0, -1.0]])

    # Cosines [[1, 0], [0, -1]], halved: log(1 + e^-0.5) = 0.474077 and log(1 + e^0.5) = 0.974077.
    assert contrast(anchors, candidates) == pytest.approx(0.724077, abs=1e-6)


def test_the_loss_of_equal_vectors_is_the_log_of_the_number_of_rows():
    equal = torch.ones(NUM_ROWS, 5)

    assert contrast(torch.randn(NUM_ROWS, 5), equal) == pytest.approx(log(NUM_ROWS), abs=1e-6)


def test_the_loss_is_within_its_bounds_and_near_chance_for_random_vectors():
    low, high = log(1 + (NUM_ROWS - 1) / e), log(1 + (NUM_ROWS - 1) * e)
    assert (low, high) == (pytest.approx(2.52, abs=0.005), pytest.approx(4.45, abs=0.005))

    torch.manual_seed(0)
    vectors, others = torch.randn(2, NUM_ROWS, 128)
    codes = one_hot(torch.arange(NUM_ROWS)).float()

    assert contrast(vectors, others) == pytest.approx(log(NUM_ROWS), abs=0.02)
    for anchors, candidates in ((codes, codes), (codes, -codes), (vectors, vectors)):
        assert low <= contrast(anchors, candidates) <= high
    # Two opposite rows reach both ends: cosines 1 and -1, log(1 + e^-1) and log(1 + e).
    pair = torch.tensor([[1.0], [-1.0]])
    assert contrast(pair, pair) == pytest.approx(log(1 + 1 / e))
    assert contrast(pair, -pair) == pytest.approx(log(1 + e))


def test_the_loss_and_gradient_of_a_single_row_are_zero():
    anchors, candidates = torch.randn(2, 1, 5, requires_grad=True).unbind()

    loss = info_nce(anchors, *own_candidates(candidates), temperature=2.0)

    assert loss.item() == 0
    gradients = torch.autograd.grad(loss, (anchors, candidates))
    assert all(not gradient.any() for gradient in gradients)


def test_gradients_equal_finite_differences():
    torch.manual_seed(0)
    anchors = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    candidates = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    places = torch.tensor([4, 0, 2])

    assert torch.autograd.gradcheck(
        lambda a, c: info_nce(a, c, places, temperature=0.5), (anchors, candidates)
    )


def test_the_loss_is_computed_in_float32_under_autocast():
    vectors, others = torch.randn(2, 6, 128)
    with torch.autocast("cpu", torch.bfloat16):
        loss = info_nce(vectors, *own_candidates(others), temperature=2.0)

    assert loss.item() == contrast(vectors, others)


def test_a_single_worker_gathers_its_own_rows_in_order():
    vectors = torch.randn(3, 4)

    candidates, places = gathered_candidates(vectors, torch.tensor([7, 2, 5]))

    assert torch.equal(candidates, vectors[[1, 2, 0]])
    assert places.tolist() == [2, 0, 1]
