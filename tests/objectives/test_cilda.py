"""CILDA: loss terms per player, contrastive loss, settings."""

from math import e, log

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from tiny_models import tiny_batch, tiny_encoder, tiny_masked_lm

from raykd.models.forward import run
from raykd.objectives import ObjectiveConfig, build
from raykd.objectives.base import STUDENT
from raykd.objectives.cilda import Cilda, CildaConfig
from raykd.objectives.losses.logits import kd_loss, task_loss
from raykd.objectives.shared.generation import GENERATOR, GeneratorObjective, generate

# The alternative reading of the paper.
GOLD_ON_GENERATED = {"task": 2 / 9, "logits": 1 / 9}
PLAYERS = (STUDENT, GENERATOR)


def make(config, num_labels: int = 3) -> GeneratorObjective:
    student = tiny_encoder(hidden_size=12, num_labels=num_labels, seed=1)
    teacher = tiny_encoder(num_layers=3, num_labels=num_labels, seed=2)
    torch.manual_seed(4)
    return build(config, student, teacher, tiny_masked_lm()).train()


def terms_for_player(objective: GeneratorObjective, player: str, batch: dict[str, torch.Tensor]):
    objective.take_turn(player, objective.players())
    torch.manual_seed(5)
    return objective(batch)


def generated_for_player(
    objective: GeneratorObjective, player: str, batch: dict[str, torch.Tensor]
):
    """Return the batch with the text that the generator writes in the player's step."""
    torch.manual_seed(5)
    with torch.set_grad_enabled(player == GENERATOR):
        return batch | {"input_ids": generate(objective.generator, batch, 0.3, 1.0).input_ids}


def contrast_by_hand(objective: Cilda, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Compute the contrastive loss per row from its definition."""
    sides = []
    for encoder, projection in (
        (objective.teacher, objective.teacher_projection),
        (objective.student, objective.student_projection),
    ):
        layers = range(1, encoder.num_layers + 1)
        states = run(encoder, batch, layers=layers).hidden_states
        if objective.config.pooling == "cls":
            pooled = [states[layer][:, 0] for layer in layers]
        else:
            mask = batch["attention_mask"].unsqueeze(-1)
            pooled = [(states[layer] * mask).sum(1) / mask.sum(1) for layer in layers]
        vectors = projection(torch.cat(pooled, dim=1))
        sides.append(vectors / vectors.norm(dim=1, keepdim=True))
    losses = []
    for row, anchor in enumerate(sides[0]):
        scores = torch.stack([(anchor @ candidate / 2.0).exp() for candidate in sides[1]])
        losses.append(-(scores[row] / scores.sum()).log())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_each_players_total_is_the_weighted_sum_of_its_losses(pooling):
    objective, batch = make(CildaConfig(pooling=pooling)), tiny_batch()
    logits = run(objective.student, batch).logits
    known, task = kd_loss(logits, batch["teacher_logits"], 1.0), task_loss(logits, batch["labels"])
    gaps, contrasts = {}, {}
    for player in PLAYERS:
        written = generated_for_player(objective, player, batch)
        student_logits, teacher_logits = (
            run(model, written).logits for model in (objective.student, objective.teacher)
        )
        gaps[player], contrasts[player] = (
            kd_loss(student_logits, teacher_logits, 1.0),
            contrast_by_hand(objective, written),
        )

    students, generators = (terms_for_player(objective, player, batch) for player in PLAYERS)

    expected = task / 3 + known / 3 + 2 / 9 * gaps[STUDENT] + 1 / 9 * contrasts[STUDENT]
    torch.testing.assert_close(students.total, expected)
    torch.testing.assert_close(generators.total, -(gaps[GENERATOR] + contrasts[GENERATOR]))
    assert set(students.parts) == {"task", "logits", "aug_logits", "aug_contrastive"}
    assert set(generators.parts) == {"aug_logits", "aug_contrastive"}
    assert students.measures["num_candidates"].item() == 4


def test_the_default_weights_of_the_student_sum_to_one():
    config = CildaConfig()

    weights = (config.task_weight, config.logit_weight, *config.aug_terms.values())
    assert sum(weights) == pytest.approx(1)


def test_the_alternative_reading_uses_gold_labels_for_generated_text_and_trains_no_maps():
    config, batch = CildaConfig(task_weight=0, aug_terms=GOLD_ON_GENERATED), tiny_batch()
    objective = make(config)
    written = generated_for_player(objective, STUDENT, batch)
    task = task_loss(run(objective.student, written).logits, batch["labels"])

    students, generators = (terms_for_player(objective, player, batch) for player in PLAYERS)

    assert set(students.parts) == {"logits", "aug_task", "aug_logits"}
    torch.testing.assert_close(students.parts["aug_task"], task.detach())
    assert "aug_contrastive" in generators.parts
    trained = {id(p) for player in objective.players().values() for p in player.parameters}
    maps = (objective.student_projection, objective.teacher_projection)
    assert not trained & {id(p) for projection in maps for p in projection.parameters()}


def test_labels_are_needed_only_with_task_losses():
    assert CildaConfig().needs_labels
    assert not CildaConfig(task_weight=0).needs_labels
    assert CildaConfig(task_weight=0, aug_terms=GOLD_ON_GENERATED).needs_labels

    batch = tiny_batch()
    del batch["labels"]
    parts = terms_for_player(make(CildaConfig(task_weight=0)), STUDENT, batch).parts
    assert set(parts) == {"logits", "aug_logits", "aug_contrastive"}


@pytest.mark.parametrize(
    "values",
    [
        {"aug_terms": {}},
        {"aug_terms": {"logits": 0}},
        {"aug_terms": {"hidden_states": 1}},
        {"generator_terms": {"task": 1}},
        {"mask_probability": 0},
        {"mask_probability": 1.1},
        {"generator_steps": 0},
        {"divergence": "kl"},
    ],
)
def test_contradictory_settings_are_refused(values):
    with pytest.raises(ValidationError):
        TypeAdapter(ObjectiveConfig).validate_python({"name": "cilda"} | values)


def test_the_contrastive_loss_for_regression_equals_that_for_classes_and_is_bounded():
    parts = terms_for_player(make(CildaConfig(), 1), GENERATOR, tiny_batch(regression=True)).parts

    # Untrained maps: near chance, log 4, and between the bounds for temperature 2.
    assert log(1 + 3 / e) < parts["aug_contrastive"] < log(1 + 3 * e)
    assert parts["aug_contrastive"].item() == pytest.approx(log(4), abs=0.4)


def test_a_batch_of_one_row_has_zero_contrastive_loss_and_trains_every_parameter():
    for player in PLAYERS:
        objective = make(CildaConfig())
        terms = terms_for_player(objective, player, tiny_batch(num_rows=1))
        terms.total.backward()

        assert terms.parts["aug_contrastive"].item() == 0
        assert terms.measures["num_candidates"].item() == 1
        assert all(p.grad is not None for p in objective.players()[player].parameters)
