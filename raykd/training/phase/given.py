"""Models that are taken as they are given: a fine-tuned teacher, a student after injection."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raykd.errors import InputError
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.families.classes import mark_kind
from raykd.storage.manifest import Draft, Manifest, commit, write_once
from raykd.training.events import TrainingEvents
from raykd.training.logging.metrics_writer import MetricsWriter
from raykd.training.logging.records import Record
from raykd.training.phase.job import Labels, PhaseJob, save_model
from raykd.training.trainers import Worker


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
        save_model(teacher, load_tokenizer(reference), draft)

    settings: dict[str, Any] = {"labels": list(labels.names), "regression": labels.regression}
    if labels.multi_label:
        settings["multi_label"] = True
    if outputs is not None:
        settings["outputs"] = list(outputs)
    return write_once(out, "teacher", settings, inputs, write)


def keep_student(job: PhaseJob, worker: Worker, events: TrainingEvents) -> None:
    """Commit the student that a phase starts from as its result, with its scores as of step 0.

    Args:
        job: a phase that does not train.
        worker: this process; the first one commits.
        events: handler of the only record.
    """
    assert isinstance(job.start, str), job.start
    if worker.rank > 0:
        return
    with commit(job.out, job.stage, job.settings(), job.inputs) as draft:
        student, tokenizer = load_encoder(job.start), load_tokenizer(job.start)
        scores = {}
        if job.score is not None:
            scores = job.score(student.to(worker.device), tokenizer)
        record = Record(epoch=0.0, step=0, learning_rate=0.0, losses={}, scores=scores)
        MetricsWriter(draft.directory).write(record)
        events.on_record(record, True)
        draft.counts["num_steps"] = 0
        save_model(student, tokenizer, draft)


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
