"""Run of a training phase, on this worker."""

import time
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import distributed
from transformers import PreTrainedTokenizerBase

from raykd.errors import InputError
from raykd.models.encoder import Encoder, load_encoder, load_tokenizer
from raykd.models.families.classes import mark_kind
from raykd.models.masked_lm import load_masked_lm, load_special_tokens
from raykd.models.student.init import check_tokenizers
from raykd.models.tokenization.token_cache import cached_rows
from raykd.models.tokenization.tokens import TokenizedRows, read_rows
from raykd.objectives import build
from raykd.objectives.base import Objective
from raykd.storage.manifest import commit
from raykd.training.class_weights import gold_labels
from raykd.training.evaluator import Evaluator
from raykd.training.events import TrainingEvents, logged_events
from raykd.training.logging.tracking import tracked_metrics_writer
from raykd.training.loop import train
from raykd.training.phase.given import keep_student
from raykd.training.phase.job import PhaseJob, save_model
from raykd.training.phase.new_student import NewStudent
from raykd.training.teacher_cache import FEATURES, LOGITS, read_outputs, relations_of
from raykd.training.trainers import Worker


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
    config, events = job.config, events or TrainingEvents()
    # The process may have trained another model with another number of threads.
    torch.set_num_threads(worker.num_threads)
    if not job.trains:
        keep_student(job, worker, events)
        return
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
    score = job.score
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
        save_model(student, tokenizer, draft)
    checkpoints.remove()


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
