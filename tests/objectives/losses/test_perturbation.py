"""Projected gradient ascent on word embeddings."""

import pytest
import torch
from torch import Tensor

from raykd.objectives.losses.perturbation import (
    Ascent,
    Norm,
    ascended,
    initial,
    norms,
    perturbation,
)

NORMS: tuple[Norm, ...] = ("row_l2", "row_linf", "token_l2", "token_linf")
MASK = torch.tensor([[1, 1, 1], [1, 0, 0]])
PLAIN = Ascent(1, 1.0, 2.0, "row_l2", "zeros", 0.0)

every_norm = pytest.mark.parametrize("norm", NORMS)


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or (2, 3, 4), generator=torch.Generator().manual_seed(seed))


def test_norms_by_hand():
    vectors = torch.tensor([[[3.0, 4.0], [0.0, -12.0]]])

    assert norms(vectors, "row_l2").tolist() == [[[13.0]]]
    assert norms(vectors, "row_linf").tolist() == [[[12.0]]]
    assert norms(vectors, "token_l2").tolist() == [[[5.0], [12.0]]]
    assert norms(vectors, "token_linf").tolist() == [[[4.0], [12.0]]]


def test_a_step_by_hand():
    # Row norm: (3, 4, 0, 12) / 13, doubled, then scaled from 2 to 1.
    gradient = torch.tensor([[[3.0, 4.0], [0.0, 12.0]]])
    mask, start = torch.ones(1, 2), torch.zeros(1, 2, 2)

    by_row = ascended(start, gradient, mask, PLAIN)
    torch.testing.assert_close(by_row, gradient / 13)
    by_token = ascended(start, gradient, mask, PLAIN._replace(norm="token_l2"))
    torch.testing.assert_close(by_token, torch.tensor([[[0.6, 0.8], [0.0, 1.0]]]))
    by_token_entry = ascended(start, gradient, mask, PLAIN._replace(norm="token_linf"))
    # (0.75, 1, 0, 1), doubled, each entry clipped at 1.
    torch.testing.assert_close(by_token_entry, torch.tensor([[[1.0, 1.0], [0.0, 1.0]]]))
    by_row_entry = ascended(start, gradient, mask, PLAIN._replace(norm="row_linf"))
    # (3, 4, 0, 12) / 12, doubled, each entry clipped at 1.
    torch.testing.assert_close(by_row_entry, torch.tensor([[[0.5, 2 / 3], [0.0, 1.0]]]))


def test_a_normalized_perturbation_has_size_epsilon_for_any_gradient():
    ascent = PLAIN._replace(
        norm="token_linf", epsilon=1.0, step_size=0.1, normalized="perturbation"
    )
    start = torch.tensor([[[0.1, 0.2], [0.0, 0.0]]])
    gradient = torch.tensor([[[1.0, 2.0], [-3.0, 1.5]]])

    stepped = ascended(start, gradient, torch.ones(1, 2), ascent)

    # (0.2, 0.4) / 0.4 and (-0.3, 0.15) / 0.3
    torch.testing.assert_close(stepped, torch.tensor([[[0.5, 1.0], [-1.0, 0.5]]]))


def test_a_step_within_the_ball_is_not_scaled():
    start = torch.tensor([[[0.0, 0.5]]])
    ascent = PLAIN._replace(step_size=0.25)

    stepped = ascended(start, torch.tensor([[[7.0, 0.0]]]), torch.ones(1, 1), ascent)

    torch.testing.assert_close(stepped, torch.tensor([[[0.25, 0.5]]]))


@every_norm
def test_a_step_is_within_the_ball_and_zero_on_padding(norm):
    ascent = PLAIN._replace(norm=norm, epsilon=0.3)
    start = 0.2 * random(1) * MASK[..., None]

    stepped = ascended(start, random(2), MASK, ascent)

    assert (norms(stepped, norm) <= 0.3 * (1 + 1e-6)).all()
    assert (stepped[MASK == 0] == 0).all()
    assert (stepped[MASK == 1] != 0).all()


@every_norm
def test_a_zero_gradient_gives_no_step_and_a_tiny_one_a_full_step(norm):
    ascent = PLAIN._replace(norm=norm)
    start, direction = torch.zeros(2, 3, 4), random(1)

    assert torch.equal(ascended(start, torch.zeros(2, 3, 4), MASK, ascent), start)
    torch.testing.assert_close(
        ascended(start, 1e-12 * direction, MASK, ascent), ascended(start, direction, MASK, ascent)
    )


@every_norm
def test_the_step_of_a_row_does_not_depend_on_batch_or_padding(norm):
    ascent = PLAIN._replace(norm=norm)
    start, gradient = 0.1 * random(1) * MASK[..., None], random(2)

    together = ascended(start, gradient, MASK, ascent)
    single = ascended(start[1:, :1], gradient[1:, :1], MASK[1:, :1], ascent)

    torch.testing.assert_close(together[1:, :1], single)


@every_norm
def test_a_uniform_initialization_is_bounded_and_zero_on_padding(norm):
    ascent = PLAIN._replace(norm=norm, initialization="uniform", initial_size=0.1)
    torch.manual_seed(0)
    start = initial(random(1, 2, 3, 500), MASK, ascent)

    assert (start[MASK == 0] == 0).all()
    sizes = norms(start, norm).flatten(1)[:, 0]
    # The root mean square of a uniform entry is 1 / sqrt(3) of its bound.
    expected = 0.1 if norm.endswith("linf") else 0.1 / 3**0.5
    assert (sizes <= 0.1).all()
    torch.testing.assert_close(sizes, torch.full((2,), expected), rtol=0.05, atol=0)


def test_a_gaussian_initialization_has_the_given_deviation():
    ascent = PLAIN._replace(initialization="gaussian", initial_size=0.1)
    torch.manual_seed(0)
    start = initial(random(1, 2, 3, 500), MASK, ascent)

    assert (start[MASK == 0] == 0).all()
    assert start[MASK == 1].std().item() == pytest.approx(0.1, rel=0.05)


def test_steps_along_a_constant_gradient_add_up_to_the_radius():
    # |(2, 1, 2)| = 3: each step is 0.3 of (2, 1, 2) / 3; the fourth would leave the ball of 1.
    slope = torch.tensor([[[2.0, 1.0, 2.0]]])
    for steps, size in ((1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0)):
        ascent = PLAIN._replace(steps=steps, step_size=0.3)

        delta = perturbation(
            torch.ones(1, 1, 3), torch.ones(1, 1), ascent, lambda stepped: (stepped * slope).sum()
        )

        torch.testing.assert_close(delta, size * slope / 3)


def test_a_given_first_gradient_skips_the_first_forward_pass():
    slope, passes = torch.tensor([[[2.0, 1.0, 2.0]]]), []

    def sloped_loss(stepped: Tensor) -> Tensor:
        passes.append(stepped.detach())
        return (stepped * slope).sum()

    ascent = PLAIN._replace(steps=3, step_size=0.3)
    embedded = torch.ones(1, 1, 3)
    delta = perturbation(embedded, torch.ones(1, 1), ascent, sloped_loss, first_gradient=slope)

    torch.testing.assert_close(torch.stack(passes), 1 + torch.stack([0.1 * slope, 0.2 * slope]))
    torch.testing.assert_close(delta, 0.3 * slope)


def test_gradients_reach_only_the_perturbation():
    embedded = random(1).requires_grad_()
    weight = torch.nn.Parameter(random(2))

    delta = perturbation(
        embedded, MASK, PLAIN._replace(steps=2), lambda stepped: (stepped * weight).square().sum()
    )

    assert embedded.grad is None
    assert weight.grad is None
    assert not delta.requires_grad
