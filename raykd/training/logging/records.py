"""Records of a training: losses per step, and their means between evaluations."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, distributed

from raykd.objectives.base import STUDENT, LossTerms
from raykd.training.trainers import Worker


@dataclass(frozen=True)
class StepRecord:
    """Losses of one step's batch; `gradient_norm` is the norm before clipping."""

    step: int
    epoch: int
    player: str
    learning_rate: float
    losses: dict[str, float]
    measures: dict[str, float]
    gradient_norm: float

    @property
    def total(self) -> float:
        """Loss that the step minimized."""
        return self.losses[_prefix(self.player) + "total"]

    def to_json(self) -> str:
        """Line of `steps.jsonl`."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Record:
    """Means over the steps since the last record, and scores if the model was evaluated.

    `epoch` includes the fraction of an unfinished epoch.
    """

    epoch: float
    step: int
    learning_rate: float
    losses: dict[str, float]
    measures: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """Line of `metrics.jsonl`."""
        return json.dumps(asdict(self))


class _Step(NamedTuple):
    step: int
    epoch: int
    player: str
    learning_rate: float
    names: list[tuple[str, str]]
    values: Tensor  # means of the terms over this worker's rows, then the gradient norm
    weight: float


class StepLog:
    """Log of the steps since the last flush; values stay on the device to avoid waiting for it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._steps: list[_Step] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(
        self,
        step: int,
        epoch: int,
        player: str,
        learning_rate: float,
        micro_batches: Sequence[tuple[LossTerms, float]],
        norm: Tensor,
        weight: float,
    ) -> None:
        """Add a step.

        Args:
            step: step number, from 1.
            epoch: epoch number, from 1.
            player: player that the step trained.
            learning_rate: learning rate of the step.
            micro_batches: losses of each micro-batch, and its share of this worker's rows.
            norm: gradient norm.
            weight: this worker's rows, divided by the mean number of rows per worker.
        """
        means: dict[tuple[str, str], Tensor] = {}
        for terms, share in micro_batches:
            for name, value in _logged(terms, player).items():
                means[name] = means.get(name, 0.0) + value.detach().float() * share
        values = torch.stack([*means.values(), norm.float()])
        self._steps.append(_Step(step, epoch, player, learning_rate, list(means), values, weight))

    def flush(self) -> list[StepRecord]:
        """Records of the steps, averaged over all workers' rows; the same on every worker."""
        if not self._steps:
            return []
        device = self._worker.device
        sums = torch.cat([step.values * step.weight for step in self._steps])
        joined = torch.cat([sums, torch.tensor([s.weight for s in self._steps], device=device)])
        if self._worker.size > 1:
            distributed.all_reduce(joined)
        numbers = joined.tolist()
        weights = numbers[len(sums) :]
        records, start = [], 0
        for step, weight in zip(self._steps, weights, strict=True):
            *means, norm = (value / weight for value in numbers[start : start + len(step.values)])
            start += len(step.values)
            kinds: dict[str, dict[str, float]] = {"losses": {}, "measures": {}}
            for (kind, name), mean in zip(step.names, means, strict=True):
                kinds[kind][name] = mean
            records.append(
                StepRecord(
                    step=step.step,
                    epoch=step.epoch,
                    player=step.player,
                    learning_rate=step.learning_rate,
                    gradient_norm=norm,
                    **kinds,
                )
            )
        self._steps = []
        return records


class Means:
    """Running means of losses and measures since the last record."""

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, list[float]]] = {"losses": {}, "measures": {}}

    def add(self, record: StepRecord) -> None:
        """Add a step."""
        for kind, values in (("losses", record.losses), ("measures", record.measures)):
            for name, value in values.items():
                entry = self._sums[kind].setdefault(name, [0.0, 0.0])
                entry[0] += value
                entry[1] += 1

    def take(self) -> dict[str, dict[str, float]]:
        """Means of losses and measures by name; resets the sums."""
        means = {
            kind: {name: total / number for name, (total, number) in entries.items()}
            for kind, entries in self._sums.items()
        }
        self._sums = {kind: {} for kind in self._sums}
        return means

    def state(self) -> dict[str, dict[str, list[float]]]:
        """Plain values for `restore`."""
        return self._sums

    def restore(self, state: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
        """Resume from a saved state."""
        self._sums = {
            kind: {name: list(entry) for name, entry in entries.items()}
            for kind, entries in state.items()
        }


def _logged(terms: LossTerms, player: str) -> dict[tuple[str, str], Tensor]:
    """Losses and measures of a step; names of players other than the student get a prefix."""
    prefix = _prefix(player)
    losses = {"total": terms.total, **terms.parts}
    return {
        **{("losses", prefix + name): value for name, value in losses.items()},
        **{("measures", prefix + name): value for name, value in terms.measures.items()},
    }


def _prefix(player: str) -> str:
    return "" if player == STUDENT else f"{player}_"
