"""Evaluation in training: schedule, best-state selection, early stopping."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from raykd.training.evaluator import Evaluator
from raykd.training.settings import TrainingConfig


def evaluated(config: TrainingConfig, scores: list[float], *, num_rows: int = 40, **more):
    """Run a training whose weight is the step; return records, scores and the final student."""
    student = nn.Linear(1, 1, bias=False)
    remaining_scores = list(scores)
    evaluator = Evaluator(
        student, config, num_rows, lambda: {"accuracy": remaining_scores.pop(0)}, **more
    )
    records, scored = [], []
    for step in range(1, 21):
        nn.init.constant_(student.weight, step)
        if evaluator.is_due(step):
            records.append(step)
            if evaluator.evaluate(step):
                scored.append(step)
            if evaluator.should_stop:
                break
    evaluator.restore_best()
    return records, scored, int(student.weight), evaluator.best_step


def test_evaluation_is_after_epochs_and_at_most_as_often_as_set():
    config = TrainingConfig(epochs=4, batch_size=8)
    assert evaluated(config, [0.5] * 4)[:2] == ([5, 10, 15, 20], [5, 10, 15, 20])
    assert evaluated(config, [0.5] * 2, num_scores=2)[:2] == ([5, 10, 15, 20], [10, 20])


def test_evaluation_is_every_n_steps_and_after_the_last():
    config = TrainingConfig(epochs=4, batch_size=8, score_every=7)
    assert evaluated(config, [0.5] * 3)[:2] == ([5, 7, 10, 14, 15, 20], [7, 14, 20])


def test_steps_of_the_caller_apply_unless_the_settings_have_some():
    config = TrainingConfig(epochs=4, batch_size=8)
    scored = ([5, 7, 10, 14, 15, 20], [7, 14, 20])
    assert evaluated(config, [0.5] * 3, num_scores=4, score_every=7)[:2] == scored
    own = TrainingConfig(epochs=4, batch_size=8, score_every=10)
    assert evaluated(own, [0.5] * 2, score_every=7)[1] == [10, 20]


def test_the_last_state_is_kept_unless_keep_is_best():
    scores = [0.5, 0.8, 0.8, 0.7]
    assert evaluated(TrainingConfig(epochs=4, batch_size=8), scores)[2:] == (20, None)
    best = TrainingConfig(epochs=4, batch_size=8, keep="best")
    assert evaluated(best, scores)[2:] == (10, 10)


def test_training_stops_after_patience_scores_without_improvement():
    config = TrainingConfig(epochs=4, batch_size=8, keep="best", patience=2)
    assert evaluated(config, [0.5, 0.4, 0.5, 0.9]) == ([5, 10, 15], [5, 10, 15], 5, 5)
    assert evaluated(config, [0.5, 0.4, 0.6, 0.5]) == ([5, 10, 15, 20], [5, 10, 15, 20], 15, 15)


def test_patience_without_keep_best_is_refused():
    with pytest.raises(ValidationError, match="set keep: best as well"):
        TrainingConfig(patience=2)


def test_a_resumed_evaluator_keeps_the_best_state_so_far():
    config = TrainingConfig(epochs=4, batch_size=8, keep="best", patience=2)
    student = nn.Linear(1, 1, bias=False)
    first = Evaluator(student, config, 40, lambda: {"accuracy": 0.9})
    nn.init.constant_(student.weight, 5)
    first.evaluate(5)
    second = Evaluator(student, config, 40, lambda: {"accuracy": 0.1})

    second.restore(first.state(), first.tensors())
    nn.init.constant_(student.weight, 10)
    second.evaluate(10)
    assert not second.should_stop
    second.evaluate(15)
    second.restore_best()

    assert second.should_stop
    assert second.best_step == 5
    assert torch.equal(student.weight, torch.tensor([[5.0]]))
