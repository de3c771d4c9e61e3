"""How a training is run: optimiser, schedule, batches, precision, and when it is scored."""

from typing import Literal, Self

from pydantic import Field, model_validator

from raykd.config import Config
from raykd.training.batches import num_batches


class TrainingConfig(Config):
    """How to run the optimiser; `batch_size` counts the rows of all workers together.

    A step is the same whatever the number of workers and the cuts of its batch, up to rounding:
    neither the learning rate nor the number of steps depends on them.

    `num_steps`, where given, replaces `epochs`: texts of different sizes then get equal training.
    A worker cuts its rows of a batch by length into passes, whose gradients it adds, where that
    spares more padding than it costs calls; no pass has more than `max_tokens_per_pass` tokens,
    padding included, so that memory is bounded.
    `bfloat16` and `float16` compute the models' matrix products in that format; weights and losses
    stay float32.

    A model that is scored as it trains is scored every `score_every` steps; by default after
    epochs, ten times at most. `keep: best` keeps its best state by the task's first metric, not
    the last one; with `patience`, training ends after so many scores without a better one.

    With `bucket_batches` above 1, the rows of so many shuffled batches are sorted by length before
    they are cut into batches: almost no padding at 50. Batches of one length are no random ones,
    though: fine-tuning on CoLA lost 4 points of MCC (experiments/LOG.md), so the default is 1.
    """

    epochs: int = Field(3, ge=1)
    num_steps: int | None = Field(None, ge=1)
    batch_size: int = Field(32, ge=1)
    bucket_batches: int = Field(1, ge=1)
    max_tokens_per_pass: int | None = Field(None, ge=1)
    learning_rate: float = Field(5e-5, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_fraction: float = Field(0.1, ge=0, lt=1)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    max_grad_norm: float = Field(1.0, gt=0)
    max_length: int = Field(128, ge=4)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    score_every: int | None = Field(None, ge=1)
    keep: Literal["last", "best"] = "last"
    patience: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _patience_has_a_best(self) -> Self:
        if self.patience is not None and self.keep == "last":
            raise ValueError("patience waits for a better score: set keep: best beside it")
        return self


def total_steps(config: TrainingConfig, num_rows: int) -> int:
    """Optimiser steps of a training on so many rows, where patience does not end it before."""
    return config.num_steps or num_batches(num_rows, config.batch_size) * config.epochs


def total_epochs(config: TrainingConfig, num_rows: int) -> int:
    """Passes over the rows, the last of which may be cut short."""
    return -(-total_steps(config, num_rows) // num_batches(num_rows, config.batch_size))
