"""Properties of PKD, Combine-KD, ALP-KD and RAIL-KD in all their settings."""

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from tiny_models import tiny_batch, tiny_encoder
from torch.nn.functional import pad

from raykd.errors import InputError
from raykd.objectives import OBJECTIVES, ObjectiveConfig, build
from raykd.objectives.alp_kd import AlpKdConfig
from raykd.objectives.base import Epoch
from raykd.objectives.ckd import CkdConfig
from raykd.objectives.losses.logits import kd_loss, task_loss
from raykd.objectives.pkd import PkdConfig
from raykd.objectives.rail_kd import RailKdConfig

# Three layers learn from five: without the last layers, 1 and 2 from some of 1 to 4.
CONFIGS = [
    PkdConfig(),
    PkdConfig(layer_map="last", normalize=False, reduction="sum_dim"),
    PkdConfig(layer_map={2: 5}),
    CkdConfig(),
    CkdConfig(grouping="overlap", tokens="cls", include_last=True),
    CkdConfig(grouping={3: (1, 5)}),
    AlpKdConfig(),
    AlpKdConfig(scale="sqrt_d", include_last=True, teacher_projection="trainable"),
    RailKdConfig(),
    RailKdConfig(variant="concatenated", teacher_projection="frozen_orthogonal"),
    RailKdConfig(projections="per_slot", projection_size=5),
]

every_setting = pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda config: f"{config.name}-{CONFIGS.index(config)}"
)
both_widths = pytest.mark.parametrize("width", [12, 24])


def make(config, *, width: int = 12):
    """Build an objective with a student of three layers and a teacher of five of width 24."""
    student = tiny_encoder(num_layers=3, hidden_size=width, seed=1)
    teacher = tiny_encoder(num_layers=5, hidden_size=24, seed=2)
    torch.manual_seed(4)
    objective = build(config, student, teacher).train()
    objective.start_epoch(Epoch(seed=1, number=1, total=3))
    return objective


@every_setting
@both_widths
def test_the_total_is_the_weighted_sum_of_task_logit_and_layer_losses(config, width):
    weights = {"task_weight": 0.5, "logit_weight": 2.0, "layer_weight": 3.0, "temperature": 4.0}
    objective = make(config.model_copy(update=weights), width=width)
    batch = tiny_batch()
    inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    student, teacher = (
        model(*inputs, layers=range(1, model.num_layers + 1))
        for model in (objective.student, objective.teacher)
    )

    terms = objective(batch)

    layers, _ = objective.layer_loss(student.hidden_states, teacher.hidden_states, batch)
    kd = kd_loss(student.logits, teacher.logits, 4.0)
    task = task_loss(student.logits, batch["labels"])
    torch.testing.assert_close(terms.total, 0.5 * task + 2 * kd + 3 * layers)
    assert {name: part.item() for name, part in terms.parts.items()} == pytest.approx(
        {"layers": layers.item(), "logits": kd.item(), "task": task.item()}, rel=1e-4
    )


@every_setting
def test_without_task_weight_no_labels_are_needed(config):
    config = config.model_copy(update={"task_weight": 0.0})
    batch = tiny_batch()
    del batch["labels"]

    terms = make(config)(batch)

    assert not config.needs_labels
    assert list(terms.parts) == ["layers", "logits"]


@every_setting
def test_each_model_runs_once_and_returns_only_the_layers_in_use(config, monkeypatch):
    objective = make(config)
    requested = []
    for model in (objective.student, objective.teacher):

        def spy(*inputs, layers, forward=model.forward):
            output = forward(*inputs, layers=layers)
            requested.append(set(output.hidden_states))
            return output

        monkeypatch.setattr(model, "forward", spy)

    objective(tiny_batch())

    assert requested == [set(objective.teacher_layers), set(objective.student_layers)]


@every_setting
@both_widths
def test_padding_changes_nothing(config, width):
    batch = tiny_batch()
    wide = {
        key: pad(value, (0, 6)) if value.shape == (4, 9) else value for key, value in batch.items()
    }
    objective = make(config, width=width)

    torch.testing.assert_close(objective(wide).total, objective(batch).total)


@every_setting
def test_the_loss_of_a_batch_is_the_mean_of_its_halves(config):
    objective, batch = make(config), tiny_batch()
    halves = [
        objective({key: value[part] for key, value in batch.items()}).parts["layers"]
        for part in (slice(0, 2), slice(2, 4))
    ]

    torch.testing.assert_close(objective(batch).parts["layers"], sum(halves) / 2)


@every_setting
@both_widths
def test_every_trained_parameter_has_a_gradient_in_every_epoch(config, width):
    objective = make(config, width=width)
    (player,) = objective.players().values()
    for number in (1, 2, 3):
        objective.zero_grad()
        objective.start_epoch(Epoch(seed=1, number=number, total=3))

        objective(tiny_batch()).total.backward()

        assert all(parameter.grad is not None for parameter in player.parameters)
        idle = set(objective.parameters()) - set(player.parameters)
        assert all(parameter.grad is None for parameter in idle)


@every_setting
def test_the_layer_loss_is_computed_in_float32_under_autocast(config, monkeypatch):
    objective = make(config)
    inputs_of_loss = []
    layer_loss = objective.layer_loss

    def spy(*states):
        inputs_of_loss.append(states)
        return layer_loss(*states)

    monkeypatch.setattr(objective, "layer_loss", spy)
    with torch.autocast("cpu", torch.bfloat16):
        terms = objective(tiny_batch())

    expected, _ = layer_loss(*inputs_of_loss[0])
    assert expected.dtype == torch.float32
    assert torch.equal(terms.parts["layers"], expected.detach())


@every_setting
def test_settings_are_unchanged_after_a_round_trip(config):
    adapter = TypeAdapter(ObjectiveConfig)

    assert adapter.validate_python(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("config", [PkdConfig(), CkdConfig(), AlpKdConfig(), RailKdConfig()])
def test_models_are_checked_without_weights(config):
    with torch.device("meta"):
        student, teacher = tiny_encoder(num_layers=3), tiny_encoder(num_layers=5)
        single = tiny_encoder(num_layers=1)
    check = OBJECTIVES[config.name].check

    check(config, student, teacher)
    with pytest.raises(InputError, match=f"{config.name}: a student of one layer has no interm"):
        check(config, single, teacher)


@pytest.mark.parametrize("name", ["pkd", "ckd", "alp_kd", "rail_kd"])
@pytest.mark.parametrize(
    "values",
    [
        {"task_weight": -1},
        {"logit_weight": 0},
        {"layer_weight": 0},
        {"temperature": 0},
        {"relation_heads": 3},
    ],
)
def test_settings_out_of_bounds_are_refused(name, values):
    with pytest.raises(ValidationError):
        TypeAdapter(ObjectiveConfig).validate_python({"name": name, **values})
