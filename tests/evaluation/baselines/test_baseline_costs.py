"""Inference costs of baselines: what is timed, and with which threads."""

import subprocess
import sys

COUNT_THREADS = """
from pathlib import Path
import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer, models, pre_tokenizers
from raykd.evaluation.baselines.fitted import Fitted, baseline_cost

tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()

def predict(rows):
    tokenizer.encode_batch(rows["sentence1"].to_pylist())
    return np.zeros((rows.num_rows, 2), np.float32)

def num_threads():
    return len(list(Path("/proc/self/task").iterdir()))

before = num_threads()
cost = baseline_cost(Fitted(predict, 1, 4), pa.table({"sentence1": ["a b", "b a"]}))
print(cost.num_threads, num_threads() - before)
tokenizer.encode_batch(["a b"] * 32)
print(num_threads() - before)
"""


def test_a_cost_of_one_thread_tokenizes_in_one_thread(monkeypatch):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    monkeypatch.setenv("RAYON_NUM_THREADS", "2")
    done = subprocess.run(
        [sys.executable, "-c", COUNT_THREADS], capture_output=True, text=True, check=True
    )
    # Afterwards, a batch starts the threads of the package.
    assert done.stdout.split() == ["1", "0", "2"]
