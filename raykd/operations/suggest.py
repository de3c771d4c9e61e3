"""Suggestion of the next rows to label: a table with texts of a corpus and empty labels."""

import csv
import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raykd.errors import InputError
from raykd.prediction.config import PredictConfig
from raykd.prediction.pipeline import Device, predict_files
from raykd.prediction.suggestion import diverse_uncertain_rows, squared_lengths
from raykd.storage.locations import Location
from raykd.storage.manifest import check_source
from raykd.storage.outputs import output_path
from raykd.storage.schemas import TEXT_FILE
from raykd.storage.working_files import replacing
from raykd.tasks.config import TaskConfig
from raykd.tasks.store import read_task, task_folder_of
from raykd.tasks.task import Task
from raykd.workflow.recipe.recipe_file import read_recipe

# Texts that are compared with each other; of more, those with the longest gradients are.
MAX_CANDIDATES = 50_000
_FORMATS = (".csv", ".jsonl")
_PREFIX = "raykd_"


class Suggested(NamedTuple):
    """A written table.

    Attributes:
        num_rows: its rows.
        num_texts: different texts of the corpus that are not in the task.
        by_label: its rows by predicted class.
    """

    num_rows: int
    num_texts: int
    by_label: dict[str, int]


class _Candidates(NamedTuple):
    """N texts or pairs, the predictions of each, and what the choice reads."""

    texts: list[tuple[str, ...]]
    predictions: list[str]
    probabilities: NDArray[np.float32]  # (N, C)
    embeddings: NDArray[np.float32]  # (N, d)

    def take(self, places: Sequence[int]) -> "_Candidates":
        """Rows at these places."""
        return _Candidates(
            [self.texts[place] for place in places],
            [self.predictions[place] for place in places],
            self.probabilities[places],
            self.embeddings[places],
        )


def suggest(
    run: Path,
    out: Path,
    *,
    corpus: Sequence[Location] = (),
    text_columns: Sequence[str] = ("text",),
    num_rows: int = 50,
    seed: int = 0,
    device: Device = "auto",
) -> Suggested:
    """Write the rows of a corpus whose labels would help the student of a run most.

    Args:
        run: run directory with a student, or that of a cross-validation.
        out: .csv or .jsonl file to write: the task's columns of text, its label column, empty, and
            the student's prediction and its probability.
        corpus: files and folders of texts; none: the run's contextualized corpus.
        text_columns: columns of the text in `corpus`.
        num_rows: rows to choose.
        seed: seed of the choice.
        device: see `predict_files`.

    Raises:
        InputError: there is no run, student or corpus, the task has scores instead of classes, the
            corpus has no text that is not in the task, or `out` exists, has another suffix, or is a
            CSV file that the task would not read as it is written.
    """
    out = output_path(out)
    if out.suffix not in _FORMATS:
        raise InputError(f"--out {out}: name a file that ends in {' or '.join(_FORMATS)}")
    if out.exists():
        raise InputError(f"--out {out}: exists, perhaps with labels; choose another name")
    if num_rows < 1:
        raise InputError(f"raykd suggest: {num_rows} rows; give 1 or more")
    folder = task_folder_of(run)
    if folder is None or not (run / "student").is_dir():
        raise InputError(f"{run}: has no task and student; give the directory of a finished run")
    task, trained = read_task(folder), folder.parent
    if not task.labels:
        raise InputError(f"{run}: predicts scores; rows are suggested for tasks with classes")
    if task.multi_label:
        raise InputError(
            f"{run}: predicts any number of classes per row; rows are suggested by the "
            "probabilities of one class per row"
        )
    recipe = read_recipe(trained / "recipe.yaml")
    check_read_back(out, recipe.task)
    columns = recipe.task.sentence_candidates()[0]
    if not corpus:
        corpus, text_columns = [_contextualized(trained)], ("text",)
    if len(text_columns) != len(columns):
        raise InputError(
            f"raykd suggest: the task reads {' and '.join(columns)}, and the corpus has "
            f"{' and '.join(text_columns)}; name as many columns with --text-columns, of a table "
            "that --corpus names"
        )
    predicted = out.with_name(f".{out.name}.predicted")
    # BADGE reads the gradients of the model as it was trained, which has no temperature.
    config = PredictConfig(
        tuple(text_columns), calibrated=False, with_embeddings=True, prefix=_PREFIX
    )
    predict_files(str(run / "student"), corpus, predicted, config, device=device)
    candidates, num_texts = _candidates(predicted, config, _texts_of(task))
    if not num_texts:
        shutil.rmtree(predicted)
        raise InputError(
            "raykd suggest: every text of the corpus is a row of the task; give other texts with "
            "--corpus"
        )
    chosen = candidates.take(
        diverse_uncertain_rows(candidates.probabilities, candidates.embeddings, num_rows, seed)
    )
    _write(out, chosen, columns, recipe.task.label_column)
    shutil.rmtree(predicted)
    by_label = {label: chosen.predictions.count(label) for label in task.labels}
    return Suggested(len(chosen.texts), num_texts, by_label)


def check_read_back(out: Path, task: TaskConfig) -> None:
    """Refuse a CSV file for a task whose CSV files have no header line or no quoted fields.

    Raises:
        InputError: names the key and the remedy.
    """
    if out.suffix != ".csv":
        return
    key = "columns" if task.columns is not None else "quoting: none"
    if task.columns is not None or task.quoting == "none":
        raise InputError(
            f"--out {out}: the recipe's task.{key} is for all its CSV files, and this one would "
            "have a header line and quotation marks around fields, which would be read as text; "
            "name a .jsonl file"
        )


def _contextualized(run: Path) -> Path:
    folder = run / "texts" / "contextualized"
    if not (folder / TEXT_FILE).is_file():
        raise InputError(f"{run}: has no contextualized corpus; name texts with --corpus")
    check_source(folder)
    return folder / TEXT_FILE


def _texts_of(task: Task) -> set[tuple[str, ...]]:
    """Texts and pairs of all splits."""
    found: set[tuple[str, ...]] = set()
    for table in task.splits.values():
        names = ["sentence1", "sentence2"]
        if table["sentence2"].null_count == table.num_rows:
            names.pop()
        found.update(zip(*(table[name].to_pylist() for name in names), strict=True))
    return found


def _candidates(
    predicted: Path, config: PredictConfig, known: Collection[tuple[str, ...]]
) -> tuple[_Candidates, int]:
    """Different texts that are not known, those with the longest gradients; and their number."""
    seen, kept, num_texts = set(known), None, 0
    for batch in _batches(predicted, config):
        # Null is predicted as an empty text, and the task reads no null.
        cells = ([text or "" for text in batch[name].to_pylist()] for name in config.text_columns)
        texts = list(zip(*cells, strict=True))
        predictions = batch[config.prediction].to_pylist()
        new = []
        for place, text in enumerate(texts):
            if predictions[place] is not None and text not in seen:
                seen.add(text)
                new.append(place)
        if not new:
            continue
        num_texts += len(new)
        rows = batch.take(new).combine_chunks()
        shares = rows[config.probabilities].combine_chunks()
        found = _Candidates(
            [texts[place] for place in new],
            [predictions[place] for place in new],
            np.stack([field.to_numpy() for field in shares.flatten()], axis=1),
            np.stack(rows[config.embedding].to_numpy()),
        )
        kept = found if kept is None else _joined(kept, found)
        if len(kept.texts) > 2 * MAX_CANDIDATES:
            kept = _longest(kept)
    if kept is None:
        empty = np.empty((0, 1), np.float32)
        return _Candidates([], [], empty, empty), 0
    return _longest(kept), num_texts


def _batches(predicted: Path, config: PredictConfig) -> Iterator[pa.Table]:
    names = [*config.text_columns, config.prediction, config.probabilities, config.embedding]
    for path in sorted(predicted.glob("part-*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(8192, columns=names):
                yield pa.Table.from_batches([batch])


def _joined(first: _Candidates, second: _Candidates) -> _Candidates:
    return _Candidates(
        first.texts + second.texts,
        first.predictions + second.predictions,
        np.concatenate([first.probabilities, second.probabilities]),
        np.concatenate([first.embeddings, second.embeddings]),
    )


def _longest(candidates: _Candidates) -> _Candidates:
    """The candidates with the longest gradients, in their order."""
    if len(candidates.texts) <= MAX_CANDIDATES:
        return candidates
    lengths = squared_lengths(candidates.probabilities, candidates.embeddings)
    places = np.sort(np.argsort(-lengths, kind="stable")[:MAX_CANDIDATES])
    return candidates.take(places.tolist())


def _write(out: Path, chosen: _Candidates, columns: Sequence[str], label_column: str) -> None:
    shares = chosen.probabilities.max(axis=1).tolist()
    rows: list[dict[str, Any]] = [
        # The task's columns come last: they may have the names of the others.
        dict.fromkeys((*columns, label_column))
        | {"prediction": prediction, "probability": round(share, 4)}
        | dict(zip(columns, texts, strict=True))
        | {label_column: None}
        for texts, prediction, share in zip(chosen.texts, chosen.predictions, shares, strict=True)
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        if out.suffix == ".jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
