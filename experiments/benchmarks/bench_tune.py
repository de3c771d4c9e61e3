"""Cost of a sweep besides its trainings: seconds per trial, memory, size of the page.

    python experiments/benchmarks/bench_tune.py [--part overhead many]

Every part runs `raykd tune` in a process of its own, with a model of a few thousand weights, two
trials at a time on a Ray of this machine's CPUs. Prints JSON.

- overhead: trials of 2 steps, whose seconds are an upper bound of the overhead, and 20 trials of
  some seconds, whose wall time is compared with half the sum of their trainings.
- many: memory of the driver after 100 and after all trials, and the size of the page.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

WORDS = [f"word{number}" for number in range(200)]
NUM_TRIALS = 20


def write_inputs(folder: Path) -> None:
    """Write a teacher of two layers, and rows whose class is that of one of their words."""
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    BertTokenizer(str(vocabulary)).save_pretrained(folder / "teacher")
    config = BertConfig(
        vocab_size=5 + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    config.num_labels = 2
    BertForSequenceClassification(config).save_pretrained(folder / "teacher")
    chance = random.Random(1)
    for name, number in (("train", 320), ("dev", 100), ("test", 100)):
        rows = ["text,label"]
        for _ in range(number):
            words = chance.choices(WORDS, k=12)
            rows.append(f"{' '.join(words)},{'even' if int(words[0][4:]) % 2 else 'odd'}")
        (folder / f"{name}.csv").write_text("\n".join(rows))


def recipe(folder: Path, *, num_steps: int, **tune: object) -> Path:
    """Write a recipe whose trials train `num_steps` steps."""
    phase = {"batch_size": 16, "learning_rate": 1e-3, "max_length": 16}
    files = {split: str(folder / f"{split}.csv") for split in ("train", "dev", "test")}
    values = {
        "name": "bench",
        "variants": ["direct"],
        "task": {"name": "parity", "sentence_columns": ["text"], **files},
        "teacher": {"model": str(folder / "teacher"), "epochs": 1, **phase},
        "student": {"num_layers": 1},
        "adaptation": {"objective": {"name": "vanilla_kd"}, "num_steps": num_steps, **phase},
        "tune": {
            "space": {"adaptation.learning_rate": {"float": [1e-4, 1e-2], "log": True}},
            "sampler": "random",
            "scheduler": "none",
            **tune,
        },
    }
    path = folder / f"recipe-{num_steps}-{len(list(folder.iterdir()))}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def sweep(path: Path) -> tuple[dict[str, Any], list[tuple[int, float]]]:
    """Run a sweep; return its result, and the driver's memory in MB by the number of trials."""
    out = path.with_suffix("")
    environment = {**os.environ, "RAY_ADDRESS": "local", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "raykd", "tune", str(path), "--out", str(out)]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    memory, lines, first_s, last_s, num_ended = [], [], 0.0, 0.0, 0
    for line in process.stderr:
        lines.append(line)
        if line.startswith("trial "):
            num_ended += 1
            last_s = time.monotonic()
            first_s = first_s or last_s
            memory.append((num_ended, resident_mb(process.pid)))
    assert process.wait() == 0, "".join(lines)
    result = json.loads((out / "tune" / "result" / "trials.json").read_text())
    result["between_first_and_last_end_s"] = last_s - first_s
    result["page_mb"] = (out / "tune.html").stat().st_size / 1e6
    return result, memory


def resident_mb(process_id: int) -> float:
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def seconds_of(result: dict[str, Any]) -> list[float]:
    """Seconds of the trials, without the first ones of the two processes, which import."""
    ordered = sorted(result["trials"], key=lambda trial: trial["number"])
    return [float(trial["seconds"]) for trial in ordered[2:]]


def measure_overhead(folder: Path, num_steps: int) -> dict[str, float]:
    settings: dict[str, object] = {"num_trials": NUM_TRIALS, "max_concurrent_trials": 2}
    short, _ = sweep(recipe(folder, num_steps=2, **settings))
    long, _ = sweep(recipe(folder, num_steps=num_steps, **settings))
    overhead_s = sum(seconds_of(short)) / (NUM_TRIALS - 2)
    training_s = sum(seconds_of(long)) / (NUM_TRIALS - 2) - overhead_s
    # From the first end to the last one: the others of the sweep, two at a time.
    at_best_s = (NUM_TRIALS - 1) * training_s / 2
    return {
        "overhead_per_trial_s": overhead_s,
        "training_per_trial_s": training_s,
        "trials_s": long["between_first_and_last_end_s"],
        "trials_per_trainings": long["between_first_and_last_end_s"] / at_best_s,
    }


def measure_many(folder: Path, num_trials: int) -> dict[str, float]:
    path = recipe(folder, num_steps=1, num_trials=num_trials, max_concurrent_trials=2)
    result, memory = sweep(path)
    by_number = dict(memory)
    return {
        "num_trials": len(result["trials"]),
        "driver_mb_after_100": by_number[min(100, num_trials)],
        "driver_mb_at_the_end": memory[-1][1],
        "page_mb": result["page_mb"],
        "seconds_per_trial": result["between_first_and_last_end_s"] / num_trials,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", nargs="+", default=["overhead", "many"])
    parser.add_argument("--num-steps", type=int, default=600, help="steps of a longer trial")
    parser.add_argument("--num-trials", type=int, default=1000, help="trials of the part `many`")
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder)
        if "overhead" in arguments.part:
            result["overhead"] = measure_overhead(folder, arguments.num_steps)
        if "many" in arguments.part:
            result["many"] = measure_many(folder, arguments.num_trials)
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
