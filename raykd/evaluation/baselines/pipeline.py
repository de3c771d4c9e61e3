"""Predictions of linear baselines on the task's rows and on evaluation sets, on Ray."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.cluster import tasks
from raykd.cluster.devices import assigned_device
from raykd.evaluation.baselines import LinearBaseline
from raykd.evaluation.baselines.embeddings import fit_on_embeddings
from raykd.evaluation.baselines.linear import Predict
from raykd.evaluation.baselines.static import NUM_DIMENSIONS, load_static, make_static
from raykd.evaluation.baselines.tfidf import fit_tfidf
from raykd.evaluation.pipeline import METRICS_FILE, PREDICTIONS_FILE
from raykd.evaluation.predict import answers, to_predictions
from raykd.evaluation.sets.examples import read_set
from raykd.evaluation.sets.merging import merged_logits
from raykd.models.embedding import TextEmbedder
from raykd.storage.manifest import (
    Draft,
    digest_of_directory,
    finished,
    stage_key,
    write_once,
)
from raykd.storage.remote.task_files import TaskFiles
from raykd.tasks.label_sets import targets_of
from raykd.tasks.metrics import compute
from raykd.tasks.store import read_task


@dataclass(frozen=True)
class BaselineJob:
    """A baseline and the directories to write its predictions to.

    Attributes:
        name: which baseline.
        task: folder of the task.
        out: predictions on the report split.
        sets: folder of each evaluation set, and its predictions.
        static: folder of static embeddings.
        model: pretrained encoder, empty for `tfidf`.
        model_digest: digest of the encoder.
        max_length: tokens per text that the encoder reads.
    """

    name: LinearBaseline
    task: Path
    out: Path
    sets: tuple[tuple[Path, Path], ...]
    static: Path
    model: str = ""
    model_digest: str = ""
    max_length: int = 0

    def settings(self) -> dict[str, object]:
        """Settings that determine the predictions, together with the inputs."""
        if self.name == "embeddings":
            return {"name": self.name, "max_length": self.max_length}
        return {} if self.name == "tfidf" else {"name": self.name, **_static_settings()}

    def inputs(self) -> dict[str, str]:
        """Digests of the task and of the encoder."""
        model = {"model": self.model_digest} if self.model else {}
        return {"task": digest_of_directory(self.task), **model}

    def stage(self, prefix: str) -> str:
        """Name of the stage in manifests."""
        return f"{prefix}_{'tfidf' if self.name == 'tfidf' else 'baseline'}"

    def files(self) -> TaskFiles:
        """Files that are read and written."""
        reads = (self.task, *(folder for folder, _ in self.sets))
        writes = (self.out, *(out for _, out in self.sets))
        return TaskFiles(reads, (*writes, self.static) if self.name == "static" else writes)


def evaluate_baselines(jobs: Sequence[BaselineJob], *, use_gpu: bool) -> list[dict[str, float]]:
    """Metrics of each baseline, fitted on the train split; writes missing predictions.

    Raises:
        InputError: an encoder cannot be read, or Model2Vec cannot use it.
    """
    undone = [job for job in jobs if _missing(job)]
    for job in undone:
        # TF-IDF takes less time than the start of a task.
        if job.name == "tfidf":
            _evaluate(job)
    if with_models := [job for job in undone if job.name != "tfidf"]:
        tasks.for_each(
            _evaluate,
            with_models,
            label="baselines",
            unit="baselines",
            num_gpus=float(use_gpu),
            files=lambda job: job.files(),
        )
    return [json.loads((job.out / METRICS_FILE).read_text()) for job in jobs]


def _missing(job: BaselineJob) -> bool:
    own = stage_key(job.stage("evaluate"), job.settings(), job.inputs())
    if finished(job.out, own) is None:
        return True
    stage = job.stage("evaluate_set")
    return any(
        finished(out, stage_key(stage, job.settings(), _set_inputs(job, folder))) is None
        for folder, out in job.sets
    )


def _set_inputs(job: BaselineJob, folder: Path) -> dict[str, str]:
    return {**job.inputs(), "set": digest_of_directory(folder)}


def _evaluate(job: BaselineJob) -> None:
    """Fit the baseline, and write its missing predictions."""
    task = read_task(job.task)
    predict = _fit(job, task.train, task.num_labels)

    def write(draft: Draft) -> None:
        logits = predict(task.reported)
        table = to_predictions(task.reported, logits)
        pq.write_table(table, draft.directory / PREDICTIONS_FILE)
        found = answers(logits, multi_label=task.multi_label)
        scores = compute(task.metrics, targets_of(task.reported), found)
        (draft.directory / METRICS_FILE).write_text(json.dumps(scores))

    write_once(job.out, job.stage("evaluate"), job.settings(), job.inputs(), write)
    for folder, out in job.sets:
        inputs = _set_inputs(job, folder)
        write_set = partial(_write_set, folder, predict)
        write_once(out, job.stage("evaluate_set"), job.settings(), inputs, write_set)


def _write_set(folder: Path, predict: Predict, draft: Draft) -> None:
    """Write predictions in the classes of the set."""
    rows = read_set(folder)
    merged = merged_logits(predict(rows.table), rows.classes.targets)
    pq.write_table(to_predictions(rows.table, merged), draft.directory / PREDICTIONS_FILE)


def _fit(job: BaselineJob, train: pa.Table, num_labels: int) -> Predict:
    if job.name == "tfidf":
        return fit_tfidf(train, num_labels=num_labels)
    if job.name == "embeddings":
        embed = TextEmbedder.load(
            "variants: embeddings",
            job.model,
            max_length=job.max_length,
            use_gpu=assigned_device().type == "cuda",
        )
        return fit_on_embeddings(embed, train, num_labels=num_labels)
    write_once(
        job.static,
        "static",
        _static_settings(),
        {"model": job.model_digest},
        lambda draft: make_static(job.model, draft.directory),
    )
    return fit_on_embeddings(load_static(job.static), train, num_labels=num_labels)


def _static_settings() -> dict[str, object]:
    return {"model2vec": version("model2vec"), "num_dimensions": NUM_DIMENSIONS}
