"""Trainers: optimizer, learning rate schedule and gradient scaling of each player.

A player is one side of an adversarial objective's min-max game: the student, or the generator.
Other objectives have the student only.
"""

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

# Larger than any model's gradients.
_ALL_MB = 1 << 20


class Worker(NamedTuple):
    """Process that trains a model, alone or with others (DDP), and its number of threads."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    num_threads: int = 1


class Trainer:
    """Optimizer and schedule of one player, over the steps in which it is trained.

    Args:
        objective: objective in which the player's parameters are trainable.
        player: parameters to train.
        config: settings of the phase, for settings that the player does not define.
        num_turns: number of steps that train the player.
        worker: this process.
        allreduce: shared-memory all-reduce of gradients; None for DDP's own.
    """

    def __init__(
        self,
        objective: Objective,
        player: Player,
        config: TrainingConfig,
        num_turns: int,
        worker: Worker,
        allreduce: ShmAllreduce | None = None,
    ) -> None:
        self.turn = 0
        # Factor by which weight decay alone has shrunk a parameter without gradients.
        self.decay = 1.0
        self._config = config
        self._num_turns = num_turns
        self._parameters = player.parameters
        self._max_grad_norm = player.max_grad_norm or config.max_grad_norm
        self._learning_rate = player.learning_rate or config.learning_rate
        self.model: nn.Module = objective
        if worker.size > 1:
            self.model = distributed_model(objective, allreduce)
        # Fused: on a CPU a small student's step is mostly the update of its embeddings (measured:
        # 7 times faster than the default for 2 million of them).
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(player.parameters, config.weight_decay), fused=True
        )
        self.scaler = torch.amp.GradScaler(
            worker.device.type, enabled=config.precision == "float16"
        )

    @property
    def learning_rate(self) -> float:
        """Learning rate of the player's next step."""
        factor = learning_rate_factor(self._config, self.turn, self._num_turns)
        return self._learning_rate * factor

    def no_sync(self) -> AbstractContextManager[None]:
        """Context manager that accumulates gradients without an all-reduce, as DDP's `no_sync`."""
        no_sync: Callable[[], AbstractContextManager[None]]
        no_sync = getattr(self.model, "no_sync", nullcontext)
        return no_sync()

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of a micro-batch."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # untyped in torch

    def end_turn(self) -> Tensor:
        """Update the parameters; returns the gradient norm before clipping.

        A gradient that overflows in float16 is skipped, and the loss scale is lowered.
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


def distributed_model(objective: Objective, allreduce: ShmAllreduce | None) -> nn.Module:
    """Wrap the objective in DDP: `backward` averages the gradients over the workers."""
    # Buffers are not broadcast: objectives keep them equal, and a memory bank of all rows is
    # larger than the model. Gradients as views of the buckets save a copy. The shared-memory
    # all-reduce runs once, when all gradients are computed, so that workers wait only once.
    model = DistributedDataParallel(
        objective,
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
        bucket_cap_mb=None if allreduce is None else _ALL_MB,
    )
    if allreduce is not None:
        model.register_comm_hook(allreduce, average_bucket)
    return model


def make_trainers(
    objective: Objective,
    players: Mapping[str, Player],
    config: TrainingConfig,
    num_steps: int,
    worker: Worker,
) -> dict[str, Trainer]:
    """Create a trainer per player.

    Raises:
        InputError: none of the steps trains the student.
    """
    turns = Counter(map(objective.player_of, range(1, num_steps + 1)))
    if not turns[STUDENT]:
        raise InputError(
            f"{objective.config.name}: none of the {num_steps} steps trains the student; set more "
            "steps or epochs, or fewer generator_steps"
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
    allreduce = ShmAllreduce.open(worker.rank, worker.size) if on_cpus else None
    for name, player in players.items():
        # DDP only handles parameters that are trainable when it is created.
        objective.take_turn(name, players)
        yield name, Trainer(objective, player, config, turns[name], worker, allreduce)


def learning_rate_factor(config: TrainingConfig, turn: int, num_turns: int) -> float:
    """Schedule's factor of the learning rate in a player's step `turn`, from 0."""
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
    """Parameter groups in which vectors (biases, normalization weights) have no weight decay."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
