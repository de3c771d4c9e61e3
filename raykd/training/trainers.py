"""What each player of an objective is trained with: optimiser, learning rate, gradient scale."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raykd.errors import InputError
from raykd.objectives.base import STUDENT, Objective, Player
from raykd.training.distributed.shm_allreduce import ShmAllreduce, average_bucket
from raykd.training.settings import TrainingConfig

# More than any model's gradients take.
_ALL_MB = 1 << 20


class Worker(NamedTuple):
    """One of the processes that train one model together, and the threads it computes with."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    num_threads: int = 1


class Trainer:
    """Turns of one player: the objective as its workers share it, and the player's optimiser.

    Args:
        objective: it is this player's turn.
        player: whose parameters are trained.
        config: of the phase, for what the player leaves open.
        num_turns: steps that will be the player's.
        worker: this process.
        exchange: what averages the workers' gradients; None for what DDP does by itself.
    """

    def __init__(
        self,
        objective: Objective,
        player: Player,
        config: TrainingConfig,
        num_turns: int,
        worker: Worker,
        exchange: ShmAllreduce | None = None,
    ) -> None:
        self.turn = 0
        # What is left of a decayed parameter that had no gradient in any turn.
        self.decay = 1.0
        self._config = config
        self._num_turns = num_turns
        self._parameters = player.parameters
        self._max_grad_norm = player.max_grad_norm or config.max_grad_norm
        self._learning_rate = player.learning_rate or config.learning_rate
        self.model: nn.Module = objective
        if worker.size > 1:
            self.model = distributed_model(objective, exchange)
        # Fused: on a CPU a small student's step is mostly its embeddings' update (measured: 7
        # times faster than the default for 2 million of them).
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(player.parameters, config.weight_decay), fused=True
        )
        self.scaler = torch.amp.GradScaler(
            worker.device.type, enabled=config.precision == "float16"
        )

    @property
    def learning_rate(self) -> float:
        """Of the player's next turn."""
        factor = learning_rate_factor(self._config, self.turn, self._num_turns)
        return self._learning_rate * factor

    def no_sync(self) -> AbstractContextManager[None]:
        """In it, gradients stay this worker's own."""
        no_sync: Callable[[], AbstractContextManager[None]]
        no_sync = getattr(self.model, "no_sync", nullcontext)
        return no_sync()

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient to those of the turn's other passes."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # untyped in torch

    def end_turn(self) -> Tensor:
        """Change the parameters; returns the norm of the gradient before it was clipped.

        A gradient that overflowed in float16 changes nothing: the scale of the next one is lower.
        """
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm)
        learning_rate = self.learning_rate
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        scale = self.scaler.get_scale() if self.scaler.is_enabled() else 1.0
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.turn += 1
        is_overflow = self.scaler.is_enabled() and self.scaler.get_scale() < scale
        if not is_overflow:
            self.decay *= 1 - learning_rate * self._config.weight_decay
        return torch.zeros_like(norm) if is_overflow and scale > 1 else norm


def distributed_model(objective: Objective, exchange: ShmAllreduce | None) -> nn.Module:
    """The objective as its workers share it: `backward` leaves the mean of their gradients."""
    # Buffers are an objective's own business: a memory of all rows is larger than the model.
    # Gradients as views of what is sent spare a copy of them.
    # The exchange goes in one go, when all gradients are there: a worker that is ahead with some of
    # them does not wait for the others to be.
    model = DistributedDataParallel(
        objective,
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
        bucket_cap_mb=None if exchange is None else _ALL_MB,
    )
    if exchange is not None:
        model.register_comm_hook(exchange, average_bucket)
    return model


def make_trainers(
    objective: Objective,
    players: Mapping[str, Player],
    config: TrainingConfig,
    num_steps: int,
    worker: Worker,
) -> dict[str, Trainer]:
    """A trainer for each player.

    Raises:
        InputError: there are too few steps for the student to have a turn.
    """
    turns = Counter(map(objective.player_of, range(1, num_steps + 1)))
    if not turns[STUDENT]:
        raise InputError(
            f"{objective.config.name}: none of the {num_steps} steps is the student's turn; give "
            "it more steps, or the others fewer (generator_steps)"
        )
    return dict(_each(objective, players, config, turns, worker))


def _each(
    objective: Objective,
    players: Mapping[str, Player],
    config: TrainingConfig,
    turns: Mapping[str, int],
    worker: Worker,
) -> Iterator[tuple[str, Trainer]]:
    on_cpus = worker.size > 1 and worker.device.type == "cpu"
    exchange = ShmAllreduce.open(worker.rank, worker.size) if on_cpus else None
    for name, player in players.items():
        # DDP takes care of the parameters that can be trained when it is made.
        objective.take_turn(name, players)
        yield name, Trainer(objective, player, config, turns[name], worker, exchange)


def learning_rate_factor(config: TrainingConfig, turn: int, num_turns: int) -> float:
    """The share of the learning rate in a turn, counted from 0, after warm-up and schedule."""
    num_warmup_turns = round(config.warmup_fraction * num_turns)
    if turn < num_warmup_turns:
        return (turn + 1) / num_warmup_turns
    if config.schedule == "constant":
        return 1.0
    rest = max(0.0, (num_turns - turn) / max(1, num_turns - num_warmup_turns))
    return (1 - math.cos(math.pi * rest)) / 2 if config.schedule == "cosine" else rest


def _parameter_groups(
    parameters: Sequence[nn.Parameter], weight_decay: float
) -> list[dict[str, object]]:
    """Biases and normalisation weights, all vectors, are not decayed."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
