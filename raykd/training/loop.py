"""The training loop: any objective, one or many workers."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from raykd.config import Config
from raykd.models.tokens import TokenizedRows, collate, to_device
from raykd.objectives.base import LossTerms, Objective
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

    def to_json(self, **more: float | dict[str, float]) -> str:
        """One line of `metrics.jsonl`."""
        return json.dumps({**vars(self), **more})


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
    """
    torch.manual_seed(seed * 1000 + worker.rank)
    objective.to(worker.device).train()
    model: nn.Module = objective
    if worker.size > 1:
        model = DistributedDataParallel(objective)
    # Fused: on a CPU a small student's step is mostly its embeddings' update (measured: 7 times
    # faster than the default for 2 million of them).
    optimizer = torch.optim.AdamW(
        _parameter_groups(objective, config.weight_decay), lr=config.learning_rate, fused=True
    )
    num_steps = total_steps(config, len(rows))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, _learning_rate_rule(config, num_steps))
    lengths = rows.lengths
    use_bfloat16 = config.precision == "bfloat16"
    step = 0
    for epoch in range(1, total_epochs(config, len(rows)) + 1):
        sums: dict[str, torch.Tensor] = {}
        weight_sum = 0.0
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
            with torch.autocast(worker.device.type, torch.bfloat16, enabled=use_bfloat16):
                terms: LossTerms = model(to_device(batch, worker.device))
            optimizer.zero_grad(set_to_none=True)
            (terms.total * weight).backward()  # type: ignore[no-untyped-call]  # untyped in torch
            norm = nn.utils.clip_grad_norm_(
                [p for p in objective.parameters() if p.grad is not None], config.max_grad_norm
            )
            if not torch.isfinite(norm):
                raise FloatingPointError(
                    f"step {step} (epoch {epoch}): loss {terms.total.item()} or its gradient is "
                    f"not finite; rows {sorted(share.tolist())}; lower learning_rate"
                )
            optimizer.step()
            scheduler.step()
            for name, part in {"total": terms.total.detach(), **terms.parts}.items():
                sums[name] = sums.get(name, torch.zeros_like(part)) + part * weight
            weight_sum += weight
        losses = _means(sums, weight_sum, worker)
        on_epoch(EpochRecord(epoch, step, float(scheduler.get_last_lr()[0]), losses))


def _means(sums: Mapping[str, torch.Tensor], weight_sum: float, worker: Worker) -> dict[str, float]:
    """The losses' sums of all workers, each over the sum of the weights of all workers."""
    weight = torch.tensor(weight_sum, device=worker.device)
    joined = torch.stack([*(value.float() for value in sums.values()), weight])
    if worker.size > 1:
        distributed.all_reduce(joined)
    *values, all_weights = joined.tolist()
    return {name: value / all_weights for name, value in zip(sums, values, strict=True)}


def _parameter_groups(objective: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Biases and normalisation weights, all vectors, are not decayed."""
    parameters = [p for p in objective.parameters() if p.requires_grad]
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
