"""Ray's edge of evaluation: one task a model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import torch

from raykd import cluster
from raykd.evaluation.metrics import compute, majority_predictions
from raykd.evaluation.predict import answers, to_predictions
from raykd.evaluation.store import read_task
from raykd.evaluation.tfidf import predict_tfidf
from raykd.manifest import Draft, digest_of_directory, finished, stage_key, write_once
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.inference import logits_of
from raykd.models.tokens import read_rows

PREDICTIONS_FILE = "predictions.parquet"
METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class Examinee:
    """A model to be scored: its folder, and the directory of its predictions."""

    model: Path
    out: Path
    max_length: int
    inputs: Mapping[str, str]

    def settings(self) -> dict[str, int]:
        """What decides the answer besides the inputs."""
        return {"max_length": self.max_length}


def evaluate(examinees: Sequence[Examinee], task_folder: Path) -> list[dict[str, float]]:
    """Metrics of each model on the task's report split; predictions are written beside them."""
    undone = [
        examinee
        for examinee in examinees
        if finished(examinee.out, stage_key("evaluate", examinee.settings(), examinee.inputs))
        is None
    ]
    if undone:
        examine = partial(_examine, task_folder=task_folder)
        cluster.for_each(examine, undone, label="evaluate", unit="models")
    return [json.loads((examinee.out / METRICS_FILE).read_text()) for examinee in examinees]


def evaluate_tfidf(task_folder: Path, out: Path) -> dict[str, float]:
    """Metrics of TF-IDF and a linear model, fitted on the train split."""

    def write(draft: Draft) -> None:
        task = read_task(task_folder)
        table = predict_tfidf(task.train, task.reported, num_labels=task.num_labels)
        pq.write_table(table, draft.directory / PREDICTIONS_FILE)
        predictions = table["prediction"].to_numpy()
        scores = compute(task.metrics, task.reported["label"].to_numpy(), predictions)
        (draft.directory / METRICS_FILE).write_text(json.dumps(scores))

    inputs = {"task": digest_of_directory(task_folder)}
    write_once(out, "evaluate_tfidf", {}, inputs, write)
    scores: dict[str, float] = json.loads((out / METRICS_FILE).read_text())
    return scores


def constant_scores(task_folder: Path) -> dict[str, float]:
    """Metrics of the best constant answer."""
    task = read_task(task_folder)
    labels = task.reported["label"].to_numpy()
    constant = majority_predictions(
        task.train["label"].to_numpy(), len(labels), regression=task.regression
    )
    return compute(task.metrics, labels, constant)


def _examine(examinee: Examinee, task_folder: Path) -> None:
    def write(draft: Draft) -> None:
        task = read_task(task_folder)
        tokenizer = load_tokenizer(str(examinee.model))
        rows = read_rows(
            task_folder / f"{task.report_split}.parquet",
            tokenizer,
            max_length=examinee.max_length,
        )
        encoder = load_encoder(str(examinee.model))
        logits = logits_of(encoder, rows, pad_id=tokenizer.pad_token_id, device=torch.device("cpu"))
        table = to_predictions(task.reported, logits)
        pq.write_table(table, draft.directory / PREDICTIONS_FILE)
        scores = compute(task.metrics, task.reported["label"].to_numpy(), answers(logits))
        (draft.directory / METRICS_FILE).write_text(json.dumps(scores))

    write_once(examinee.out, "evaluate", examinee.settings(), examinee.inputs, write)
