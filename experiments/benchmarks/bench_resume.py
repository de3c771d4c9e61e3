"""Time to resume a training, at the beginning of a large epoch and deep in it.

    python experiments/benchmarks/bench_resume.py [--rows 1000000] [--position 1500]

A tiny student is trained on a million random rows, stopped, and resumed from its checkpoint in a
new call; measured from that call to the end of its first step, without imports. The time without a
checkpoint is that of any start. Prints JSON.
"""

import argparse
import copy
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, BertConfig

from raykd.models.encoder import Encoder
from raykd.models.tokenization.tokens import TokenizedRows
from raykd.objectives import build
from raykd.objectives.fine_tune import FineTuneConfig
from raykd.training.checkpoint import CheckpointFolder
from raykd.training.events import TrainingEvents
from raykd.training.loop import train
from raykd.training.settings import TrainingConfig
from raykd.training.trainers import Worker

_VOCABULARY = 30_522


class StoppedError(Exception):
    """Interruption of a training."""


def main() -> None:
    """Print seconds to the first step from scratch and after a resume."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--position", type=int, default=1500, help="steps into the epoch")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape = {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=_VOCABULARY, num_hidden_layers=1, num_labels=2, **shape)
    torch.manual_seed(1)
    encoder = Encoder(AutoModelForSequenceClassification.from_config(config))
    rows = random_rows(options.rows)
    resumed = {}
    for name, stop in (("early in the epoch", 150), ("deep in the epoch", options.position)):
        with tempfile.TemporaryDirectory() as folder:
            seconds_to_step(encoder, rows, Path(folder), stop)
            checkpoint = max(Path(folder).glob("step-*"))
            started = time.perf_counter()
            folder_of(Path(folder)).read(int(checkpoint.name.removeprefix("step-")))
            read_s = time.perf_counter() - started
            resumed[name] = {
                "checkpoint": checkpoint.name,
                "checkpoint_read_s": round(read_s, 3),
                "resumed_to_first_step_s": round(seconds_to_step(encoder, rows, Path(folder)), 3),
            }
    with tempfile.TemporaryDirectory() as folder:
        from_scratch_s = round(seconds_to_step(encoder, rows, Path(folder)), 3)
    print(
        json.dumps(
            {"rows": options.rows, "started_to_first_step_s": from_scratch_s, **resumed}, indent=1
        )
    )


def folder_of(path: Path) -> CheckpointFolder:
    """Return a checkpoint folder with an interval of one second."""
    return CheckpointFolder(path, "bench", {}, {}, every_s=1)


def seconds_to_step(
    encoder: Encoder, rows: TokenizedRows, path: Path, stop: int | None = None
) -> float:
    """Train up to a step, or for one; return seconds from the call to the first step's end."""
    checkpoints = folder_of(path)
    started, first = time.perf_counter(), 0.0

    class Events(TrainingEvents):
        def on_step(self, step: int) -> None:
            nonlocal first
            first = first or time.perf_counter() - started
            if stop is None or step == stop:
                checkpoints.wait()
                raise StoppedError

    try:
        train(
            build(FineTuneConfig(), copy.deepcopy(encoder)),
            rows,
            TrainingConfig(epochs=1, batch_size=16),
            pad_id=0,
            regression=False,
            seed=1,
            worker=Worker(),
            checkpoints=checkpoints,
            events=Events(),
        )
    except StoppedError:
        return first
    raise AssertionError("the training is not that long")


def random_rows(num_rows: int) -> TokenizedRows:
    """Make rows of 4 to 11 tokens."""
    random = np.random.default_rng(0)
    lengths = random.integers(4, 12, num_rows)
    return TokenizedRows(
        input_ids=random.integers(1000, _VOCABULARY, lengths.sum()).astype(np.int32),
        token_type_ids=None,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        labels=random.integers(0, 2, num_rows).astype(np.float64),
    )


if __name__ == "__main__":
    main()
