"""raykd's trainings in the training benchmarks, and timing of steps."""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor
from training_peers import Given

from raykd.corpus.rows import Document
from raykd.corpus.texts import Texts
from raykd.corpus.units import UnitsConfig, cut
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.forward import run
from raykd.models.inference import RelationRequest, answers_of
from raykd.models.student.init import StudentConfig, make_student
from raykd.models.tokenization.tokens import TokenizedRows, tokenize
from raykd.objectives import build
from raykd.objectives.base import LossTerms, Models, Objective, TeacherPart
from raykd.objectives.minilmv2 import MiniLmV2Config
from raykd.objectives.vanilla_kd import VanillaKd, VanillaKdConfig
from raykd.training.batches import EpochBatches
from raykd.training.events import TrainingEvents
from raykd.training.logging.records import Record
from raykd.training.loop import train
from raykd.training.settings import TrainingConfig, total_steps
from raykd.training.trainers import Worker

SEED = 1
NUM_CLASSES = 2
MAX_LENGTH = 128
WARM_UP_STEPS = 2
CHECKED_STEPS = 3

# Trains with the inputs, calls the function at the beginning of each step, and returns losses.
Side = Callable[[Given, Callable[[], None]], list[float]]


class RunningTeacherConfig(VanillaKdConfig):
    """Vanilla-KD with a teacher that runs in the step."""

    @property
    def needs_teacher(self) -> frozenset[TeacherPart]:
        """The model."""
        return frozenset({"model"})


class RunningTeacher(VanillaKd):
    """Vanilla-KD on logits that the teacher computes in the step."""

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """See `VanillaKd`."""
        assert self.teacher is not None
        with torch.no_grad():
            logits = run(self.teacher, batch).logits
        return super().forward({**batch, "teacher_logits": logits})


@dataclass
class Stopwatch:
    """Seconds between the beginnings of the first counted step and the last step."""

    device: torch.device
    num_steps: int
    clock: Callable[[], float]
    step: int = 0
    started: float = 0.0
    seconds: float = 0.0

    def __call__(self) -> None:
        """Record the beginning of a step."""
        self.step += 1
        if self.step in (WARM_UP_STEPS + 1, self.num_steps):
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            now = self.clock()
            self.started, self.seconds = now, now - self.started


@dataclass(frozen=True)
class Bench:
    """Settings and models that all parts share."""

    options: argparse.Namespace
    folder: Path

    @property
    def device(self) -> torch.device:
        """Device of all parts except `workers`."""
        return torch.device(self.options.device)

    @property
    def student(self) -> Path:
        """Folder of the saved student that every side starts from."""
        return self.folder / "student"

    @property
    def clock(self) -> Callable[[], float]:
        """Function that returns elapsed or CPU seconds."""
        return time.process_time if self.options.clock == "cpu" else time.perf_counter

    def given(
        self,
        rows: TokenizedRows,
        *,
        bucket_batches: int = 1,
        epochs: int = 1,
        batch_size: int | None = None,
    ) -> Given:
        """Return inputs with raykd's batches, without warm-up, so that all schedules are equal."""
        config = TrainingConfig(
            epochs=epochs,
            batch_size=batch_size or self.options.batch_size,
            bucket_batches=bucket_batches,
            warmup_fraction=0,
            max_length=MAX_LENGTH,
        )
        order = {"bucket_batches": bucket_batches, "seed": SEED}
        epochs_batches = [
            EpochBatches(rows.lengths, config.batch_size, epoch=epoch, **order)
            for epoch in range(1, epochs + 1)
        ]
        batches = [batch[index] for batch in epochs_batches for index in range(len(batch))]
        folders = (self.student, self.folder / "teacher")
        tokenizer = load_tokenizer(self.options.teacher)
        return Given(*folders, tokenizer, rows, batches, config, self.device)

    def checked(self, rows: TokenizedRows) -> Given:
        """Return inputs of three steps on one batch, without dropout."""
        given = self.given(rows, epochs=CHECKED_STEPS, batch_size=len(rows))
        return replace(given, student=self.folder / "student_without_dropout")


def save_models(bench: Bench) -> None:
    """Save a teacher with a random classifier, and students with and without dropout."""
    teacher = load_encoder(bench.options.teacher, num_labels=NUM_CLASSES, seed=SEED)
    tokenizer = load_tokenizer(bench.options.teacher)
    num_layers = bench.options.num_layers
    dropouts = {"student": None, "student_without_dropout": 0.0}
    students = {
        name: make_student(
            teacher,
            StudentConfig(num_layers=num_layers, inits=("skip",), dropout=dropout),
            "skip",
            SEED,
        )
        for name, dropout in dropouts.items()
    }
    for name, model in {"teacher": teacher, **students}.items():
        model.save(bench.folder / name)
        tokenizer.save_pretrained(bench.folder / name)


def task_rows(bench: Bench, task: str, num_rows: int) -> TokenizedRows:
    """Return random training rows of a GLUE task."""
    table = pq.read_table(bench.options.glue / f"{task}_train.parquet")
    drawn = np.random.default_rng(SEED).permutation(len(table))[:num_rows]
    assert len(drawn) == num_rows, f"{task} has {len(table)} rows, {num_rows} are needed"
    table = table.take(drawn)
    sentences = [table[name].to_pylist() for name in table.column_names if "sentence" in name]
    rows = tokenize(load_tokenizer(bench.options.teacher), *sentences, max_length=MAX_LENGTH)
    return replace(rows, labels=table["label"].to_numpy().astype(np.float64))


def text_rows(bench: Bench, num_rows: int) -> TokenizedRows:
    """Return random units of at most 100 words from the first documents."""
    with pq.ParquetFile(bench.options.corpus) as file:
        batch = next(file.iter_batches(batch_size=max(100, num_rows), columns=["text"]))
    texts = batch["text"].to_pylist()
    documents = [Document("corpus", number, text) for number, text in enumerate(texts)]
    units, *_ = cut(Texts.of_rows(documents), "0" * 16, UnitsConfig())
    drawn = np.random.default_rng(SEED).permutation(len(units))[:num_rows]
    assert len(drawn) == num_rows, f"{len(units)} units, {num_rows} are needed"
    tokenizer = load_tokenizer(bench.options.teacher)
    return tokenize(tokenizer, units["text"].take(drawn).to_pylist(), max_length=MAX_LENGTH)


def own(
    given: Given,
    lap: Callable[[], None],
    *,
    make: Callable[[Given], Objective],
    worker: Worker | None = None,
) -> list[float]:
    """Train with raykd's loop; return the losses of its epochs."""
    losses: list[float] = []
    num_steps = total_steps(given.config, len(given.rows))

    class Events(TrainingEvents):
        def on_step(self, step: int) -> None:
            if step < num_steps:
                lap()

        def on_record(self, record: Record, is_last: bool) -> None:
            losses.append(record.losses["total"])

    lap()
    train(
        make(given),
        given.rows,
        given.config,
        pad_id=given.tokenizer.pad_token_id,
        regression=False,
        seed=SEED,
        worker=worker or Worker(device=given.device),
        events=Events(),
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
    """Return the inputs with cached relation vectors of the teacher's last layer."""
    teacher = load_encoder(str(given.teacher)).to(given.device)
    shape = (len(given.rows.input_ids), 3, teacher.hidden_size)
    request = RelationRequest(teacher.num_layers, np.zeros(shape, np.float16))
    pad_id = given.tokenizer.pad_token_id
    answers_of(teacher, given.rows, pad_id=pad_id, device=given.device, relations=request)
    return replace(given, rows=replace(given.rows, teacher_relations=request.vectors))


def seconds_per_step(
    bench: Bench, sides: Mapping[str, tuple[Side, Given]], num_rounds: int
) -> dict[str, float]:
    """Measure per side the median over rounds of the mean of the counted steps."""
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(num_rounds):
        for name in list(sides) if number % 2 == 0 else list(sides)[::-1]:
            side, given = sides[name]
            num_steps = len(given.batches)
            watch = Stopwatch(bench.device, num_steps, bench.clock)
            torch.manual_seed(SEED)
            side(given, watch)
            assert watch.step == num_steps, (name, watch.step, num_steps)
            measured[name].append(watch.seconds / (num_steps - 1 - WARM_UP_STEPS))
    return {name: statistics.median(values) for name, values in measured.items()}


def not_timed() -> None:
    """Do nothing: `lap` of a run that is only checked."""


def part_of(rows: TokenizedRows, num_rows: int) -> TokenizedRows:
    """Return the first rows."""
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


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(float(value), 3) if isinstance(value, float) else value
