"""What it costs to go on with a training, at the beginning of a large epoch and far inside it.

    python experiments/benchmarks/bench_resume.py [--rows 1000000] [--position 1500]

A tiny student trains on a million random rows, is stopped, and goes on from its checkpoint in a new
call; timed from that call to the end of its first step, all that a process has not loaded yet left
out. The same without a checkpoint is what a start costs anyway. Prints JSON.
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
    """Ends a training."""


def main() -> None:
    """Print seconds to the first step, begun anew and gone on with."""
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
    found = {}
    for name, stop in (("early in the epoch", 150), ("deep in the epoch", options.position)):
        with tempfile.TemporaryDirectory() as folder:
            seconds_to_step(encoder, rows, Path(folder), stop)
            checkpoint = max(Path(folder).glob("step-*"))
            started = time.perf_counter()
            folder_of(Path(folder)).read(int(checkpoint.name.removeprefix("step-")))
            read_s = time.perf_counter() - started
            found[name] = {
                "checkpoint": checkpoint.name,
                "checkpoint_read_s": round(read_s, 3),
                "resumed_to_first_step_s": round(seconds_to_step(encoder, rows, Path(folder)), 3),
            }
    with tempfile.TemporaryDirectory() as folder:
        anew = round(seconds_to_step(encoder, rows, Path(folder)), 3)
    print(json.dumps({"rows": options.rows, "begun_to_first_step_s": anew, **found}, indent=1))


def folder_of(path: Path) -> CheckpointFolder:
    """A checkpoint every second."""
    return CheckpointFolder(path, "bench", {}, {}, every_s=1)


def seconds_to_step(
    encoder: Encoder, rows: TokenizedRows, path: Path, stop: int | None = None
) -> float:
    """Train up to a step, or for one; returns seconds from the call to the first step's end."""
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
    """Rows of 4 to 11 tokens."""
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
