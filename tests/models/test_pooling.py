"""Pooled vectors, computed by hand."""

import torch

from raykd.models.pooling import pooled, pooled_layers

STATES = torch.tensor(
    [[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]], [[5.0, 5.0], [9.0, 9.0], [9.0, 9.0]]]
)
MASK = torch.tensor([[1, 1, 0], [1, 0, 0]])


def test_the_mean_excludes_padding():
    assert pooled(STATES, MASK, "mean").tolist() == [[2.0, 3.0], [5.0, 5.0]]


def test_cls_is_the_first_token():
    assert pooled(STATES, MASK, "cls").tolist() == [[1.0, 2.0], [5.0, 5.0]]


def test_layers_are_stacked_in_the_given_order():
    pooled = pooled_layers({1: STATES, 3: 2 * STATES}, [3, 1], MASK, "cls")

    assert pooled.tolist() == [[[2.0, 4.0], [1.0, 2.0]], [[10.0, 10.0], [5.0, 5.0]]]


def test_pooled_vectors_are_returned_unchanged():
    mean = pooled(STATES, MASK, "mean")

    assert torch.equal(pooled(mean[:, None], MASK, "mean"), mean)
