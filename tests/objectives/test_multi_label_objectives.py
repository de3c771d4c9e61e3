"""Multi-label tasks: every objective trains on sets of classes, or refuses before work."""

import pytest
import torch
import torch.nn.functional as F
from objective_settings import SETTINGS, SPECIAL_TOKENS
from tiny_models import tiny_batch, tiny_encoder, tiny_masked_lm

from raykd.models.families.classes import mark_kind
from raykd.models.forward import run
from raykd.objectives import OBJECTIVES, build
from raykd.objectives.annealing_kd import AnnealingKdConfig
from raykd.objectives.base import STUDENT, Epoch, Objective, ObjectiveConfig
from raykd.objectives.codir import CodirConfig
from raykd.objectives.losses.logits import kd_loss, task_loss
from raykd.objectives.mate_kd import divergence

SETS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
# A bank of other classes' rows is refused; a queue is not.
CONFIGS = SETTINGS | {"codir": CodirConfig(negatives="queue", num_negatives=8)}


def batch_of_sets() -> dict[str, torch.Tensor]:
    return tiny_batch() | {"labels": SETS}


def made(config: ObjectiveConfig, *, multi_label: bool = True) -> Objective:
    student = tiny_encoder(num_layers=2, hidden_size=12, seed=1)
    mark_kind(student.model.config, multi_label=multi_label)
    teacher = tiny_encoder(num_layers=4, hidden_size=24, seed=2)
    generator = tiny_masked_lm() if config.generator_reference("teacher") else None
    torch.manual_seed(4)
    objective = build(config, student, teacher, generator, SPECIAL_TOKENS).train()
    labels = SETS if multi_label else tiny_batch()["labels"]
    objective.start_training(4, labels if objective.needs_labels else None, seed=1)
    objective.start_epoch(Epoch(seed=1, number=1, total=3))
    objective.take_turn(STUDENT, objective.players())
    return objective


def binary_kl(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL of each class's two outcomes, from torch's distributions, mean over rows and classes."""
    outcomes = [torch.distributions.Bernoulli(logits=x / temperature) for x in (teacher, student)]
    return torch.distributions.kl_divergence(*outcomes).mean() * temperature**2


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_trains_on_sets_with_binary_losses(name):
    objective, batch = made(CONFIGS[name]), batch_of_sets()
    config = objective.config
    assert config.needs_single_class is None

    terms = objective(batch)
    terms.total.backward()

    gradients = [p.grad for p in objective.student.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert torch.isfinite(terms.total)
    logits = run(objective.student, batch).logits
    if objective.needs_labels:
        gold = F.binary_cross_entropy_with_logits(logits, SETS)
        torch.testing.assert_close(terms.parts["task"], gold)
    if "logits" in terms.parts and not isinstance(config, AnnealingKdConfig):
        teacher_logits = batch["teacher_logits"]
        if "logits" not in config.needs_teacher:
            teacher_logits = run(objective.teacher, batch).logits
        expected = binary_kl(logits, teacher_logits, getattr(config, "temperature", 1.0))
        torch.testing.assert_close(terms.parts["logits"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_terms_without_labels_and_logits_are_those_of_single_classes(name):
    sets, classes = made(CONFIGS[name]), made(CONFIGS[name], multi_label=False)
    torch.manual_seed(5)
    found = sets(batch_of_sets()).parts
    torch.manual_seed(5)
    expected = classes(tiny_batch()).parts
    own = {"task", "aug_task", "aug_logits", "adversarial"}
    own |= set() if name == "annealing_kd" else {"logits"}
    assert found.keys() == expected.keys()
    for term in found.keys() - own:
        torch.testing.assert_close(found[term], expected[term], msg=f"{name} {term}")


@pytest.mark.parametrize(
    ("settings", "is_refused"),
    [
        ({}, True),
        ({"loss": "nce"}, True),
        ({"negatives": "queue"}, False),
        ({"task_weight": 0}, False),
        ({"task_weight": 0, "negatives": "bank"}, False),
    ],
)
def test_codir_refuses_sets_only_where_negatives_are_of_another_class(settings, is_refused):
    config = CodirConfig(**settings)
    assert (config.needs_single_class is not None) == is_refused
    if is_refused:
        assert "negatives: queue" in config.needs_single_class
        with pytest.raises(AssertionError):
            made(config)
    else:
        assert torch.isfinite(made(config)(batch_of_sets()).total)


def test_the_binary_losses_by_hand():
    # sigmoid(log 3) is 3/4: -log of 3/4, 1/4, and of 1/2 twice.
    logits = torch.tensor([[1.0986123, 1.0986123], [0.0, 0.0]])
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    expected = (0.2876821 + 1.3862944 + 2 * 0.6931472) / 4
    assert task_loss(logits, labels).item() == pytest.approx(expected)
    # KL of (3/4, 1/4) from (1/2, 1/2) is 0.75 log 1.5 + 0.25 log 0.5, in one of two classes.
    loss = kd_loss(torch.zeros(1, 2), torch.tensor([[1.0986123, 0.0]]), 1.0, multi_label=True)
    assert loss.item() == pytest.approx((0.75 * 0.4054651 - 0.25 * 0.6931472) / 2)
    cross_entropy = divergence(
        torch.zeros(1, 2), torch.tensor([[1.0986123, 0.0]]), "soft_ce", multi_label=True
    )
    assert cross_entropy.item() == pytest.approx(0.6931472)


def test_binary_losses_of_extreme_logits_are_finite_and_zero_for_equal_ones():
    logits = torch.tensor([[300.0, -300.0]], requires_grad=True)
    assert kd_loss(logits, logits.detach(), 1.0, multi_label=True).item() == 0
    loss = kd_loss(logits, -logits.detach(), 2.0, multi_label=True)
    loss.backward()
    assert loss.item() == pytest.approx(600.0)
    assert torch.isfinite(logits.grad).all()
    half = kd_loss(logits.bfloat16(), -logits.detach().bfloat16(), 2.0, multi_label=True)
    assert half.dtype == torch.float32
