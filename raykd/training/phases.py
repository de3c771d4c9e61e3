"""Training phase of a teacher or student, as a job."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import distributed
from transformers import PreTrainedTokenizerBase

from raykd.errors import InputError
from raykd.models.encoder import Encoder, load_encoder, load_tokenizer, save_tokenizer
from raykd.models.families.classes import mark_kind
from raykd.models.masked_lm import load_masked_lm, load_special_tokens
from raykd.models.student.init import check_tokenizers
from raykd.models.tokenization.token_cache import cached_rows
from raykd.models.tokenization.tokens import TokenizedRows, read_rows
from raykd.objectives import build
from raykd.objectives.base import Objective
from raykd.storage.manifest import Draft, Manifest, commit, finished, stage_key, write_once
from raykd.storage.remote.task_files import HasFiles, TaskFiles
from raykd.training.checkpoint import CheckpointFolder
from raykd.training.class_weights import gold_labels
from raykd.training.evaluator import Evaluator
from raykd.training.events import TrainingEvents, logged_events
from raykd.training.logging.tracking import Tracking, tracked_metrics_writer
from raykd.training.loop import train
from raykd.training.new_student import NewStudent
from raykd.training.phase_config import PhaseConfig
from raykd.training.settings import steps_until, total_epochs
from raykd.training.teacher_cache import FEATURES, LOGITS, read_outputs, relations_of
from raykd.training.trainers import Worker

MODEL_FOLDER = "model"

# Evaluates a model with its tokenizer on held-out examples.
Score = Callable[[Encoder, PreTrainedTokenizerBase], dict[str, float]]


@dataclass(frozen=True)
class Labels:
    """Outputs of a classifier: names of its classes, or one score (regression).

    `multi_label`: whether a row has any number of the classes.
    """

    names: tuple[str, ...]
    regression: bool
    multi_label: bool = False

    @property
    def num_outputs(self) -> int:
        """Number of the classifier's outputs."""
        return 1 if self.regression else len(self.names)


@dataclass(frozen=True)
class PhaseJob:
    """Training of one model with one objective on one text; its output is a directory.

    Attributes:
        start: reference of a saved model, or the student to create.
        inputs: digests of all inputs.
        score: evaluation function, called at most `num_scores` times for the learning curve.
        score_every: steps between these evaluations if `config.score_every` is not set; None: as
            many epochs as `num_scores` needs.
        tokens: folder of the token cache of long texts.
        has_more_outputs: whether `teacher_outputs` may be of a longer text that begins with `text`.
        is_pretrained: whether the teacher's classifier is untrained, so that its logits are unused.
        generator: reference of the objective's masked language model, if it has one.
        stop_after: epochs after which the training ends, though its learning rate follows the
            schedule of all epochs; None to train for all of them.
    """

    stage: str
    name: str
    out: Path
    start: str | NewStudent
    teacher: str | Path | None
    text: Path
    teacher_outputs: Path | None
    config: PhaseConfig
    labels: Labels
    seed: int
    inputs: Mapping[str, str]
    score: Score | None = None
    num_scores: int = 10
    score_every: int | None = None
    tracking: Tracking = field(default_factory=Tracking)
    tokens: Path | None = None
    is_pretrained: bool = False
    generator: str | None = None
    has_more_outputs: bool = False
    stop_after: int | None = None

    def settings(self) -> dict[str, Any]:
        """Settings that determine the result, together with the inputs."""
        start = self.start
        stop = {} if self.stop_after is None else {"stop_after": self.stop_after}
        return {
            **stop,
            "phase": self.config.determining(),
            "start": start.settings() if isinstance(start, NewStudent) else "given",
            "seed": self.seed,
            "labels": list(self.labels.names),
            "regression": self.labels.regression,
            **({"multi_label": True} if self.labels.multi_label else {}),
        }

    def key(self) -> str:
        """Digest of settings and inputs."""
        return stage_key(self.stage, self.settings(), self.inputs)

    def finished(self) -> Manifest | None:
        """Manifest of the completed job; None if it is not completed."""
        return finished(self.out, self.key())

    def num_steps(self) -> int:
        """Number of optimizer steps of the job."""
        num_rows = pq.read_metadata(self.text).num_rows
        return steps_until(self.config, num_rows, self.stop_after)

    def num_epochs(self) -> int:
        """Number of epochs of the job."""
        num_epochs = total_epochs(self.config, pq.read_metadata(self.text).num_rows)
        return num_epochs if self.stop_after is None else min(num_epochs, self.stop_after)

    @property
    def unfinished(self) -> Path:
        """Working folder of an unfinished training, next to `out`."""
        return self.out.with_name(f"{self.out.name}.unfinished")

    def files(self) -> TaskFiles:
        """Files that the training reads and writes."""
        start = self.start.source if isinstance(self.start, NewStudent) else self.start
        reads = (start, self.teacher, self.text, self.teacher_outputs, self.generator)
        of_score = self.score.files() if isinstance(self.score, HasFiles) else TaskFiles()
        return (
            TaskFiles(
                tuple(path for path in reads if path is not None),
                (self.out, self.unfinished),
                () if self.tokens is None else (self.tokens,),
            )
            + of_score
            + self.tracking.files(self.name)
        )

    def checkpoints(self, every_s: float) -> CheckpointFolder:
        """Checkpoints in the folder `unfinished`."""
        return CheckpointFolder(
            self.unfinished, self.stage, self.settings(), self.inputs, every_s=every_s
        )


def run_phase(
    job: PhaseJob,
    worker: Worker,
    *,
    checkpoint_every_s: float = 60.0,
    events: TrainingEvents | None = None,
) -> None:
    """Train, resuming from the newest checkpoint; the first worker commits model and curve.

    Args:
        job: the phase to train.
        worker: this process.
        checkpoint_every_s: seconds between checkpoints.
        events: handler of the training's events, called on the first worker only.

    Raises:
        InputError: the text has no rows, or no labels where the objective needs them.
        FloatingPointError: see `loop.train`.
    """
    config = job.config
    # The process may have trained another model with another number of threads.
    torch.set_num_threads(worker.num_threads)
    student, tokenizer, objective = _start(job)
    rows = _rows_of(job, tokenizer, worker)
    rows = _with_objective_inputs(job, rows, needs_labels=config.objective.needs_labels)
    objective.gold = gold_labels(
        f"{job.name}: class_weights",
        config.class_weights,
        config.label_smoothing,
        job.labels.names,
        rows.labels,
    )
    checkpoints = job.checkpoints(checkpoint_every_s)

    def run(evaluator: Evaluator | None, events: TrainingEvents | None) -> int:
        return train(
            objective,
            rows,
            config,
            pad_id=tokenizer.pad_token_id,
            regression=job.labels.regression,
            seed=job.seed,
            worker=worker,
            evaluator=evaluator,
            checkpoints=checkpoints,
            events=events,
            stop_after=job.stop_after,
        )

    if worker.rank > 0:
        run(None, None)
        return
    score, events = job.score, events or TrainingEvents()
    events.on_rows(int(rows.offsets[-1]))
    evaluator = Evaluator(
        student,
        config,
        len(rows),
        None if score is None else lambda: score(student, tokenizer),
        job.num_scores,
        job.score_every,
    )
    with tracked_metrics_writer(
        job.unfinished,
        job.tracking,
        name=job.name,
        stage=job.stage,
        key=job.key(),
        settings=job.settings(),
        on_lost=events.on_tracker_lost,
    ) as metrics_writer:
        logged, started_s = logged_events(events, metrics_writer), time.monotonic()
        num_steps = run(evaluator, logged)
        train_s = time.monotonic() - started_s
    # Of a resumed training, only the steps after its checkpoint were timed.
    train_s *= num_steps / max(1, num_steps - logged.first_step)
    with commit(job.out, job.stage, job.settings(), job.inputs, earlier_s=train_s) as draft:
        metrics_writer.move(draft.directory)
        draft.counts.update(
            num_rows=len(rows),
            num_tokens=int(rows.offsets[-1]),
            num_steps=num_steps,
            num_threads=torch.get_num_threads(),
        )
        if (best_step := evaluator.best_step) is not None:
            draft.counts["best_step"] = best_step
        _save(student, tokenizer, draft)
    checkpoints.remove()


def adopt_teacher(
    reference: str,
    out: Path,
    labels: Labels,
    inputs: Mapping[str, str],
    outputs: Sequence[str] | None = None,
) -> Manifest:
    """Copy a fine-tuned teacher into the run, with its classes in the task's order.

    Args:
        reference: reference of the teacher.
        out: folder to write.
        labels: the task's labels.
        inputs: digests of the inputs.
        outputs: names of the teacher's outputs in their order; None to read its config.json.

    Raises:
        InputError: its classifier has other outputs than the task.
    """

    def write(draft: Draft) -> None:
        teacher = load_encoder(reference)
        if teacher.num_labels != labels.num_outputs:
            raise InputError(
                f"teacher.model {reference}: its classifier has {teacher.num_labels} outputs, the "
                f"task needs {labels.num_outputs}; name a teacher fine-tuned on this task, or set "
                "teacher.fine_tuned: false"
            )
        order = _order_of_classes(reference, outputs or teacher.label_names, labels.names)
        teacher = load_encoder(reference, label_names=labels.names)
        if order:
            teacher.reorder_classes(order)
        mark_kind(teacher.model.config, multi_label=labels.multi_label)
        _save(teacher, load_tokenizer(reference), draft)

    settings: dict[str, Any] = {"labels": list(labels.names), "regression": labels.regression}
    if labels.multi_label:
        settings["multi_label"] = True
    if outputs is not None:
        settings["outputs"] = list(outputs)
    return write_once(out, "teacher", settings, inputs, write)


def _order_of_classes(
    reference: str, teacher_names: Sequence[str], names: Sequence[str]
) -> list[int]:
    """Index of the teacher's output per class of the task; empty for regression."""
    unnamed = all(re.fullmatch(r"LABEL_\d+", name) for name in teacher_names)
    if unnamed or list(teacher_names) == list(names):
        return list(range(len(teacher_names)))
    known = [name.casefold() for name in teacher_names]
    expected = [name.casefold() for name in names]
    if sorted(known) != sorted(expected) or len(set(known)) < len(known):
        raise InputError(
            f"teacher.model {reference}: its classes are {', '.join(teacher_names)}, the task's "
            f"are {', '.join(names)}; name a teacher fine-tuned on this task, or write the task's "
            "names, in the teacher's order, as id2label into its config.json"
        )
    return [known.index(name) for name in expected]


def _save(model: Encoder, tokenizer: PreTrainedTokenizerBase, draft: Draft) -> None:
    model.to("cpu").save(draft.directory / MODEL_FOLDER)
    save_tokenizer(tokenizer, draft.directory / MODEL_FOLDER)
    draft.counts["num_parameters"] = sum(p.numel() for p in model.parameters())


def _start(job: PhaseJob) -> tuple[Encoder, PreTrainedTokenizerBase, Objective]:
    start, labels, objective = job.start, job.labels, job.config.objective
    teacher = None
    if "model" in objective.needs_teacher:
        num_labels = labels.num_outputs if job.is_pretrained else None
        teacher = load_encoder(str(job.teacher), num_labels=num_labels)
    if isinstance(start, NewStudent):
        tokenizer = start.load_tokenizer()
        may_differ = objective.allows_other_tokenizer and not job.is_pretrained
        is_other = start.config.model is not None or job.is_pretrained
        if job.teacher is not None and is_other and not may_differ:
            check_tokenizers(load_tokenizer(str(job.teacher)), tokenizer)
        student = start.make(labels.num_outputs, labels.names, job.seed)
    else:
        tokenizer = load_tokenizer(start)
        student = load_encoder(
            start, num_labels=labels.num_outputs, label_names=labels.names, seed=job.seed
        )
    mark_kind(student.model.config, multi_label=labels.multi_label)
    generator = None
    if job.generator is not None:
        check_tokenizers(
            tokenizer,
            load_tokenizer(job.generator),
            role="generator",
            setting="objective.generator.model",
        )
        generator = load_masked_lm(job.generator)
    special_tokens = load_special_tokens(str(job.teacher)) if objective.masks_words else None
    # Heads are initialized at random, in a process that may have trained other models.
    torch.manual_seed(job.seed)
    return student, tokenizer, build(objective, student, teacher, generator, special_tokens)


def _rows_of(job: PhaseJob, tokenizer: PreTrainedTokenizerBase, worker: Worker) -> TokenizedRows:
    def read() -> TokenizedRows:
        max_length = job.config.max_length
        if job.tokens is None:
            return read_rows(job.text, tokenizer, max_length=max_length)
        return cached_rows(job.text, tokenizer, max_length=max_length, folder=job.tokens)

    if worker.size == 1:
        return read()
    # The first worker writes the cache that the others read.
    rows = read() if worker.rank == 0 else None
    distributed.barrier()
    return read() if rows is None else rows


def _with_objective_inputs(
    job: PhaseJob, rows: TokenizedRows, *, needs_labels: bool
) -> TokenizedRows:
    if len(rows) == 0:
        raise InputError(f"{job.text}: no rows to train on")
    if needs_labels and rows.labels is None:
        raise InputError(
            f"{job.stage}: objective {job.config.objective.name!r} needs labels, which unlabeled "
            "text does not have; set task_weight: 0, or use an objective without labels"
        )
    if not needs_labels:
        rows = replace(rows, labels=None)
    objective = job.config.objective
    if job.teacher_outputs is None:
        return rows
    if not job.is_pretrained:
        rows = replace(rows, teacher_logits=_outputs_on(job, LOGITS, len(rows)))
    if objective.teacher_features is not None:
        rows = replace(rows, teacher_features=_outputs_on(job, FEATURES, len(rows)))
    if (layer := objective.teacher_relations) is not None:
        vectors = _outputs_on(job, relations_of(layer), int(rows.offsets[-1]))
        rows = replace(rows, teacher_relations=vectors)
    return rows


def _outputs_on(job: PhaseJob, kind: str, num: int) -> NDArray[Any]:
    """Teacher outputs of the job's rows, or tokens, of which there are `num`."""
    assert job.teacher_outputs is not None
    outputs = read_outputs(job.teacher_outputs, kind)
    if job.has_more_outputs:
        outputs = outputs[:num]
    assert len(outputs) == num, (job.teacher_outputs, kind, len(outputs), num)
    return outputs
