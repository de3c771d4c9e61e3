"""The training loop: any objective, one or many workers."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from raykd.config import Config
from raykd.errors import InputError
from raykd.models.tokens import TokenizedRows, collate, to_device
from raykd.objectives.base import STUDENT, Epoch, LossTerms, Objective, Player
from raykd.training.batches import epoch_batches, num_batches


class TrainingConfig(Config):
    """How to run the optimiser; `batch_size` counts the rows of all workers together.

    `num_steps`, where given, replaces `epochs`: texts of different sizes then get equal training.
    `bfloat16` computes the models' matrix products in bfloat16; weights and losses stay float32.

    With `bucket_batches` above 1, the rows of so many shuffled batches are sorted by length before
    they are cut into batches: almost no padding at 50. Batches of one length are no random ones,
    though: fine-tuning on CoLA lost 4 points of MCC (experiments/LOG.md), so the default is 1.
    """

    epochs: int = Field(3, ge=1)
    num_steps: int | None = Field(None, ge=1)
    batch_size: int = Field(32, ge=1)
    bucket_batches: int = Field(1, ge=1)
    learning_rate: float = Field(5e-5, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_fraction: float = Field(0.1, ge=0, lt=1)
    schedule: Literal["linear", "constant"] = "linear"
    max_grad_norm: float = Field(1.0, gt=0)
    max_length: int = Field(128, ge=4)
    precision: Literal["float32", "bfloat16"] = "float32"


def total_steps(config: TrainingConfig, num_rows: int) -> int:
    """Optimiser steps of a training on so many rows."""
    return config.num_steps or num_batches(num_rows, config.batch_size) * config.epochs


def total_epochs(config: TrainingConfig, num_rows: int) -> int:
    """Passes over the rows, the last of which may be cut short."""
    return -(-total_steps(config, num_rows) // num_batches(num_rows, config.batch_size))


class Worker(NamedTuple):
    """One of the processes that train one model together."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")


@dataclass
class EpochRecord:
    """Means over one epoch, over the rows of all workers."""

    epoch: int
    step: int
    learning_rate: float
    losses: dict[str, float]
    measures: dict[str, float] = field(default_factory=dict)

    def to_json(self, **more: float | dict[str, float]) -> str:
        """One line of `metrics.jsonl`."""
        return json.dumps({**vars(self), **more})


class _Trainer(NamedTuple):
    """What a player is trained with: the objective as its workers share it, and its optimiser."""

    model: nn.Module
    parameters: tuple[nn.Parameter, ...]
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    max_grad_norm: float


def train(
    objective: Objective,
    rows: TokenizedRows,
    config: TrainingConfig,
    *,
    pad_id: int,
    regression: bool,
    seed: int,
    worker: Worker,
    on_step: Callable[[], None] = lambda: None,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
) -> None:
    """Train the objective's student in place.

    Every worker sees its share of each batch; a share's loss is weighted by its number of rows,
    so that the averaged gradient is that of the whole batch whatever the number of workers.

    Raises:
        FloatingPointError: the loss is not finite; names the step and the rows of the batch.
        InputError: there are too few steps for the student to have a turn.
    """
    torch.manual_seed(seed * 1000 + worker.rank)
    objective.to(worker.device).train()
    lengths = rows.lengths
    num_steps = total_steps(config, len(rows))
    num_epochs = total_epochs(config, len(rows))
    labels = None if rows.labels is None else torch.tensor(rows.labels, device=worker.device)
    objective.start_training(len(rows), labels, seed)
    players = objective.players()
    trainers = _trainers(objective, players, config, num_steps, worker)
    use_bfloat16 = config.precision == "bfloat16"
    step = 0
    for epoch in range(1, num_epochs + 1):
        objective.start_epoch(Epoch(seed, epoch, num_epochs))
        sums: dict[tuple[str, str], _Sum] = {}
        batches = epoch_batches(
            lengths,
            config.batch_size,
            bucket_batches=config.bucket_batches,
            seed=seed,
            epoch=epoch,
        )
        for indices in batches[: num_steps - step]:
            step += 1
            on_step()
            share = indices[worker.rank :: worker.size]
            weight = len(share) * worker.size / len(indices)
            if len(share) == 0:  # a last batch with fewer rows than workers: take part, weightless
                share = indices[:1]
            batch = collate(rows, share, pad_id=pad_id, regression=regression)
            player = objective.player_of(step)
            trainer = trainers[player]
            objective.take_turn(player, players)
            with torch.autocast(worker.device.type, torch.bfloat16, enabled=use_bfloat16):
                terms: LossTerms = trainer.model(to_device(batch, worker.device))
            trainer.optimizer.zero_grad(set_to_none=True)
            (terms.total * weight).backward()  # type: ignore[no-untyped-call]  # untyped in torch
            norm = nn.utils.clip_grad_norm_(trainer.parameters, trainer.max_grad_norm)
            if not torch.isfinite(norm):
                raise FloatingPointError(
                    f"step {step} (epoch {epoch}): loss {terms.total.item()} or its gradient is "
                    f"not finite; rows {sorted(share.tolist())}; lower learning_rate"
                )
            trainer.optimizer.step()
            trainer.scheduler.step()
            for name, value in _logged(terms, player).items():
                sums.setdefault(name, _Sum()).add(value, weight)
        record = _record(epoch, step, trainers[STUDENT], sums, worker)
        on_epoch(record)


def _trainers(
    objective: Objective,
    players: Mapping[str, Player],
    config: TrainingConfig,
    num_steps: int,
    worker: Worker,
) -> dict[str, _Trainer]:
    turns = Counter(map(objective.player_of, range(1, num_steps + 1)))
    if not turns[STUDENT]:
        raise InputError(
            f"{objective.config.name}: none of the {num_steps} steps is the student's turn; give "
            "it more steps, or the others fewer (generator_steps)"
        )
    return {
        name: _trainer(objective, name, players, config, turns[name], worker) for name in players
    }


def _trainer(
    objective: Objective,
    name: str,
    players: Mapping[str, Player],
    config: TrainingConfig,
    num_turns: int,
    worker: Worker,
) -> _Trainer:
    player = players[name]
    # DDP takes care of the parameters that can be trained when it is made.
    objective.take_turn(name, players)
    model: nn.Module = objective
    if worker.size > 1:
        # Buffers are an objective's own business: a memory of all rows is larger than the model.
        model = DistributedDataParallel(objective, broadcast_buffers=False)
    # Fused: on a CPU a small student's step is mostly its embeddings' update (measured: 7 times
    # faster than the default for 2 million of them).
    optimizer = torch.optim.AdamW(
        _parameter_groups(player.parameters, config.weight_decay),
        lr=player.learning_rate or config.learning_rate,
        fused=True,
    )
    rule = _learning_rate_rule(config, num_turns)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rule)
    max_grad_norm = player.max_grad_norm or config.max_grad_norm
    return _Trainer(model, player.parameters, optimizer, scheduler, max_grad_norm)


def _logged(terms: LossTerms, player: str) -> dict[tuple[str, str], torch.Tensor]:
    """Losses and measures of a step; those of a player beside the student carry its name."""
    prefix = "" if player == STUDENT else f"{player}_"
    losses = {"total": terms.total.detach(), **terms.parts}
    return {
        **{("losses", prefix + name): value for name, value in losses.items()},
        **{("measures", prefix + name): value for name, value in terms.measures.items()},
    }


@dataclass
class _Sum:
    """A weighted sum of scalars on a device, and its weights."""

    value: torch.Tensor | float = 0.0
    weight: float = 0.0

    def add(self, value: torch.Tensor, weight: float) -> None:
        self.value = self.value + value.float() * weight
        self.weight += weight


def _record(
    epoch: int,
    step: int,
    trainer: _Trainer,
    sums: Mapping[tuple[str, str], _Sum],
    worker: Worker,
) -> EpochRecord:
    """Means over the rows of all workers."""
    names = list(sums)
    values = [torch.as_tensor(sums[name].value, device=worker.device) for name in names]
    weights = torch.tensor([sums[name].weight for name in names], device=worker.device)
    joined = torch.stack([torch.stack(values), weights])
    if worker.size > 1:
        distributed.all_reduce(joined)
    means = dict(zip(names, (joined[0] / joined[1]).tolist(), strict=True))
    kinds: dict[str, dict[str, float]] = {"losses": {}, "measures": {}}
    for (kind, name), mean in means.items():
        kinds[kind][name] = mean
    learning_rate = float(trainer.scheduler.get_last_lr()[0])
    return EpochRecord(epoch, step, learning_rate, **kinds)


def _parameter_groups(
    parameters: Sequence[nn.Parameter], weight_decay: float
) -> list[dict[str, object]]:
    """Biases and normalisation weights, all vectors, are not decayed."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _learning_rate_rule(config: TrainingConfig, num_steps: int) -> Callable[[int], float]:
    num_warmup_steps = round(config.warmup_fraction * num_steps)

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return (step + 1) / num_warmup_steps
        if config.schedule == "constant":
            return 1.0
        return max(0.0, (num_steps - step) / max(1, num_steps - num_warmup_steps))

    return factor
