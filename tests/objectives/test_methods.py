"""Properties of single objectives (Vanilla-KD, MiniLMv2) and of the weighted sum of terms."""

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from tiny_models import tiny_batch, tiny_encoder
from torch import nn

from raykd.errors import InputError
from raykd.objectives import ObjectiveConfig, build
from raykd.objectives.base import LossTerms
from raykd.objectives.fine_tune import FineTuneConfig
from raykd.objectives.losses.logits import kd_loss, task_loss
from raykd.objectives.losses.relations import relation_loss
from raykd.objectives.minilmv2 import MiniLmV2Config
from raykd.objectives.vanilla_kd import VanillaKdConfig


def test_the_total_is_the_weighted_sum_and_the_parts_are_not_weighted():
    loss = torch.tensor(3.0, requires_grad=True)

    terms = LossTerms.weighted(first=(2.0, loss), second=(0.5, torch.tensor(4.0)))

    assert terms.total.item() == 8.0
    assert {name: part.item() for name, part in terms.parts.items()} == {"first": 3, "second": 4}
    assert not terms.parts["first"].requires_grad


def test_vanilla_kd_is_the_weighted_sum_of_its_losses():
    student, batch = tiny_encoder(), tiny_batch()
    config = VanillaKdConfig(task_weight=0.3, logit_weight=0.7, temperature=2.0)
    ids, mask, types = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    logits = student(ids, mask, types).logits

    terms = build(config, student, None)(batch)

    task, kd = task_loss(logits, batch["labels"]), kd_loss(logits, batch["teacher_logits"], 2.0)
    torch.testing.assert_close(terms.total, 0.3 * task + 0.7 * kd)
    torch.testing.assert_close(terms.parts, {"logits": kd.detach(), "task": task.detach()})


def test_vanilla_kd_without_task_weight_needs_no_labels():
    config = VanillaKdConfig(task_weight=0.0)
    batch = tiny_batch()
    del batch["labels"]

    terms = build(config, tiny_encoder(), None)(batch)

    assert not config.needs_labels
    assert list(terms.parts) == ["logits"]


def test_needs_labels_of_each_objective():
    assert FineTuneConfig().needs_labels
    assert VanillaKdConfig().needs_labels
    assert not MiniLmV2Config().needs_labels


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_minilmv2_compares_the_chosen_teacher_layer_with_the_students_last(family):
    student = tiny_encoder(family, num_layers=2, hidden_size=12, seed=1)
    teacher = tiny_encoder(family, num_layers=4, hidden_size=24, seed=2).eval()
    batch = tiny_batch()
    inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]

    for teacher_layer, layer in ((None, 4), (2, 2)):
        config = MiniLmV2Config(relation_heads=3, teacher_layer=teacher_layer)
        terms = build(config, student, teacher)(batch)
        student_vectors = student(*inputs, relation_layers=[2]).relation_vectors[2]
        teacher_vectors = teacher(*inputs, relation_layers=[layer]).relation_vectors[layer]
        losses = [
            relation_loss(s, t, batch["attention_mask"], 3)
            for s, t in zip(student_vectors, teacher_vectors, strict=True)
        ]
        torch.testing.assert_close(terms.total, sum(losses))
        assert list(terms.parts) == ["query", "key", "value"]


def test_minilmv2_does_not_depend_on_the_models_number_of_heads():
    def total(student_heads: int, teacher_heads: int) -> float:
        student = tiny_encoder(hidden_size=12, num_heads=student_heads, seed=1)
        teacher = tiny_encoder(hidden_size=24, num_heads=teacher_heads, seed=2).eval()
        # The first layers: heads change the output of a layer, not its projections.
        config = MiniLmV2Config(relation_heads=6, teacher_layer=1)
        student.model.base_model.encoder.layer = student.model.base_model.encoder.layer[:1]
        student.model.config.num_hidden_layers = 1
        return build(config, student, teacher)(tiny_batch()).total.item()

    assert total(2, 2) == pytest.approx(total(4, 2)) == pytest.approx(total(3, 8))


def test_minilmv2_of_a_copy_of_the_teacher_is_zero():
    student, teacher = tiny_encoder(seed=1), tiny_encoder(seed=1)

    terms = build(MiniLmV2Config(relation_heads=6), student, teacher)(tiny_batch())

    assert terms.total.item() == pytest.approx(0, abs=1e-6)


def test_minilmv2_trains_across_families_and_ignores_attention_dropout():
    student = tiny_encoder("bert", hidden_size=12, seed=1)
    teacher = tiny_encoder("distilbert", hidden_size=24, seed=2)
    for module in teacher.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    objective = build(MiniLmV2Config(relation_heads=6), student, teacher).train()

    first, second = objective(tiny_batch()).total, objective(tiny_batch()).total

    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MiniLmV2Config(relation_heads=5), "5 relation_heads do not divide the student's width 12"),
        (MiniLmV2Config(relation_heads=4, teacher_layer=9), "choose one from 1 to 2"),
        (MiniLmV2Config(), "48 relation_heads do not divide"),
    ],
)
def test_minilmv2_refuses_incompatible_sizes(config, message):
    student, teacher = tiny_encoder(hidden_size=12), tiny_encoder(hidden_size=24)

    with pytest.raises(InputError, match=message):
        build(config, student, teacher)


@pytest.mark.parametrize(
    "values",
    [
        {"name": "vanilla_kd", "relation_heads": 3},
        {"name": "vanilla_kd", "temperature": 0},
        {"name": "vanilla_kd", "task_weight": -1},
        {"name": "vanilla_kd", "logit_weight": 0},
        {"name": "fine_tune", "temperature": 2},
        {"name": "minilmv2", "relation_heads": 0},
        {"name": "minilm"},
        {"temperature": 2},
    ],
)
def test_settings_of_an_unknown_or_another_objective_are_refused(values):
    with pytest.raises(ValidationError):
        TypeAdapter(ObjectiveConfig).validate_python(values)
