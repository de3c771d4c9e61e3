"""Scores as a model trains: when they are taken, which state they keep, and when they end it."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from raykd.training.evaluator import Evaluator
from raykd.training.settings import TrainingConfig


def evaluated(config: TrainingConfig, scores: list[float], *, num_rows: int = 40, **more):
    """Records and scores of a training whose weight is the step; the student at its end."""
    student = nn.Linear(1, 1, bias=False)
    left = list(scores)
    evaluator = Evaluator(student, config, num_rows, lambda: {"accuracy": left.pop(0)}, **more)
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


def test_scores_are_taken_after_epochs_and_not_more_often_than_told():
    config = TrainingConfig(epochs=4, batch_size=8)
    assert evaluated(config, [0.5] * 4)[:2] == ([5, 10, 15, 20], [5, 10, 15, 20])
    assert evaluated(config, [0.5] * 2, num_scores=2)[:2] == ([5, 10, 15, 20], [10, 20])


def test_scores_are_taken_every_so_many_steps_and_after_the_last():
    config = TrainingConfig(epochs=4, batch_size=8, score_every=7)
    assert evaluated(config, [0.5] * 3)[:2] == ([5, 7, 10, 14, 15, 20], [7, 14, 20])


def test_the_last_state_is_kept_unless_the_best_is_wanted():
    scores = [0.5, 0.8, 0.8, 0.7]
    assert evaluated(TrainingConfig(epochs=4, batch_size=8), scores)[2:] == (20, None)
    best = TrainingConfig(epochs=4, batch_size=8, keep="best")
    assert evaluated(best, scores)[2:] == (10, 10)


def test_training_ends_after_so_many_scores_without_a_better_one():
    config = TrainingConfig(epochs=4, batch_size=8, keep="best", patience=2)
    assert evaluated(config, [0.5, 0.4, 0.5, 0.9]) == ([5, 10, 15], [5, 10, 15], 5, 5)
    assert evaluated(config, [0.5, 0.4, 0.6, 0.5]) == ([5, 10, 15, 20], [5, 10, 15, 20], 15, 15)


def test_patience_without_a_best_state_is_refused():
    with pytest.raises(ValidationError, match="set keep: best as well"):
        TrainingConfig(patience=2)


def test_an_examiner_goes_on_with_the_best_that_was_seen():
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
