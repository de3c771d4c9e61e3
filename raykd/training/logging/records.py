"""What is told of a training: each step's losses, and their means between two scores."""

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
    """One step: the losses of its whole batch; `gradient_norm` is taken before clipping."""

    step: int
    epoch: int
    player: str
    learning_rate: float
    losses: dict[str, float]
    measures: dict[str, float]
    gradient_norm: float

    @property
    def total(self) -> float:
        """The loss that the step lowered."""
        return self.losses[_prefix(self.player) + "total"]

    def to_json(self) -> str:
        """One line of `steps.jsonl`."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Record:
    """Means over the steps since the last record, and the scores where they were taken.

    `epoch` counts passes over the rows, parts of one included.
    """

    epoch: float
    step: int
    learning_rate: float
    losses: dict[str, float]
    measures: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line of `metrics.jsonl`."""
        return json.dumps(asdict(self))


class _Step(NamedTuple):
    step: int
    epoch: int
    player: str
    learning_rate: float
    names: list[tuple[str, str]]
    values: Tensor  # the terms' means over this worker's rows, then the gradient's norm
    weight: float


class StepLog:
    """The steps not yet told; their values stay on the device, so that no step waits for it."""

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
        passes: Sequence[tuple[LossTerms, float]],
        norm: Tensor,
        weight: float,
    ) -> None:
        """Keep a step.

        Args:
            step: counted from 1.
            epoch: counted from 1.
            player: whose turn it was.
            learning_rate: of the step.
            passes: the losses of each, and its share of this worker's rows.
            norm: of the gradient.
            weight: this worker's rows over the mean number of rows of all workers.
        """
        means: dict[tuple[str, str], Tensor] = {}
        for terms, share in passes:
            for name, value in _logged(terms, player).items():
                means[name] = means.get(name, 0.0) + value.detach().float() * share
        values = torch.stack([*means.values(), norm.float()])
        self._steps.append(_Step(step, epoch, player, learning_rate, list(means), values, weight))

    def flush(self) -> list[StepRecord]:
        """The steps kept, the same on every worker, each the mean over the rows of all."""
        if not self._steps:
            return []
        device = self._worker.device
        sums = torch.cat([step.values * step.weight for step in self._steps])
        joined = torch.cat([sums, torch.tensor([s.weight for s in self._steps], device=device)])
        if self._worker.size > 1:
            distributed.all_reduce(joined)
        numbers = joined.tolist()
        weights = numbers[len(sums) :]
        records, at = [], 0
        for step, weight in zip(self._steps, weights, strict=True):
            *means, norm = (value / weight for value in numbers[at : at + len(step.values)])
            at += len(step.values)
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
    """Sums over steps since the last record."""

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, list[float]]] = {"losses": {}, "measures": {}}

    def add(self, record: StepRecord) -> None:
        """Take a step in."""
        for kind, values in (("losses", record.losses), ("measures", record.measures)):
            for name, value in values.items():
                entry = self._sums[kind].setdefault(name, [0.0, 0.0])
                entry[0] += value
                entry[1] += 1

    def take(self) -> dict[str, dict[str, float]]:
        """The means of losses and of measures by their names; what follows is summed anew."""
        means = {
            kind: {name: total / number for name, (total, number) in entries.items()}
            for kind, entries in self._sums.items()
        }
        self._sums = {kind: {} for kind in self._sums}
        return means

    def state(self) -> dict[str, dict[str, list[float]]]:
        """What `restore` takes, as plain values."""
        return self._sums

    def restore(self, state: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
        """Go on from an earlier state."""
        self._sums = {
            kind: {name: list(entry) for name, entry in entries.items()}
            for kind, entries in state.items()
        }


def _logged(terms: LossTerms, player: str) -> dict[tuple[str, str], Tensor]:
    """Losses and measures of a step; those of a player beside the student carry its name."""
    prefix = _prefix(player)
    losses = {"total": terms.total, **terms.parts}
    return {
        **{("losses", prefix + name): value for name, value in losses.items()},
        **{("measures", prefix + name): value for name, value in terms.measures.items()},
    }


def _prefix(player: str) -> str:
    return "" if player == STUDENT else f"{player}_"
