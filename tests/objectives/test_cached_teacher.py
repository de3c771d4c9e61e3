"""Objectives whose teacher has run before, once, instead of in every step."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_models import tiny_batch, tiny_encoder

from raykd.models.inference import answers_of
from raykd.models.tokens import TokenizedRows
from raykd.objectives import build
from raykd.objectives.alp_kd import AlpKdConfig
from raykd.objectives.base import Epoch
from raykd.objectives.ckd import CkdConfig
from raykd.objectives.codir import CodirConfig
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
        CodirConfig(label_margin=0.2),
        CodirConfig(pooling="cls", label_margin=0.2),
    ],
    ids=lambda config: f"{config.name}-{config.pooling}",
)
def test_a_teacher_from_the_cache_teaches_what_the_running_one_does(config):
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


def _must_not_run(*_: object) -> None:
    raise AssertionError("the teacher ran in the step")


def test_a_cache_of_one_vector_a_row_is_refused_where_all_tokens_are_compared():
    with pytest.raises(ValidationError, match="keeps one vector a row.*set tokens: cls"):
        CkdConfig(cached_teacher=True)
