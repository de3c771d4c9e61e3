"""Training settings: optimizer, schedule, batches, precision and evaluation."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from raykd.config import Config
from raykd.training.batches import num_batches
from raykd.training.class_weights import ClassWeights

_GOLD_KEYS = ("class_weights", "label_smoothing")


class TrainingConfig(Config):
    """Optimizer, schedule, batches and checkpoints of one training.

    A step is the same whatever the number of workers and micro-batches, up to rounding: neither the
    learning rate nor the number of steps depends on them. Each worker splits its local batch by
    length into micro-batches (gradient accumulation) where the padding saved outweighs the extra
    calls.

    Batches of one length (`bucket_batches` 50) have almost no padding, but fine-tuning on CoLA lost
    4 points of MCC with them (experiments/LOG.md), so the default is 1.
    """

    epochs: int = Field(
        3, ge=1, description="Passes over the training rows; ignored where num_steps is given."
    )
    num_steps: int | None = Field(
        None,
        ge=1,
        description="Optimizer steps, instead of epochs, so that texts of different sizes get "
        "equal training.",
    )
    batch_size: int = Field(
        32, ge=1, description="Rows per optimizer step, over all workers together."
    )
    bucket_batches: int = Field(
        1,
        ge=1,
        description="Sort the rows of this many shuffled batches by length before they are cut "
        "into batches; above 1 saves padding, but batches are less random.",
    )
    max_tokens_per_micro_batch: int | None = Field(
        None,
        ge=1,
        description="Most tokens of one micro-batch, padding included, to bound memory; the "
        "gradients of a batch's micro-batches are added. Default: no bound.",
    )
    learning_rate: float = Field(5e-5, gt=0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW, on matrices only.")
    warmup_fraction: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the steps in which the learning rate rises from 0 to its peak.",
    )
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear",
        description="Learning rate after warm-up: linear or cosine decay to 0, or constant.",
    )
    max_grad_norm: float = Field(1.0, gt=0, description="L2 norm to which gradients are clipped.")
    max_length: int = Field(
        128, ge=4, description="Tokens of a text that models read; the rest is cut."
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="Number format of the matrix products; weights and losses stay float32.",
    )
    class_weights: ClassWeights | None = Field(
        None,
        description="Weights of the classes in the cross-entropy with gold labels: balanced (rows "
        "/ (classes * rows of the class), of the training rows) or a number above 0 for each "
        "class, by name. A batch's loss is divided by the sum of its rows' weights. Losses of the "
        "teacher's outputs are not weighted.",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of a gold label that is spread evenly over all classes in the "
        "cross-entropy (Szegedy et al. 2016).",
    )
    score_every: int | None = Field(
        None,
        ge=1,
        description="Steps between scores on dev during training. Default: after epochs, at most "
        "ten times.",
    )
    keep: Literal["last", "best"] = Field(
        "last",
        description="Model that a training returns: last (after the last step) or best (by the "
        "task's first metric on dev).",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Stop after this many scores without a better one; needs keep: best. Default: "
        "never.",
    )

    @property
    def gold_keys(self) -> list[str]:
        """Keys that weigh or smooth gold labels and are set."""
        return [key for key in _GOLD_KEYS if getattr(self, key) not in (None, 0)]

    def determining(self) -> dict[str, Any]:
        """Settings that determine a trained model; those added later only where they are set."""
        unset = {key for key in _GOLD_KEYS if key not in self.gold_keys}
        return self.model_dump(
            mode="json",
            exclude={"objective": {"generator"}, "rows": True, **dict.fromkeys(unset, True)},
        )

    @model_validator(mode="after")
    def _check_patience(self) -> Self:
        if self.patience is not None and self.keep == "last":
            raise ValueError("patience needs the best model to be kept: set keep: best as well")
        return self


def total_steps(config: TrainingConfig, num_rows: int) -> int:
    """Optimizer steps of a training on `num_rows` rows without early stopping."""
    return config.num_steps or num_batches(num_rows, config.batch_size) * config.epochs


def total_epochs(config: TrainingConfig, num_rows: int) -> int:
    """Epochs of a training; the last one may be incomplete."""
    return -(-total_steps(config, num_rows) // num_batches(num_rows, config.batch_size))


def steps_until(config: TrainingConfig, num_rows: int, stop_after: int | None) -> int:
    """Steps of a training that ends after `stop_after` epochs; None for all of them."""
    num_steps = total_steps(config, num_rows)
    if stop_after is None:
        return num_steps
    return min(num_steps, stop_after * num_batches(num_rows, config.batch_size))
