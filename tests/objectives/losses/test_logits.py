"""Losses on logits: values computed by hand, naive implementations, invariants."""

import math

import pytest
import torch
import torch.nn.functional as F

from raykd.objectives.losses.logits import kd_loss, task_loss


def test_kd_loss_by_hand():
    # T = 2: teacher (ln 9, 0) / 2 -> (3/4, 1/4), student (0, 0) -> (1/2, 1/2).
    # KL = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.130812; times T^2 = 0.523248. The second row is equal: 0.
    teacher = torch.tensor([[math.log(9.0), 0.0], [1.0, 1.0]])
    student = torch.tensor([[0.0, 0.0], [4.0, 4.0]])

    loss = kd_loss(student, teacher, temperature=2.0)

    assert loss.item() == pytest.approx(0.523248 / 2, abs=1e-6)


def test_the_direction_of_kd_loss_is_kl_of_teacher_from_student():
    # KL((3/4, 1/4) || (1/2, 1/2)) = 0.130812; the other direction is 0.143841.
    loss = kd_loss(torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]]), temperature=1.0)

    assert loss.item() == pytest.approx(0.130812, abs=1e-6)


def test_kd_loss_and_its_gradient_are_zero_if_logits_differ_by_a_constant():
    teacher = torch.tensor([[1.0, -2.0, 0.5]])
    student = (teacher + 3).requires_grad_()

    loss = kd_loss(student, teacher, temperature=3.0)
    loss.backward()

    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.abs().max() < 1e-6


def test_the_kd_gradient_of_small_logits_is_nearly_independent_of_the_temperature():
    teacher = torch.tensor([[0.02, -0.01, 0.01]])
    norms = []
    for temperature in (1.0, 10.0):
        student = torch.zeros(1, 3, requires_grad=True)
        kd_loss(student, teacher, temperature).backward()
        norms.append(student.grad.norm().item())

    assert norms[0] == pytest.approx(norms[1], rel=0.02)


@pytest.mark.parametrize("student_shape", [(2, 1)])
@pytest.mark.parametrize("other_shape", [(2,), (2, 1)])
def test_regression_losses_do_not_broadcast(student_shape, other_shape):
    # ((1 - 0)^2 + (3 - 1)^2) / 2 = 2.5; the (2, 2) broadcast would give 3.0.
    scores = torch.tensor([1.0, 3.0]).reshape(student_shape)
    targets = torch.tensor([0.0, 1.0]).reshape(other_shape)

    assert task_loss(scores, targets).item() == 2.5
    assert kd_loss(scores, targets, temperature=7.0).item() == 2.5


def test_different_numbers_of_scores_are_an_error():
    with pytest.raises(AssertionError):
        task_loss(torch.zeros(2, 1), torch.zeros(3))
    with pytest.raises(AssertionError):
        kd_loss(torch.zeros(2, 3), torch.zeros(2), temperature=1.0)


def test_the_task_loss_for_classes_by_hand():
    # -ln softmax(ln 3, 0)[0] = -ln 3/4, and -ln 1/2.
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])

    loss = task_loss(logits, torch.tensor([0, 1]))

    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, abs=1e-6)


def test_losses_are_computed_in_float32_under_autocast():
    generator = torch.Generator().manual_seed(1)
    logits, teacher = torch.randn(2, 3, 24, generator=generator)
    labels = torch.tensor([0, 5, 3])

    with torch.autocast("cpu", dtype=torch.bfloat16):
        kd = kd_loss(logits, teacher, temperature=2.0)
        task = task_loss(logits, labels)
        assert kd_loss(logits.bfloat16(), teacher.bfloat16(), 2.0).dtype == torch.float32

    assert torch.equal(kd, kd_loss(logits, teacher, temperature=2.0))
    assert torch.equal(task, F.cross_entropy(logits, labels))


@pytest.mark.parametrize("num_classes", [1, 3])
def test_gradients_equal_finite_differences(num_classes):
    torch.manual_seed(1)
    student = torch.randn(4, num_classes, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, num_classes, dtype=torch.float64)
    labels = teacher.flatten() if num_classes == 1 else teacher.argmax(-1)

    assert torch.autograd.gradcheck(lambda x: kd_loss(x, teacher, temperature=2.5), (student,))
    assert torch.autograd.gradcheck(lambda x: task_loss(x, labels), (student,))


def test_published_scalings_are_constant_factors_of_ours():
    torch.manual_seed(1)
    student, teacher = torch.randn(2, 5, 3, dtype=torch.float64)
    num_rows, num_classes, temperature = 5, 3, 4.0

    def divergence(temperature: float, reduction: str) -> torch.Tensor:
        log_student = F.log_softmax(student / temperature, -1)
        return F.kl_div(log_student, F.softmax(teacher / temperature, -1), reduction=reduction)

    ours = kd_loss(student, teacher, temperature)
    pkd = divergence(temperature, "none").mean() * temperature**2
    assert pkd.item() == pytest.approx(ours.item() / num_classes)
    codir = divergence(temperature, "sum") * temperature**2 / num_rows
    assert codir.item() == pytest.approx(ours.item())

    def cross_entropy(temperature: float) -> torch.Tensor:
        likelihoods = F.softmax(teacher / temperature, -1)
        return -(likelihoods * F.log_softmax(student / temperature, -1))

    def entropy(temperature: float) -> torch.Tensor:
        likelihoods = F.softmax(teacher / temperature, -1)
        return -(likelihoods * likelihoods.log()).sum(-1).mean()

    textbrewer = cross_entropy(temperature).sum(-1).mean() - entropy(temperature)
    assert textbrewer.item() == pytest.approx(ours.item() / temperature**2)
    tinybert = cross_entropy(1.0).mean() - entropy(1.0) / num_classes
    assert tinybert.item() == pytest.approx(kd_loss(student, teacher, 1.0).item() / num_classes)
