"""Objectives with cached teacher outputs instead of a teacher in every step."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_models import tiny_batch, tiny_encoder

from raykd.errors import InputError
from raykd.models.inference import RelationRequest, answers_of
from raykd.models.tokenization.tokens import TokenizedRows, collate
from raykd.objectives import build
from raykd.objectives.alp_kd import AlpKdConfig
from raykd.objectives.base import Epoch
from raykd.objectives.ckd import CkdConfig
from raykd.objectives.codir import CodirConfig
from raykd.objectives.minilmv2 import MiniLmV2Config
from raykd.objectives.pkd import PkdConfig
from raykd.objectives.rail_kd import RailKdConfig


@pytest.mark.parametrize(
    "config",
    [
        PkdConfig(),
        CkdConfig(tokens="cls"),
        AlpKdConfig(),
        RailKdConfig(),
        RailKdConfig(variant="concatenated"),
        RailKdConfig(pooling="cls"),
        RailKdConfig(matching="contrastive"),
        CodirConfig(label_margin=0.2),
        CodirConfig(pooling="cls", label_margin=0.2),
    ],
    ids=lambda config: f"{config.name}-{getattr(config, 'pooling', 'cls')}",
)
def test_cached_teacher_outputs_give_the_same_loss_as_a_running_teacher(config):
    batch = tiny_batch()
    rows = TokenizedRows(
        input_ids=batch["input_ids"][batch["attention_mask"] > 0].numpy().astype(np.int32),
        token_type_ids=batch["token_type_ids"][batch["attention_mask"] > 0].numpy(),
        offsets=np.concatenate([[0], np.cumsum(batch["attention_mask"].sum(1).numpy())]),
    )
    terms = []
    for cached in (False, True):
        chosen = config.model_copy(update={"cached_teacher": cached})
        student = tiny_encoder(num_layers=3, hidden_size=12, seed=1)
        teacher = tiny_encoder(num_layers=5, hidden_size=24, seed=2)
        torch.manual_seed(4)
        objective = build(chosen, student, teacher).train()
        objective.start_training(4, batch["labels"], seed=1)
        objective.start_epoch(Epoch(seed=1, number=1, total=3))
        if cached:
            answers = answers_of(
                objective.teacher,
                rows,
                pad_id=0,
                device=torch.device("cpu"),
                pooling=chosen.teacher_features,
            )
            batch["teacher_logits"] = torch.from_numpy(answers.logits)
            batch["teacher_features"] = torch.from_numpy(answers.features)
            objective.teacher.register_forward_pre_hook(_must_not_run)
        terms.append(objective(batch))

    running, cached = terms
    torch.testing.assert_close(cached.total, running.total, rtol=1e-5, atol=1e-6)
    assert cached.parts.keys() == running.parts.keys()


@pytest.mark.parametrize("layer", [None, 3])
def test_cached_relations_equal_the_running_teachers_to_half_precision(layer):
    batch = tiny_batch()
    is_token = batch["attention_mask"] > 0
    rows = TokenizedRows(
        input_ids=batch["input_ids"][is_token].numpy().astype(np.int32),
        token_type_ids=batch["token_type_ids"][is_token].numpy(),
        offsets=np.concatenate([[0], np.cumsum(batch["attention_mask"].sum(1).numpy())]),
    )
    config = MiniLmV2Config(relation_heads=6, teacher_layer=layer)
    losses, gradients = [], []
    for cached in (False, True):
        student = tiny_encoder(num_layers=3, hidden_size=12, seed=1)
        teacher = tiny_encoder(num_layers=5, hidden_size=24, seed=2)
        chosen = config.model_copy(update={"cached_teacher": cached})
        objective = build(chosen, student, teacher).eval()
        inputs = batch
        if cached:
            assert chosen.teacher_relations == (layer or -1)
            vectors = np.zeros((len(rows.input_ids), 3, 24), np.float16)
            request = RelationRequest(layer or 5, vectors)
            answers_of(teacher, rows, pad_id=0, device=torch.device("cpu"), relations=request)
            rows = replace(rows, teacher_relations=vectors)
            inputs = collate(rows, np.arange(len(rows)), pad_id=0, regression=False)
            assert inputs["teacher_relations"].shape == (*batch["input_ids"].shape, 3, 24)
            assert not inputs["teacher_relations"][~is_token].any()
            teacher.register_forward_pre_hook(_must_not_run)
        loss = objective(inputs).total
        loss.backward()
        losses.append(loss.detach())
        trained = [p.grad for p in student.parameters() if p.grad is not None]
        gradients.append(torch.cat([gradient.flatten() for gradient in trained]))
    torch.testing.assert_close(losses[1], losses[0], rtol=5e-3, atol=0)
    error = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
    assert error < 5e-3


def test_vectors_beyond_half_precision_are_refused():
    batch = tiny_batch()
    ids = batch["input_ids"][:1, :3].numpy().astype(np.int32).ravel()
    rows = TokenizedRows(ids, None, np.array([0, 3]))
    teacher = tiny_encoder(num_layers=2, hidden_size=24)
    teacher.projections(2).modules[0].bias.data.fill_(1e5)
    request = RelationRequest(2, np.zeros((3, 3, 24), np.float16))
    with pytest.raises(InputError, match="too large for float16.*set cached_teacher: false"):
        answers_of(teacher, rows, pad_id=0, device=torch.device("cpu"), relations=request)


def _must_not_run(*_: object) -> None:
    raise AssertionError("the teacher ran in the step")


def test_a_cache_with_one_vector_per_row_is_refused_for_token_level_losses():
    with pytest.raises(ValidationError, match="stores one vector per row.*set tokens: cls"):
        CkdConfig(cached_teacher=True)
