"""TinyBERT's intermediate stage."""

import pytest
import torch
from tiny_models import tiny_batch, tiny_encoder
from torch import nn

from raykd.errors import InputError
from raykd.objectives import build
from raykd.objectives.losses.hidden_and_attention import attention_loss, hidden_loss
from raykd.objectives.tinybert import TinyBertConfig


@pytest.mark.parametrize(
    "config", [TinyBertConfig(), TinyBertConfig(projection="per_layer", mask_padding=False)]
)
def test_the_loss_is_the_sum_over_layers_and_embeddings(config):
    student = tiny_encoder(num_layers=2, hidden_size=12, seed=1)
    teacher = tiny_encoder("distilbert", num_layers=4, hidden_size=24, seed=2).eval()
    batch = tiny_batch()
    mask, inputs = batch["attention_mask"], (batch["input_ids"], batch["attention_mask"])
    objective = build(config, student, teacher)
    student_output = student(
        *inputs, batch["token_type_ids"], layers=[0, 1, 2], relation_layers=[1, 2]
    )
    teacher_output = teacher(*inputs, layers=[0, 2, 4], relation_layers=[2, 4])
    maps = list(objective.maps.projections) * (3 if config.projection == "shared" else 1)

    terms = objective(batch)

    hidden = sum(
        hidden_loss(
            maps[i](student_output.hidden_states[i]),
            teacher_output.hidden_states[2 * i],
            mask,
            mask_padding=config.mask_padding,
        )
        for i in (0, 1, 2)
    )
    attention = sum(
        attention_loss(
            student_output.relation_vectors[i],
            teacher_output.relation_vectors[2 * i],
            mask,
            2,
            mask_padding=config.mask_padding,
        )
        for i in (1, 2)
    )
    torch.testing.assert_close(terms.parts, {"hidden": hidden.data, "attention": attention.data})
    torch.testing.assert_close(terms.total, hidden + attention)


def test_the_loss_of_a_copy_of_the_teacher_is_zero():
    student, teacher = tiny_encoder(seed=1), tiny_encoder(seed=1)
    objective = build(TinyBertConfig(), student, teacher)
    with torch.no_grad():
        nn.init.eye_(objective.maps.projections[0].weight)
        nn.init.zeros_(objective.maps.projections[0].bias)

    assert objective(tiny_batch()).total.item() == pytest.approx(0, abs=1e-6)


def test_the_map_to_the_teachers_width_has_a_bias_and_is_trained():
    objective = build(TinyBertConfig(), tiny_encoder(hidden_size=12), tiny_encoder(num_layers=4))

    (projection,) = objective.maps.projections

    assert (projection.in_features, projection.out_features) == (12, 24)
    trained = [id(parameter) for parameter in objective.players()["student"].parameters]
    assert {id(projection.weight), id(projection.bias)} <= set(trained)


def test_it_learns_under_bfloat16():
    objective = build(
        TinyBertConfig(), tiny_encoder(hidden_size=12), tiny_encoder(num_layers=4, seed=2)
    ).train()
    optimizer = torch.optim.Adam(objective.players()["student"].parameters, lr=1e-3)
    losses = []
    for _ in range(5):
        with torch.autocast("cpu", torch.bfloat16):
            total = objective(tiny_batch()).total
        assert total.dtype == torch.float32
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())

    assert losses == sorted(losses, reverse=True)


def test_incompatible_models_are_refused():
    with pytest.raises(InputError, match="tinybert: the student's 2 layers do not divide"):
        build(TinyBertConfig(), tiny_encoder(num_layers=2), tiny_encoder(num_layers=3))
