"""When a model is scored as it trains, which state of it is kept, and when that is enough."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from raykd.training.batches import num_batches
from raykd.training.settings import TrainingConfig, total_epochs, total_steps

# Prefix of the kept state's tensors in a checkpoint.
_BEST = "best."


class Examiner:
    """Scores a student on examples it does not train on.

    Args:
        student: the model in training.
        config: of the training.
        num_rows: rows it trains on.
        score: returns the metrics, the one that decides first; None where nothing is scored.
        num_scores: most scores where `config.score_every` is not given.
    """

    def __init__(
        self,
        student: nn.Module,
        config: TrainingConfig,
        num_rows: int,
        score: Callable[[], dict[str, float]] | None = None,
        num_scores: int = 10,
    ) -> None:
        self._student = student
        self._config = config
        self._score = score
        self._num_steps = total_steps(config, num_rows)
        self._steps_an_epoch = num_batches(num_rows, config.batch_size)
        self._epochs_a_score = -(-total_epochs(config, num_rows) // num_scores)
        self._best_score: float | None = None
        self._best_step = 0
        self._num_worse = 0
        self._best: dict[str, Tensor] = {}

    def is_due(self, step: int) -> bool:
        """Whether there is a record, and maybe a score, after a step."""
        every = self._config.score_every
        return (
            step == self._num_steps
            or step % self._steps_an_epoch == 0
            or (every is not None and step % every == 0)
        )

    def examine(self, step: int) -> dict[str, float]:
        """The scores after a step with a record; none where it is not yet time."""
        every = self._config.score_every or self._epochs_a_score * self._steps_an_epoch
        if self._score is None or (step % every and step != self._num_steps):
            return {}
        scores = self._score()
        decisive = next(iter(scores.values()))
        if self._config.keep == "best":
            if self._best_score is None or decisive > self._best_score:
                self._best_score, self._best_step, self._num_worse = decisive, step, 0
                self._best = {
                    name: tensor.detach().to("cpu", copy=True)
                    for name, tensor in self._student.state_dict().items()
                }
            else:
                self._num_worse += 1
        return scores

    @property
    def has_seen_enough(self) -> bool:
        """Whether so many scores as `patience` says were no better than the best."""
        patience = self._config.patience
        return patience is not None and self._num_worse >= patience

    @property
    def best_step(self) -> int | None:
        """The step whose state is kept; None where the last one is."""
        return self._best_step or None

    def take_best(self) -> None:
        """Give the student its best state, where that is kept."""
        if self._best:
            self._student.load_state_dict(self._best)

    def tensors(self) -> dict[str, Tensor]:
        """The kept state, by names that no others share."""
        return {_BEST + name: tensor for name, tensor in self._best.items()}

    def state(self) -> dict[str, Any]:
        """What `restore` takes, as plain values."""
        return {
            "best_score": self._best_score,
            "best_step": self._best_step,
            "num_worse": self._num_worse,
        }

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on from an earlier state."""
        self._best_score = state["best_score"]
        self._best_step, self._num_worse = state["best_step"], state["num_worse"]
        self._best = {
            name.removeprefix(_BEST): torch.clone(tensor)
            for name, tensor in tensors.items()
            if name.startswith(_BEST)
        }
