"""Predictions on evaluation sets on Ray: one task per model and set.

The digest of a set is an input of its predictions only, so that another set of a complete run is
all that is predicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raykd.cluster import tasks
from raykd.evaluation.pipeline import PREDICTIONS_FILE, EvaluationJob, logits_on
from raykd.evaluation.predict import answers_in, to_predictions
from raykd.evaluation.sets.examples import EvaluationSet, read_set
from raykd.evaluation.sets.merging import constant_prediction, merged_logits
from raykd.storage.manifest import (
    Draft,
    digest_of_directory,
    finished,
    stage_key,
    write_once,
)
from raykd.storage.remote.task_files import TaskFiles
from raykd.storage.schemas import EXAMPLES_FILE
from raykd.tasks.labels.sets import targets_of
from raykd.tasks.metrics import FloatArray, compute, majority_predictions
from raykd.tasks.store import read_task

_STAGE = "evaluate_set"


@dataclass(frozen=True)
class SetJob:
    """Predictions on an evaluation set.

    Attributes:
        model: the model, as it is evaluated on the task.
        folder: the set, see `examples.write_set`.
        out: directory to write.
    """

    model: EvaluationJob
    folder: Path
    out: Path

    def settings(self) -> dict[str, int]:
        """Settings that determine the predictions, together with the inputs."""
        return {"max_length": self.model.max_length}

    def inputs(self) -> dict[str, str]:
        """Digests of the model and of the set."""
        return {"model": self.model.inputs["model"], "set": digest_of_directory(self.folder)}

    def files(self) -> TaskFiles:
        """Files that the predictions read and write."""
        return TaskFiles((self.model.model, self.folder), (self.out,))


def predict_sets(jobs: Sequence[SetJob], *, use_gpu: bool) -> None:
    """Write the predictions of each job, unless they are complete.

    Raises:
        InputError: the logits of a model are not finite.
    """
    undone = [
        job
        for job in jobs
        if finished(job.out, stage_key(_STAGE, job.settings(), job.inputs())) is None
    ]
    if undone:
        tasks.for_each(
            _predict,
            undone,
            label="evaluation sets",
            unit="models",
            num_gpus=float(use_gpu),
            files=lambda job: job.files(),
        )


def set_scores(out: Path, metrics: Sequence[str]) -> dict[str, float]:
    """Metrics of the predictions in `out`."""
    table = pq.read_table(out / PREDICTIONS_FILE, columns=["label"])
    return compute(metrics, targets_of(table), answers_in(out / PREDICTIONS_FILE))


def constant_set_scores(
    task_folder: Path, folder: Path, metrics: Sequence[str]
) -> dict[str, float]:
    """Metrics of the best constant answer on a set, chosen by the task's train split."""
    rows = read_set(folder)
    labels: FloatArray = targets_of(rows.table)
    train = targets_of(read_task(task_folder).train)
    if train.ndim == 2:
        # The set's classes are the task's, perhaps in another order.
        order = np.argsort(rows.classes.targets)
        constant = majority_predictions(train[:, order], len(labels), regression=False)
        return compute(metrics, labels, constant)
    answer = constant_prediction(train, rows.classes.targets)
    return compute(metrics, labels, np.full(len(labels), answer))


def _predict(job: SetJob) -> None:
    def write(draft: Draft) -> None:
        logits = logits_on(job.model, job.folder / EXAMPLES_FILE, f"evaluation set {job.folder}")
        _write(read_set(job.folder), logits, draft)

    write_once(job.out, _STAGE, job.settings(), job.inputs(), write)


def _write(rows: EvaluationSet, logits: NDArray[np.float32], draft: Draft) -> None:
    """Write predictions in the classes of the set, from logits in those of the task."""
    merged = merged_logits(logits, rows.classes.targets)
    pq.write_table(to_predictions(rows.table, merged), draft.directory / PREDICTIONS_FILE)
