"""In-training evaluation, best-checkpoint selection and early stopping."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from raykd.training.batches import num_batches
from raykd.training.settings import TrainingConfig, total_epochs, total_steps

# Prefix of the best state's tensors in a checkpoint.
_BEST = "best."


class EarlyStopping:
    """Best score so far, and the number of scores since then that were no better.

    Args:
        patience: scores without improvement after which to stop; None for never.
    """

    def __init__(self, patience: int | None) -> None:
        self._patience = patience
        self.best_score: float | None = None
        self.num_worse = 0

    def update(self, score: float) -> bool:
        """Record a score; returns whether it is the best so far."""
        is_best = self.best_score is None or score > self.best_score
        if is_best:
            self.best_score, self.num_worse = score, 0
        else:
            self.num_worse += 1
        return is_best

    @property
    def should_stop(self) -> bool:
        """True if `patience` scores in a row were no better than the best."""
        return self._patience is not None and self.num_worse >= self._patience


class Evaluator:
    """In-training evaluation of a student on held-out examples; keeps its best state.

    Args:
        student: model in training.
        config: training settings.
        num_rows: number of training rows.
        score: function that returns the metrics, the deciding one first; None for no evaluation.
        num_scores: maximum number of evaluations if no steps between them are set.
        score_every: steps between evaluations if `config.score_every` is not set.
    """

    def __init__(
        self,
        student: nn.Module,
        config: TrainingConfig,
        num_rows: int,
        score: Callable[[], dict[str, float]] | None = None,
        num_scores: int = 10,
        score_every: int | None = None,
    ) -> None:
        self._student = student
        self._config = config
        self._score = score
        self._score_every = config.score_every or score_every
        self._num_steps = total_steps(config, num_rows)
        self._steps_per_epoch = num_batches(num_rows, config.batch_size)
        self._epochs_per_score = -(-total_epochs(config, num_rows) // num_scores)
        self._early_stopping = EarlyStopping(config.patience)
        self._best_step = 0
        self._best: dict[str, Tensor] = {}

    def is_due(self, step: int) -> bool:
        """True if a record, and possibly an evaluation, follows a step."""
        every = self._score_every
        return (
            step == self._num_steps
            or step % self._steps_per_epoch == 0
            or (every is not None and step % every == 0)
        )

    def evaluate(self, step: int) -> dict[str, float]:
        """Scores after a step that has a record; empty if no evaluation is due."""
        every = self._score_every or self._epochs_per_score * self._steps_per_epoch
        if self._score is None or (step % every and step != self._num_steps):
            return {}
        scores = self._score()
        if self._config.keep == "best" and self._early_stopping.update(next(iter(scores.values()))):
            self._best_step = step
            self._best = {
                name: tensor.detach().to("cpu", copy=True)
                for name, tensor in self._student.state_dict().items()
            }
        return scores

    @property
    def should_stop(self) -> bool:
        """True if training has to stop early."""
        return self._early_stopping.should_stop

    @property
    def best_step(self) -> int | None:
        """Step of the best state; None if the last state is the result."""
        return self._best_step or None

    def restore_best(self) -> None:
        """Load the best state into the student, if there is one."""
        if self._best:
            self._student.load_state_dict(self._best)

    def tensors(self) -> dict[str, Tensor]:
        """Best state, with a prefix that no other tensor of a checkpoint has."""
        return {_BEST + name: tensor for name, tensor in self._best.items()}

    def state(self) -> dict[str, Any]:
        """Plain values for `restore`."""
        return {
            "best_score": self._early_stopping.best_score,
            "best_step": self._best_step,
            "num_worse": self._early_stopping.num_worse,
        }

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Resume from a saved state."""
        self._early_stopping.best_score = state["best_score"]
        self._early_stopping.num_worse = state["num_worse"]
        self._best_step = state["best_step"]
        self._best = {
            name.removeprefix(_BEST): torch.clone(tensor)
            for name, tensor in tensors.items()
            if name.startswith(_BEST)
        }
