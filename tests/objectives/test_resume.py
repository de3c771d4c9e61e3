"""Resumed trainings of every objective equal uninterrupted ones."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from event_handlers import calling
from objective_settings import SETTINGS, SPECIAL_TOKENS
from tiny_models import VOCABULARY_SIZE, tiny_encoder, tiny_masked_lm

from raykd.models.encoder import Encoder
from raykd.models.tokenization.tokens import TokenizedRows
from raykd.objectives import OBJECTIVES, build
from raykd.training.checkpoint import CheckpointFolder
from raykd.training.logging.records import StepRecord
from raykd.training.loop import train
from raykd.training.settings import TrainingConfig
from raykd.training.trainers import Worker

# Fifteen steps per epoch; checkpoints after steps 10 (within an epoch) and 15 (at its end).
CONFIG = TrainingConfig(num_steps=22, batch_size=4, learning_rate=1e-3)


class PowerCutError(Exception):
    """Interruption of a training."""


def rows_of(num_rows: int = 60) -> TokenizedRows:
    random = np.random.default_rng(0)
    lengths = random.integers(3, 10, num_rows)
    return TokenizedRows(
        input_ids=random.integers(5, VOCABULARY_SIZE, lengths.sum()).astype(np.int32),
        token_type_ids=None,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        labels=random.integers(0, 3, num_rows).astype(np.float64),
        teacher_logits=random.normal(size=(num_rows, 3)).astype(np.float32),
    )


def with_dropout(encoder: Encoder) -> Encoder:
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    return encoder


def train_until(
    name: str, folder: Path, last_step: int | None = None
) -> tuple[int, dict[int, StepRecord], dict[str, torch.Tensor]]:
    """Train up to a step; return the first step, the logged records and the final state."""
    config = SETTINGS[name]
    student = with_dropout(tiny_encoder(num_layers=2, hidden_size=12, seed=1))
    teacher = tiny_encoder(num_layers=4, hidden_size=24, seed=2)
    torch.manual_seed(4)
    generator = tiny_masked_lm() if config.generator_reference("teacher") else None
    objective = build(config, student, teacher, generator, SPECIAL_TOKENS)
    checkpoints = CheckpointFolder(folder, name, {}, {}, every_s=0)
    starts: list[int] = []
    records_by_step: dict[int, StepRecord] = {}

    def end(step: int) -> None:
        if step == last_step:
            checkpoints.wait()
            raise PowerCutError

    with suppress(PowerCutError):
        train(
            objective,
            rows_of(),
            CONFIG,
            pad_id=0,
            regression=False,
            seed=1,
            worker=Worker(),
            checkpoints=checkpoints,
            events=calling(
                on_start=lambda step, _: starts.append(step),
                on_step=end,
                on_step_records=lambda records: records_by_step.update(
                    (record.step, record) for record in records
                ),
            ),
        )
    return starts[0], records_by_step, objective.state_dict()


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(name, tmp_path):
    start, all_records, expected_state = train_until(name, tmp_path / "whole")
    assert start == 0
    assert sorted(all_records) == list(range(1, 23))

    train_until(name, tmp_path / "cut", last_step=13)
    torch.rand(3)
    start, remaining_records, resumed_state = train_until(name, tmp_path / "cut")

    assert start == 10
    assert remaining_records == {step: record for step, record in all_records.items() if step > 10}
    assert all(torch.equal(resumed_state[key], expected_state[key]) for key in expected_state)
