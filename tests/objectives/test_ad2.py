"""AD2: loss terms, perturbation, and settings that disable parts of it."""

import logging
from collections.abc import Mapping

import pytest
import torch
from pydantic import ValidationError
from tiny_models import FAMILIES, tiny_batch, tiny_encoder
from torch import Tensor, nn

from raykd.errors import InputError
from raykd.models.encoder import Encoder
from raykd.objectives import ad2, build
from raykd.objectives.ad2 import Ad2, Ad2Config
from raykd.objectives.base import Objective
from raykd.objectives.losses.logits import kd_loss, task_loss
from raykd.objectives.losses.perturbation import Ascent, norms
from raykd.objectives.vanilla_kd import VanillaKdConfig
from raykd.training.phase.config import PhaseConfig

DEEP = {"feature_weight": 1.0, "attention_weight": 1.0}


def make(config: Ad2Config, *, family: str = "bert", num_labels: int = 3) -> Objective:
    student = tiny_encoder(family, hidden_size=12, num_labels=num_labels, seed=1)
    teacher = tiny_encoder(family, num_layers=4, num_labels=num_labels, seed=2)
    torch.manual_seed(3)
    return build(config, student, teacher).train()


def with_dropout(objective: Objective) -> Objective:
    for module in objective.student.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
    return objective


class Passes:
    """Recorder of a model's input embeddings per forward pass, and of its training mode."""

    def __init__(self, model: nn.Module) -> None:
        self.embedded: list[Tensor | None] = []
        self.training: list[bool] = []
        model.register_forward_pre_hook(self._keep, with_kwargs=True)

    def _keep(self, module: nn.Module, _: object, options: Mapping[str, Tensor]) -> None:
        embedded = options.get("word_embeddings")
        self.embedded.append(None if embedded is None else embedded.detach())
        self.training.append(module.training)

    @property
    def delta(self) -> Tensor:
        return self.embedded[-1] - self.embedded[0]


def perturbation_of_batch(objective: Objective, batch: Mapping[str, Tensor]) -> Tensor:
    passes = Passes(objective.student)
    objective(batch)
    return passes.delta


def student_logits(student: Encoder, batch: Mapping[str, Tensor], embedded: Tensor) -> Tensor:
    ids, mask, types = (batch[k] for k in ("input_ids", "attention_mask", "token_type_ids"))
    return student(ids, mask, types, word_embeddings=embedded).logits


def naive_delta(student: Encoder, batch: Mapping[str, Tensor], ascent: Ascent) -> Tensor:
    """Compute the perturbation per row without padding, from a leaf tensor of zeros."""
    embedded = student.embed(batch["input_ids"]).detach()
    deltas = torch.zeros_like(embedded)
    for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        single = {key: value[row : row + 1] for key, value in batch.items()}
        for key in ("input_ids", "attention_mask", "token_type_ids"):
            single[key] = single[key][:, :length]
        start = embedded[row : row + 1, :length]
        delta = torch.zeros_like(start)
        for _ in range(ascent.steps):
            delta.requires_grad_()
            kd = kd_loss(
                student_logits(student, single, start + delta), single["teacher_logits"], 1.0
            )
            (gradient,) = torch.autograd.grad(kd, delta)
            delta = delta.detach() + ascent.step_size * gradient / gradient.norm()
            delta = delta * min(1.0, ascent.epsilon / delta.norm().item())
        deltas[row, :length] = delta[0]
    return deltas


@pytest.mark.parametrize(
    "config",
    [
        Ad2Config(),
        Ad2Config(steps=3, epsilon=0.1, step_size=0.07),
        Ad2Config(steps=2, epsilon=0.2, step_size=0.2, inner_eval=True),
    ],
)
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_rows_perturbation_does_not_depend_on_the_batch(config, family):
    objective, batch = make(config, family=family), tiny_batch()

    delta = perturbation_of_batch(objective, batch)

    expected = naive_delta(objective.student, batch, config.ascent)
    torch.testing.assert_close(delta, expected, rtol=1e-3, atol=1e-6)


def test_the_loss_and_its_gradient_are_the_sum_of_three_terms():
    config = Ad2Config(task_weight=0.5, logit_weight=2.0, adversarial_weight=3.0, temperature=2.0)
    objective, batch = make(config), tiny_batch()
    delta = perturbation_of_batch(objective, batch)
    terms = objective(batch)
    parameters = list(objective.student.parameters())
    gradients = torch.autograd.grad(terms.total, parameters)

    embedded = objective.student.embed(batch["input_ids"])
    clean = student_logits(objective.student, batch, embedded)
    perturbed = student_logits(objective.student, batch, embedded + delta)
    task = task_loss(clean, batch["labels"])
    kd, adversarial = (kd_loss(x, batch["teacher_logits"], 2.0) for x in (clean, perturbed))
    total = 0.5 * task + 2 * kd + 3 * adversarial
    torch.testing.assert_close(terms.total, total)
    parts = {"task": task.data, "logits": kd.data, "adversarial": adversarial.data}
    torch.testing.assert_close(terms.parts, parts)
    expected = torch.autograd.grad(total, parameters)
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(terms.measures["adversarial_gap"], (adversarial - kd).data)


@pytest.mark.parametrize("adversary", ["freelb", "paper", "smart", "smart_later"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_perturbation_is_within_epsilon_and_zero_on_padding(adversary, steps):
    config = Ad2Config(adversary=adversary, steps=steps)
    batch = tiny_batch()

    delta = perturbation_of_batch(make(config), batch)

    # Differences of embeddings of 0.02 are exact to about 1e-9.
    assert (norms(delta, config.ascent.norm) <= config.ascent.epsilon * (1 + 1e-4) + 1e-8).all()
    assert (delta[batch["attention_mask"] == 0] == 0).all()
    assert (delta.flatten(1).norm(dim=1) > 0).all()


def test_a_small_perturbation_raises_the_loss_of_every_row():
    batch = tiny_batch()
    objective = make(Ad2Config(epsilon=0.01, step_size=0.01))
    embedded = objective.student.embed(batch["input_ids"])
    delta = perturbation_of_batch(objective, batch)

    clean, perturbed = (
        student_logits(objective.student, batch, point).log_softmax(-1)
        for point in (embedded, embedded + delta)
    )

    teacher = batch["teacher_logits"].softmax(-1)
    rises = (teacher * (clean - perturbed)).sum(-1)
    assert (rises > 0).all()
    assert objective(batch).measures["adversarial_gap"] > 0


def test_with_a_tiny_epsilon_the_adversarial_loss_equals_the_clean_one():
    terms = make(Ad2Config(epsilon=1e-9))(tiny_batch())

    torch.testing.assert_close(terms.parts["adversarial"], terms.parts["logits"])
    assert terms.measures["delta_norm_ratio"].item() < 1e-6


def test_the_reported_ratio_is_of_row_norms_without_padding():
    objective, batch = make(Ad2Config(epsilon=0.01, step_size=0.5)), tiny_batch()
    embedded = objective.student.embed(batch["input_ids"]) * batch["attention_mask"][..., None]

    ratio = objective(batch).measures["delta_norm_ratio"]

    torch.testing.assert_close(ratio, (0.01 / embedded.flatten(1).norm(dim=1)).mean().data)


@pytest.mark.parametrize(
    ("values", "num_passes"),
    [
        ({}, 2),
        ({"steps": 3}, 4),
        ({"inner_eval": True}, 3),
        ({"initialization": "uniform"}, 3),
        ({"adversary": "smart"}, 3),
        ({"adversarial_weight": 0.0}, 1),
    ],
)
def test_the_first_ascent_step_reuses_the_clean_forward_pass_if_it_starts_at_zero(
    values, num_passes
):
    objective = make(Ad2Config(**values))
    passes = Passes(objective.student)

    objective(tiny_batch())

    assert len(passes.embedded) == num_passes


def test_reusing_the_clean_forward_pass_gives_the_same_perturbation():
    batch = tiny_batch()

    shared, own = (
        perturbation_of_batch(make(Ad2Config(inner_eval=own)), batch) for own in (False, True)
    )

    torch.testing.assert_close(shared, own)


def test_inner_eval_disables_dropout_only_in_the_ascent():
    objective, batch = with_dropout(make(Ad2Config(inner_eval=True, steps=2))), tiny_batch()
    passes = Passes(objective.student)
    first = objective(batch)
    delta = passes.delta
    second = objective(batch)

    assert passes.training == 2 * [True, False, False, True]
    assert objective.student.training
    assert not torch.equal(first.total, second.total)
    torch.testing.assert_close(passes.embedded[-1] - passes.embedded[0], delta)


def test_dropout_is_active_in_the_ascent_by_default():
    objective, batch = with_dropout(make(Ad2Config())), tiny_batch()

    assert not torch.equal(
        perturbation_of_batch(objective, batch), perturbation_of_batch(objective, batch)
    )


@pytest.mark.parametrize(
    "config",
    [
        Ad2Config(steps=2),
        Ad2Config(**DEEP),
        Ad2Config(**DEEP, projection="per_layer", deep_on_adversarial=True, adversary="smart"),
        Ad2Config(attention_weight=1.0, steps=2),
        Ad2Config(logit_weight=0.0),
        Ad2Config(task_weight=0.0),
        Ad2Config(adversarial_weight=0.0),
    ],
)
def test_the_ascent_leaves_no_gradients_and_training_reaches_every_parameter(config):
    objective = make(config)

    total = objective(tiny_batch()).total

    assert all(parameter.grad is None for parameter in objective.parameters())
    total.backward()
    trained = [p for p in objective.parameters() if p.requires_grad]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)
    (players,) = objective.players().values()
    assert len(players.parameters) == len(trained)


@pytest.mark.parametrize("family", FAMILIES)
def test_deep_kd_of_hidden_states_fits_every_family(family):
    objective = make(Ad2Config(feature_weight=1.0), family=family)

    terms = objective(tiny_batch())
    terms.total.backward()

    assert list(terms.parts) == ["task", "logits", "hidden", "adversarial"]
    assert all(p.grad is not None for p in objective.parameters() if p.requires_grad)


def test_the_teacher_runs_once_per_batch_and_only_for_deep_kd():
    batch = {key: value for key, value in tiny_batch().items() if key != "teacher_logits"}
    objective = make(Ad2Config(**DEEP, steps=3, deep_on_adversarial=True))
    passes = Passes(objective.teacher)

    terms = objective(batch)

    assert len(passes.training) == 1
    assert make(Ad2Config()).teacher is None
    assert Ad2Config(**DEEP).needs_teacher == {"model"}
    assert Ad2Config().needs_teacher == {"logits"}
    deep = {"hidden", "attention", "adversarial_hidden", "adversarial_attention"}
    assert deep < set(terms.parts)


def test_deep_kd_adds_its_weighted_terms_and_changes_nothing_else():
    batch = tiny_batch()
    deep = make(Ad2Config(feature_weight=2.0, attention_weight=3.0))
    batch["teacher_logits"] = deep.teacher(*list(batch.values())[:3]).logits.detach()

    terms, plain = deep(batch), make(Ad2Config())(batch)

    added_terms = 2 * terms.parts["hidden"] + 3 * terms.parts["attention"]
    torch.testing.assert_close(terms.total, plain.total + added_terms)


def test_without_logit_weight_the_ascent_uses_the_gold_labels():
    config = Ad2Config(logit_weight=0.0, epsilon=0.01, step_size=0.01)
    batch = {key: value for key, value in tiny_batch().items() if key != "teacher_logits"}
    objective = make(config)
    delta = perturbation_of_batch(objective, batch)

    terms = objective(batch)

    embedded = objective.student.embed(batch["input_ids"])
    perturbed = task_loss(
        student_logits(objective.student, batch, embedded + delta), batch["labels"]
    )
    assert config.needs_teacher == set()
    torch.testing.assert_close(terms.parts["adversarial"], perturbed.data)
    assert terms.parts["adversarial"] > terms.parts["task"]
    scores = make(config, num_labels=1)(tiny_batch(regression=True))
    assert scores.parts["adversarial"] > scores.parts["task"]


def test_without_the_adversary_it_is_vanilla_kd():
    batch = tiny_batch()

    terms = make(Ad2Config(adversarial_weight=0.0))(batch)
    vanilla = make(VanillaKdConfig(task_weight=1.0, logit_weight=1.0))(batch)

    torch.testing.assert_close(terms.total, vanilla.total)
    assert not terms.measures


def test_it_works_in_bfloat16_with_several_steps():
    objective = make(Ad2Config(steps=3))

    with torch.autocast("cpu", torch.bfloat16):
        terms = objective(tiny_batch())
    terms.total.backward()

    assert terms.total.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in objective.student.parameters())


def test_settings_default_to_the_adversarys():
    assert Ad2Config().ascent == Ascent(1, 0.1, 0.1, "row_l2", "zeros", 0.1)
    assert Ad2Config(adversary="paper").ascent == Ascent(1, 1e-5, 1e-3, "row_l2", "zeros", 1e-5)
    assert Ad2Config(adversary="smart", steps=2, norm="token_l2", epsilon=0.25).ascent == Ascent(
        2, 0.25, 0.25, "token_l2", "gaussian", 1e-5
    )
    assert Ad2Config(adversary="smart_later", epsilon=0.5).ascent == Ascent(
        1, 0.5, 1e-3, "token_linf", "gaussian", 1e-5, "perturbation"
    )
    assert Ad2Config(epsilon=0.9).ascent.step_size == 0.9
    assert Ad2Config(epsilon=0.9, step_size=0.1).ascent.step_size == 0.1


def test_the_papers_adversary_logs_one_warning(caplog):
    with caplog.at_level(logging.WARNING):
        for adversary in ("freelb", "smart"):
            make(Ad2Config(adversary=adversary))
        make(Ad2Config(epsilon=1e-5))
        make(Ad2Config(adversary="paper", adversarial_weight=0.0))
        assert not caplog.records
        objective = make(Ad2Config(adversary="paper"))
        objective(tiny_batch())
        objective(tiny_batch())

    (record,) = caplog.records
    assert "epsilon 1e-05 is below step_size 0.001" in record.getMessage()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task_weight": 0, "logit_weight": 0}, "task_weight and logit_weight are 0; set one"),
        ({"deep_on_adversarial": True}, "feature_weight or attention_weight above 0"),
        ({**DEEP, "deep_on_adversarial": True, "adversarial_weight": 0}, "adversarial_weight"),
        ({"epsilon": 0}, "epsilon"),
        ({"steps": 0}, "steps"),
        ({"adversary": "literal"}, "adversary"),
    ],
)
def test_contradictory_settings_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        Ad2Config(**values)


def test_only_deep_kd_requires_matching_models():
    with torch.device("meta"):
        student, teacher = tiny_encoder("deberta"), tiny_encoder("bert", num_layers=3)
        other = tiny_encoder("deberta", num_layers=4)

    Ad2.check(Ad2Config(), student, teacher)
    Ad2.check(Ad2Config(feature_weight=1.0), student, other)
    with pytest.raises(InputError, match="ad2: the student's 2 layers do not divide"):
        Ad2.check(Ad2Config(feature_weight=1.0), student, teacher)
    with pytest.raises(InputError, match="ad2: attention scores of the student, a 'deberta-v2'"):
        Ad2.check(Ad2Config(attention_weight=1.0), student, other)


def test_a_student_is_trained_again_when_the_values_of_an_adversary_change(monkeypatch):
    phase = PhaseConfig(objective=Ad2Config())
    before = phase.determining()
    monkeypatch.setitem(ad2._ADVERSARIES, "freelb", Ascent(1, 0.2, 0.2, "row_l2", "zeros", 0.1))
    assert phase.determining() != before
    without = PhaseConfig(objective=Ad2Config(adversarial_weight=0))
    assert "defaults" not in without.determining()
