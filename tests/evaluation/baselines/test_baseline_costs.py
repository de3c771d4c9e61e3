"""Inference costs of baselines: what is timed, and with which threads."""

import subprocess
import sys

import numpy as np
from test_tfidf import examples

from raykd.evaluation.baselines.embeddings import fit_on_embeddings
from raykd.evaluation.baselines.fitted import baseline_cost

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
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)  # word list: ok
    monkeypatch.setenv("RAYON_NUM_THREADS", "2")
    done = subprocess.run(
        [sys.executable, "-c", COUNT_THREADS], capture_output=True, text=True, check=True
    )
    # Afterwards, a batch starts the threads of the package.
    assert done.stdout.split() == ["1", "0", "2"]


def test_the_cost_of_a_baseline_on_a_gpu_is_that_on_a_cpu():
    used = []

    def embed_on(device):
        def embed(texts):
            used.append(device)
            return np.array([[len(text), 1.0] for text in texts], np.float32)

        return embed

    train = examples(["a", "bbbb"], [0, 1])
    fitted = fit_on_embeddings(embed_on("gpu"), train, num_labels=2, embed_on_cpu=embed_on("cpu"))
    assert set(used) == {"gpu"}
    used.clear()
    baseline_cost(fitted, train)
    assert set(used) == {"cpu"}
    rows = examples(["aa", "bbb"], [0, 1])
    on_cpu, on_gpu = fitted.predict_on_cpu(rows), fitted.predict(rows)
    np.testing.assert_array_equal(on_cpu, on_gpu)
