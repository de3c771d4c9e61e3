"""Inference cost of a model: bytes on disk, floating-point operations, and time on this machine.

Costs do not depend on the values of the weights: models that are equal otherwise have one shape,
and one of them is measured for all. Times are those of a forward pass, from token ids to logits, on
rows of a split: one by one without padding, and as one batch in the order of the file, padded to
its longest row.
"""

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import torch
from pydantic import BaseModel, ConfigDict, FiniteFloat
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from raykd.models.encoder import Encoder, load_encoder, load_tokenizer
from raykd.models.resolve import weights_files
from raykd.models.tokenization.tokens import collate, tokenize_table
from raykd.storage.manifest import digest_of, digest_of_file

BATCH_SIZE = 32
# Minimum number of rounds; small models, whose times vary more, get more.
_MIN_ROUNDS = 3
_MAX_ROUNDS = 30
_ENOUGH_S = 1.5

SETTINGS = {
    "batch_size": BATCH_SIZE,
    "min_rounds": _MIN_ROUNDS,
    "max_rounds": _MAX_ROUNDS,
    "enough_s": _ENOUGH_S,
}


Inputs = TypeVar("Inputs")


class Speed(NamedTuple):
    """Inference speed."""

    latency_ms: float  # of a single row, median over rows
    rows_per_s_batch_1: float
    rows_per_s_batch_32: float


class Cost(BaseModel):
    """Inference cost of a model shape: its size, and its speed on a device.

    Operations are not counted for baselines, whose speed is that from texts to logits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights_bytes: int
    flops_per_token: FiniteFloat | None  # of a forward pass on a row of `num_tokens`
    num_tokens: int | None
    latency_ms: FiniteFloat  # see `Speed`
    rows_per_s_batch_1: FiniteFloat
    rows_per_s_batch_32: FiniteFloat
    device: str
    num_threads: int

    @property
    def flops(self) -> float | None:
        """Floating-point operations of a forward pass on a row of `num_tokens`."""
        if self.flops_per_token is None or self.num_tokens is None:
            return None
        return self.flops_per_token * self.num_tokens


def shape_of(model: Path, max_length: int) -> str:
    """Digest of everything a saved model's cost depends on: all files except weight values."""
    weights = weights_files(model, str(model))
    others = sorted(path for path in model.iterdir() if path.suffix != ".safetensors")
    return digest_of(
        {
            "files": {path.name: digest_of_file(path) for path in others if path.is_file()},
            "weights_bytes": [path.stat().st_size for path in weights],
            "max_length": max_length,
        }
    )


def cost_of(model: Path, max_length: int, examples: pa.Table) -> Cost:
    """Cost of a saved model on rows spread evenly over a split (`schemas.EXAMPLES`)."""
    encoder, tokenizer = load_encoder(str(model)), load_tokenizer(str(model))
    # Rows of a short split are repeated to fill the batch.
    places = np.linspace(0, examples.num_rows - 1, BATCH_SIZE).round().astype(np.int64)
    rows = tokenize_table(tokenizer, examples.take(places), max_length=max_length)

    def batch(indices: Sequence[int]) -> dict[str, Tensor]:
        rows_of_batch = np.asarray(indices, np.int64)
        return collate(rows, rows_of_batch, pad_id=tokenizer.pad_token_id, regression=False)

    alone = [batch([row]) for row in range(BATCH_SIZE)]
    median_row = int(np.argsort(rows.lengths, kind="stable")[BATCH_SIZE // 2])

    def seconds(inputs: dict[str, Tensor]) -> float:
        started = time.perf_counter()
        with torch.inference_mode():
            encoder(inputs["input_ids"], inputs["attention_mask"], inputs.get("token_type_ids"))
        return time.perf_counter() - started

    speed = speed_of(list(timed_rounds(seconds, alone, batch(range(BATCH_SIZE)))))
    return Cost(
        **speed._asdict(),
        weights_bytes=sum(path.stat().st_size for path in weights_files(model, str(model))),
        flops_per_token=flops_per_token(encoder, alone[median_row]),
        num_tokens=int(rows.lengths[median_row]),
        device=device_name(),
        num_threads=torch.get_num_threads(),
    )


def speed_of(rounds: Sequence[tuple[Sequence[float], float]]) -> Speed:
    """Speed from rounds of (seconds per single row, seconds of all rows as one batch).

    Times are medians over rounds, so that disturbances in one round have no effect.
    """
    of_rows = [statistics.median(times) for times in zip(*(r for r, _ in rounds), strict=True)]
    of_batch = statistics.median(batch_s for _, batch_s in rounds)
    return Speed(
        latency_ms=1000 * statistics.median(of_rows),
        rows_per_s_batch_1=len(of_rows) / sum(of_rows),
        rows_per_s_batch_32=len(of_rows) / of_batch,
    )


def flops_per_token(encoder: Encoder, batch: dict[str, Tensor]) -> float:
    """Floating-point operations of a forward pass, divided by the (B, L) tokens of the batch.

    A multiply-add counts as two. Only matrix products are counted, not embedding lookups,
    normalization or activations.
    """
    # The counter does not see products in fused attention kernels, and fails without gradients on
    # modules whose inputs are parameters (DeBERTa).
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder(batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids"))
    return float(counter.get_total_flops() / batch["input_ids"].numel())


def device_name() -> str:
    """Name of the processor."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def timed_rounds(
    seconds: Callable[[Inputs], float], alone: Sequence[Inputs], together: Inputs
) -> Iterator[tuple[list[float], float]]:
    """Rounds for `speed_of`, after a warm-up round.

    Args:
        seconds: runs a model on inputs, and returns how long it took.
        alone: inputs of single rows.
        together: inputs of all of them.
    """
    seconds(together)
    for one in alone:
        seconds(one)
    started = time.perf_counter()
    for done in range(_MAX_ROUNDS):
        if done >= _MIN_ROUNDS and time.perf_counter() - started > _ENOUGH_S:
            return
        yield [seconds(one) for one in alone], seconds(together)
