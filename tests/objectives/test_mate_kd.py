"""MATE-KD: divergences, loss terms per player, settings."""

from math import log

import pytest
import torch
from tiny_models import tiny_batch, tiny_encoder, tiny_masked_lm

from raykd.models.forward import run
from raykd.objectives import build
from raykd.objectives.base import STUDENT
from raykd.objectives.losses.logits import task_loss
from raykd.objectives.mate_kd import MateKd, MateKdConfig, divergence
from raykd.objectives.shared.generation import GENERATOR, generate

# The teacher's probabilities are (3/4, 1/4), the student's (1/2, 1/2).
TEACHER, STUDENTS = torch.tensor([[log(3.0), 0.0]]), torch.tensor([[0.0, 0.0]])


def make(config: MateKdConfig, num_labels: int = 3) -> MateKd:
    student = tiny_encoder(hidden_size=12, num_labels=num_labels, seed=1)
    teacher = tiny_encoder(num_layers=3, num_labels=num_labels, seed=2)
    return build(config, student, teacher, tiny_masked_lm()).train()


def test_divergences_by_hand():
    # log 2 = 0.693147; minus the teacher's entropy 0.562335.
    assert divergence(STUDENTS, TEACHER, "soft_ce").item() == pytest.approx(0.693147, abs=1e-6)
    assert divergence(STUDENTS, TEACHER, "kl").item() == pytest.approx(0.130812, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "gradient"),
    [
        # p_c (log(p_c / q_c) - KL) = 3/4 (0.405465 - 0.130812), 1/4 (-0.693147 - 0.130812)
        ("kl", [0.205990, -0.205990]),
        # p_c (-log q_c - CE) = 0: with a uniform student the loss is the same for any text
        ("soft_ce", [0.0, 0.0]),
    ],
)
def test_gradients_by_teacher_logits_by_hand(kind, gradient):
    teacher = TEACHER.clone().requires_grad_()

    divergence(STUDENTS, teacher, kind).backward()

    torch.testing.assert_close(teacher.grad, torch.tensor([gradient]), atol=1e-6, rtol=0)


def test_gradients_by_student_logits_are_equal_for_both_divergences():
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    kinds = (divergence(student, teacher, kind) for kind in ("kl", "soft_ce"))

    first, second = (torch.autograd.grad(loss, student)[0] for loss in kinds)

    torch.testing.assert_close(first, second)


def test_gradients_equal_finite_differences():
    torch.manual_seed(0)
    logits = [torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    assert torch.autograd.gradcheck(lambda s, t: divergence(s, t, "soft_ce"), logits)


@pytest.mark.parametrize("kind", ["kl", "soft_ce"])
def test_scores_are_compared_by_squared_error_without_broadcasting(kind):
    # ((1 - 3)^2 + (2 - 2)^2) / 2
    loss = divergence(torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 2.0]), kind)

    assert loss.item() == 2.0


@pytest.mark.parametrize("kind", ["kl", "soft_ce"])
@pytest.mark.parametrize("num_labels", [1, 3])
def test_each_players_total_is_the_weighted_sum_of_its_losses(kind, num_labels):
    config = MateKdConfig(task_weight=0.2, logit_weight=0.3, aug_logit_weight=0.5, divergence=kind)
    objective, batch = make(config, num_labels), tiny_batch(regression=num_labels == 1)
    logits, gaps, totals = run(objective.student, batch).logits, {}, {}
    for player in (STUDENT, GENERATOR):
        torch.manual_seed(5)
        with torch.set_grad_enabled(player == GENERATOR):
            text = generate(objective.generator, batch, 0.3, 1.0)
        written = batch | {"input_ids": text.input_ids}
        student_logits, teacher_logits = (
            run(model, written).logits for model in (objective.student, objective.teacher)
        )
        gaps[player] = divergence(student_logits, teacher_logits, kind)
    known = divergence(logits, batch["teacher_logits"], kind)
    task = task_loss(logits, batch["labels"])

    for player in (STUDENT, GENERATOR):
        objective.take_turn(player, objective.players())
        torch.manual_seed(5)
        totals[player] = objective(batch)

    torch.testing.assert_close(
        totals[STUDENT].total, 0.2 * task + 0.3 * known + 0.5 * gaps[STUDENT]
    )
    torch.testing.assert_close(totals[GENERATOR].total, -gaps[GENERATOR])
    assert set(totals[STUDENT].parts) == {"task", "logits", "aug_logits"}
    torch.testing.assert_close(totals[GENERATOR].parts, {"aug_logits": gaps[GENERATOR].detach()})


def test_the_three_losses_have_equal_weights_by_default():
    config = MateKdConfig()

    assert config.task_weight == config.logit_weight == config.aug_logit_weight == 1 / 3
    assert config.divergence == "kl"


def test_without_task_weight_no_labels_are_needed():
    config, batch = MateKdConfig(task_weight=0), tiny_batch()
    del batch["labels"]

    assert not config.needs_labels
    assert set(make(config)(batch).parts) == {"logits", "aug_logits"}


@pytest.mark.parametrize("player", [STUDENT, GENERATOR])
def test_the_loss_of_a_batch_is_the_mean_of_its_halves_with_the_same_sampled_tokens(
    player, monkeypatch
):
    monkeypatch.setattr("torch.nn.functional.gumbel_softmax", lambda x, _: x.softmax(-1))
    monkeypatch.setattr("raykd.objectives.shared.generation.drawn", lambda x: x.argmax(-1))
    objective, batch = make(MateKdConfig(mask_probability=1.0)), tiny_batch()
    objective.take_turn(player, objective.players())
    halves = [{key: value[part] for key, value in batch.items()} for part in _halves()]

    total, first, second = (objective(part).total for part in (batch, *halves))

    torch.testing.assert_close(total, (first + second) / 2)


def _halves() -> tuple[slice, slice]:
    return slice(0, 2), slice(2, 4)


def test_the_generator_widens_the_gap_and_the_student_closes_it():
    """Against a teacher of clear answers; the masks and the noise are the same in each step."""
    objective, batch = make(MateKdConfig(task_weight=0)), tiny_batch()
    with torch.no_grad():
        objective.teacher.model.classifier.weight *= 50
        batch["teacher_logits"] = run(objective.teacher, batch).logits
    players = objective.players()
    for player, grows in ((GENERATOR, True), (STUDENT, False)):
        objective.take_turn(player, players)
        optimizer = torch.optim.Adam(players[player].parameters, lr=3e-3)
        gaps = []
        for _ in range(8):
            torch.manual_seed(5)
            terms = objective(batch)
            optimizer.zero_grad()
            terms.total.backward()
            optimizer.step()
            gaps.append(terms.parts["aug_logits"].item())
        assert gaps[-1] > 1.01 * gaps[0] if grows else gaps[-1] < 0.99 * gaps[0], gaps


def test_a_gap_is_zero_for_a_student_that_is_its_teacher():
    models = (tiny_encoder(seed=1), tiny_encoder(seed=1))
    terms = build(MateKdConfig(), *models, tiny_masked_lm())(tiny_batch())

    assert terms.parts["aug_logits"].item() == pytest.approx(0, abs=1e-6)
