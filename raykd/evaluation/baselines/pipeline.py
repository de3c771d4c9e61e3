"""Predictions of baselines on the task's rows and on evaluation sets, on Ray."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from raykd.cluster import tasks
from raykd.cluster.devices import assigned_device
from raykd.evaluation.baselines import Baseline
from raykd.evaluation.baselines.embeddings import Embed, fit_on_embeddings
from raykd.evaluation.baselines.fitted import Fitted, Predict, baseline_cost
from raykd.evaluation.baselines.int8_teacher import load_int8, make_int8
from raykd.evaluation.baselines.penalty import SETTINGS as PENALTY_SETTINGS
from raykd.evaluation.baselines.setfit import SETTINGS as SETFIT_SETTINGS
from raykd.evaluation.baselines.setfit import make_setfit
from raykd.evaluation.baselines.static import NUM_DIMENSIONS, load_static, make_static
from raykd.evaluation.baselines.tfidf import fit_tfidf
from raykd.evaluation.cost import SETTINGS as COST_SETTINGS
from raykd.evaluation.cost import Cost
from raykd.evaluation.pipeline import METRICS_FILE, PREDICTIONS_FILE
from raykd.evaluation.predict import answers, to_predictions
from raykd.evaluation.sets.examples import read_set
from raykd.evaluation.sets.merging import merged_logits
from raykd.models.embedding import TextEmbedder
from raykd.models.encoder import load_encoder
from raykd.models.resolve import checked_model
from raykd.storage.manifest import (
    Draft,
    digest_of_directory,
    finished,
    stage_key,
    write_once,
)
from raykd.storage.remote.task_files import TaskFiles
from raykd.tasks.labels.sets import targets_of
from raykd.tasks.metrics import compute
from raykd.tasks.store import read_task

COST_FILE = "cost.json"
_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class BaselineJob:
    """A baseline and the directories to write its predictions to.

    Attributes:
        name: which baseline.
        task: folder of the task.
        out: predictions on the report split.
        sets: folder of each evaluation set, and its predictions.
        cost: folder of its inference cost.
        made: folder of the model that the baseline makes; not used by `tfidf` and `embeddings`.
        model: model that it begins with: a pretrained encoder, or the teacher; empty for `tfidf`.
        model_digest: digest of the model.
        max_length: tokens per text that the model reads.
    """

    name: Baseline
    task: Path
    out: Path
    sets: tuple[tuple[Path, Path], ...]
    cost: Path
    made: Path
    model: str = ""
    model_digest: str = ""
    max_length: int = 0

    def settings(self) -> dict[str, object]:
        """Settings that determine the predictions, together with the inputs."""
        if self.name == "int8_teacher":
            return {"name": self.name, **_settings_of(self)}
        penalty: dict[str, object] = {"penalty": PENALTY_SETTINGS}
        if self.name == "tfidf":
            return penalty
        return {"name": self.name, **_settings_of(self), **penalty}

    def inputs(self) -> dict[str, str]:
        """Digests of the task and of the encoder."""
        model = {"model": self.model_digest} if self.model else {}
        return {"task": digest_of_directory(self.task), **model}

    def stage(self, prefix: str) -> str:
        """Name of the stage in manifests."""
        return f"{prefix}_{'tfidf' if self.name == 'tfidf' else 'baseline'}"

    def files(self) -> TaskFiles:
        """Files that are read and written."""
        reads = [self.task, *(folder for folder, _ in self.sets)]
        writes = [self.out, self.cost, *(out for _, out in self.sets)]
        if self.name == "int8_teacher":
            reads.append(Path(self.model))
        if self.name not in ("tfidf", "embeddings"):
            writes.append(self.made)
        return TaskFiles(tuple(reads), tuple(writes))


class BaselineFacts(BaseModel):
    """Size and inference cost of a baseline, and the inverse penalties of its linear models."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_parameters: int
    cost: Cost
    inverse_penalties: tuple[float, ...] = ()


def read_facts(job: BaselineJob) -> BaselineFacts:
    """Size and cost of an evaluated baseline."""
    return BaselineFacts.model_validate_json((job.cost / COST_FILE).read_text())


def evaluate_baselines(jobs: Sequence[BaselineJob], *, use_gpu: bool) -> list[dict[str, float]]:
    """Metrics of each baseline, fitted on the train split; writes missing predictions and costs.

    Raises:
        InputError: a model cannot be read, or Model2Vec or ONNX cannot use it.
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
            # Others at the same time would slow down what is measured.
            num_at_once=1,
            files=lambda job: job.files(),
        )
    return [json.loads((job.out / METRICS_FILE).read_text()) for job in jobs]


def _missing(job: BaselineJob) -> bool:
    own = stage_key(job.stage("evaluate"), job.settings(), job.inputs())
    of_cost = stage_key(job.stage("cost"), _cost_settings(job), job.inputs())
    if finished(job.out, own) is None or finished(job.cost, of_cost) is None:
        return True
    stage = job.stage("evaluate_set")
    return any(
        finished(out, stage_key(stage, job.settings(), _set_inputs(job, folder))) is None
        for folder, out in job.sets
    )


def _set_inputs(job: BaselineJob, folder: Path) -> dict[str, str]:
    return {**job.inputs(), "set": digest_of_directory(folder)}


def _evaluate(job: BaselineJob) -> None:
    """Fit the baseline, and write its missing predictions and its cost."""
    task = read_task(job.task)
    fitted = _fit(job, task.train, task.num_labels)

    def write(draft: Draft) -> None:
        logits = fitted.predict(task.reported)
        table = to_predictions(task.reported, logits)
        pq.write_table(table, draft.directory / PREDICTIONS_FILE)
        found = answers(logits, multi_label=task.multi_label)
        scores = compute(task.metrics, targets_of(task.reported), found)
        (draft.directory / METRICS_FILE).write_text(json.dumps(scores))

    write_once(job.out, job.stage("evaluate"), job.settings(), job.inputs(), write)
    for folder, out in job.sets:
        inputs = _set_inputs(job, folder)
        write_set = partial(_write_set, folder, fitted.predict)
        write_once(out, job.stage("evaluate_set"), job.settings(), inputs, write_set)

    def write_cost(draft: Draft) -> None:
        cost = baseline_cost(fitted, task.reported)
        facts = BaselineFacts(
            num_parameters=fitted.num_parameters,
            cost=cost,
            inverse_penalties=fitted.inverse_penalties,
        )
        (draft.directory / COST_FILE).write_text(facts.model_dump_json())

    write_once(job.cost, job.stage("cost"), _cost_settings(job), job.inputs(), write_cost)


def _write_set(folder: Path, predict: Predict, draft: Draft) -> None:
    """Write predictions in the classes of the set."""
    rows = read_set(folder)
    merged = merged_logits(predict(rows.table), rows.classes.targets)
    pq.write_table(to_predictions(rows.table, merged), draft.directory / PREDICTIONS_FILE)


def _fit(job: BaselineJob, train: pa.Table, num_labels: int) -> Fitted:
    """Fit a baseline, with the model that it makes or begins with."""
    if job.name == "tfidf":
        return fit_tfidf(train, num_labels=num_labels)
    if job.name != "embeddings":
        make = partial(_make, job, train)
        inputs = job.inputs() if job.name == "setfit" else {"model": job.model_digest}
        write_once(job.made, job.name, _settings_of(job), inputs, make)
    if job.name == "int8_teacher":
        num_parameters = _num_parameters(job.model)
        return load_int8(job.made, max_length=job.max_length, num_parameters=num_parameters)
    embed_on_cpu: Embed | None = None
    if job.name == "static":
        embed, num_parameters = load_static(job.made)
    else:
        model = job.model if job.name == "embeddings" else str(job.made)
        embed = embedder = TextEmbedder.load(
            f"variants: {job.name}",
            model,
            max_length=job.max_length,
            use_gpu=assigned_device().type == "cuda",
            fills_batches=False,
        )
        # The costs of all other models are those on a CPU.
        embed_on_cpu = replace(embedder, use_gpu=False) if embedder.use_gpu else None
        num_parameters = _num_parameters(model)
    head = fit_on_embeddings(embed, train, num_labels=num_labels, embed_on_cpu=embed_on_cpu)
    return head._replace(
        num_parameters=head.num_parameters + num_parameters,
        num_bytes=head.num_bytes + _FLOAT32_BYTES * num_parameters,
    )


def _make(job: BaselineJob, train: pa.Table, draft: Draft) -> None:
    if job.name == "static":
        make_static(job.model, draft.directory)
    elif job.name == "int8_teacher":
        make_int8(job.model, draft.directory, max_length=job.max_length)
    else:
        device = assigned_device().type
        model = str(checked_model(job.model))
        make_setfit(model, draft.directory, train, max_length=job.max_length, device=device)


def _num_parameters(model: str) -> int:
    """Number of weights of an encoder without its classifier."""
    body = load_encoder(model, num_labels=1).model.base_model
    return sum(weights.numel() for weights in body.parameters())


def _settings_of(job: BaselineJob) -> dict[str, object]:
    """Settings of the model that a baseline makes."""
    if job.name == "static":
        return {"model2vec": version("model2vec"), "num_dimensions": NUM_DIMENSIONS}
    length: dict[str, object] = {"max_length": job.max_length}
    if job.name == "setfit":
        return {**length, **SETFIT_SETTINGS, "setfit": version("setfit")}
    return (
        {**length, "onnxruntime": version("onnxruntime")} if job.name == "int8_teacher" else length
    )


def _cost_settings(job: BaselineJob) -> dict[str, object]:
    # Earlier costs were those of batches filled with copies.
    filled = {"fills_batches": False} if job.name in ("embeddings", "setfit") else {}
    return {**job.settings(), **COST_SETTINGS, **filled}
