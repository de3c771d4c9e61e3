"""Annealing-KD's first phase."""

import logging

import pytest
import torch
from tiny_models import tiny_batch, tiny_encoder

from raykd.objectives import build
from raykd.objectives.annealing_kd import AnnealingKdConfig, annealing_loss, scale_of_epoch
from raykd.objectives.base import Epoch


def scales(num_epochs: int, max_temperature: int) -> list[float]:
    return [
        scale_of_epoch(Epoch(seed=0, number=number, total=num_epochs), max_temperature)
        for number in range(1, num_epochs + 1)
    ]


def test_fourteen_epochs_have_the_authors_schedule():
    sevenths = [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]

    assert scales(14, 7) == [n / 7 for n in sevenths]


def test_other_numbers_of_epochs_spread_the_scales_and_end_at_one():
    # The authors' code reaches 5/4 in the last two of ten epochs.
    assert scales(10, 4) == [n / 4 for n in (1, 1, 1, 2, 2, 3, 3, 3, 4, 4)]


def test_with_fewer_epochs_than_scales_each_epoch_has_its_own():
    assert scales(3, 7) == [1 / 3, 2 / 3, 1]
    assert scales(1, 7) == [1]


def test_scales_increase_to_one():
    for num_epochs in range(1, 31):
        for max_temperature in range(1, 15):
            schedule = scales(num_epochs, max_temperature)
            assert schedule == sorted(schedule)
            assert schedule[-1] == 1 == max(schedule)
            assert len(set(schedule)) == min(num_epochs, max_temperature)


def test_fewer_epochs_than_scales_log_one_warning(caplog):
    objective = build(AnnealingKdConfig(), tiny_encoder())

    with caplog.at_level(logging.WARNING):
        for number in (1, 2, 3):
            objective.start_epoch(Epoch(seed=0, number=number, total=3))
        build(AnnealingKdConfig(), tiny_encoder()).start_epoch(Epoch(seed=0, number=1, total=7))

    assert [record.getMessage() for record in caplog.records] == [
        "annealing_kd: max_temperature 7 is lowered to the number of epochs, 3"
    ]


def test_the_loss_by_hand():
    # Targets (1, -1) and (0, 2): squares (1 - 1)^2, (1 + 1)^2, (3 - 0)^2, (2 - 2)^2 = 0, 4, 9, 0.
    student = torch.tensor([[1.0, 1.0], [3.0, 2.0]])
    teacher = torch.tensor([[2.0, -2.0], [0.0, 4.0]])

    assert annealing_loss(student, teacher, scale=0.5).item() == 13 / 4


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_scores_do_not_broadcast(shape):
    # ((1 - 0)^2 + (3 - 1)^2) / 2 = 2.5; all pairs of rows would give 3.0.
    scores, teacher = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 2.0]).reshape(shape)

    assert annealing_loss(scores, teacher, scale=0.5).item() == 2.5


def test_different_numbers_of_logits_are_an_error():
    for teacher_shape in ((2, 3), (2,), (4,), (1, 2), (3, 2)):
        with pytest.raises(AssertionError):
            annealing_loss(torch.zeros(2, 2), torch.zeros(teacher_shape), scale=1.0)
    with pytest.raises(AssertionError):
        annealing_loss(torch.zeros(2, 1), torch.zeros(3), scale=1.0)


def test_the_gradient_equals_finite_differences():
    generator = torch.Generator().manual_seed(1)
    student, teacher = (
        torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(2)
    )

    assert torch.autograd.gradcheck(
        lambda logits: annealing_loss(logits, teacher, 0.3), student.requires_grad_()
    )


def test_the_scale_depends_on_the_epoch_and_is_logged():
    student, batch = tiny_encoder(), tiny_batch()
    inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    objective = build(AnnealingKdConfig(max_temperature=2), student)
    difference = {
        scale: (student(*inputs).logits - scale * batch["teacher_logits"]).square().mean()
        for scale in (0.5, 1.0)
    }

    for number, scale in ((1, 0.5), (2, 0.5), (3, 1.0), (4, 1.0)):
        objective.start_epoch(Epoch(seed=0, number=number, total=4))
        terms = objective(batch)
        torch.testing.assert_close(terms.total, difference[scale])
        assert terms.measures["phi"].item() == scale
