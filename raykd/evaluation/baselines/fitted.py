"""A fitted baseline, and its inference cost.

Shapes: N rows, C classes (1: regression).
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from raykd.evaluation.cost import BATCH_SIZE, Cost, device_name, speed_of, timed_rounds
from raykd.models.threads import one_thread, one_tokenizer_thread

# Function from rows (N, as `schemas.EXAMPLES`) to logits (N, C).
Predict = Callable[[pa.Table], NDArray[np.float32]]


class Fitted(NamedTuple):
    """A fitted baseline: its answers, and its size.

    `predict_on_cpu` answers on a CPU, where `predict` uses a GPU. `inverse_penalties` are those of
    its linear models: one, or one per class with and without rows in a multi-label task.
    """

    predict: Predict
    num_parameters: int
    num_bytes: int
    predict_on_cpu: Predict | None = None
    inverse_penalties: tuple[float, ...] = ()


def baseline_cost(fitted: Fitted, examples: pa.Table) -> Cost:
    """Cost from texts to logits in one thread of a CPU, on rows spread evenly over a split.

    Args:
        fitted: the baseline.
        examples: the split (`schemas.EXAMPLES`).
    """
    places = np.linspace(0, examples.num_rows - 1, BATCH_SIZE).round().astype(np.int64)
    together = examples.take(places)
    predict = fitted.predict_on_cpu or fitted.predict
    alone = [together.slice(row, 1) for row in range(BATCH_SIZE)]

    def seconds(rows: pa.Table) -> float:
        started = time.perf_counter()
        predict(rows)
        return time.perf_counter() - started

    with one_thread(), one_tokenizer_thread():
        speed = speed_of(list(timed_rounds(seconds, alone, together)))
        num_threads = torch.get_num_threads()
    return Cost(
        **speed._asdict(),
        weights_bytes=fitted.num_bytes,
        flops_per_token=None,
        num_tokens=None,
        device=device_name(),
        num_threads=num_threads,
    )
