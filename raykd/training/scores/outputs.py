"""A teacher's outputs on the rows of a task, from files of its scores, or of an ensemble's.

For every split of which all rows have scores, `SPLIT/logits.npy` is as the cache of teacher outputs
has it (`teacher_cache`). The training rows must have them; other splits may.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import softmax

from raykd.errors import InputError
from raykd.storage.delimited import Layout
from raykd.storage.formats import source_digest
from raykd.storage.locations import Location, shown
from raykd.storage.manifest import Draft, Manifest, digest_of, digest_of_directory, write_once
from raykd.storage.tables import read_table
from raykd.tasks.config import TaskConfig
from raykd.tasks.labels.cells import key_of
from raykd.tasks.labels.rules import located
from raykd.tasks.store import read_task
from raykd.tasks.task import Task
from raykd.training.scores.config import ScoresConfig
from raykd.training.scores.table import Key, ScoreTable, TableReader, files_of, shown_key
from raykd.training.scores.values import (
    check_not_probabilities,
    check_probabilities,
    logits_of,
    rows_by_key,
)
from raykd.training.teacher_cache import LOGITS, read_outputs

_STAGE = "teacher"


@dataclass(frozen=True)
class Member:
    """A teacher: settings of its scores, their files or directories, and its weight in the mean."""

    config: ScoresConfig
    paths: Sequence[Location]
    weight: float = 1.0

    def files(self) -> list[Location]:
        """Files of the scores."""
        return [file for path in self.paths for file in files_of(path)]


@dataclass(frozen=True)
class _Scores:
    """Checked scores of a member, the first row of each key, and the rows that are used."""

    member: Member
    table: ScoreTable
    firsts: dict[Key, int]
    used: set[int]


@dataclass(frozen=True)
class ScoresJob:
    """Outputs of a teacher that is known by its scores; they are written to `out`.

    Attributes:
        members: the teacher, or those of an ensemble.
        order: classes in the order of lists; None if it is not given.
        task: settings of the task.
        task_folder: the task's examples.
        resolve: function from a path or URL in the recipe to a file's location.
        out: directory to write.
    """

    members: Sequence[Member]
    order: tuple[str, ...] | None
    task: TaskConfig
    task_folder: Path
    resolve: Callable[[str], Location]
    out: Path

    def run(self) -> Manifest:
        """Read, check and match the scores, unless the outputs are complete.

        Raises:
            InputError: a file, a row or a score is invalid, or training rows have no scores.
        """
        digests = [[source_digest(file) for file in member.files()] for member in self.members]
        inputs = {"scores": digest_of(digests), "task": digest_of_directory(self.task_folder)}
        if any(member.config.id_column is not None for member in self.members):
            inputs["ids"] = digest_of([source_digest(file) for file in self._train_files()])
        settings: dict[str, Any] = {
            "members": [
                [member.config.model_dump(mode="json", exclude={"paths"}), member.weight]
                for member in self.members
            ],
            "order": self.order,
            "sentence_columns": self.task.sentence_candidates(),
        }
        return write_once(self.out, _STAGE, settings, inputs, self._write)

    def _write(self, draft: Draft) -> None:
        task = read_task(self.task_folder)
        self._check_order(task)
        members = [self._read(member, task) for member in self.members]
        for split, examples in task.splits.items():
            places = [self._places(scores, split, examples) for scores in members]
            found = [place for place in places if place is not None]
            if len(found) < len(places):
                continue
            has_all = [None not in row for row in zip(*found, strict=True)]
            draft.counts[f"num_{split}_rows"] = sum(has_all)
            if all(has_all):
                (draft.directory / split).mkdir()
                logits = _combined(members, found, regression=task.regression)
                np.save(draft.directory / split / f"{LOGITS}.npy", logits.astype(np.float32))
        draft.counts["num_rows"] = sum(len(scores.table.keys) for scores in members)
        draft.counts["num_unused_rows"] = sum(
            scores.firsts[key] not in scores.used for scores in members for key in scores.table.keys
        )

    def _read(self, member: Member, task: Task) -> _Scores:
        candidates = self.task.sentence_candidates()
        table = TableReader(member.config, task.labels, self.order, candidates).read(member.files())
        if not task.regression and member.config.kind == "probabilities":
            check_probabilities(table)
        elif not task.regression:
            check_not_probabilities(table)
        return _Scores(member, table, rows_by_key(table), set())

    def _places(self, scores: _Scores, split: str, examples: pa.Table) -> list[int | None] | None:
        """Row of the scores of each row of a split; None if its rows cannot be matched.

        Raises:
            InputError: training rows have no scores.
        """
        keys = self._keys_of(scores.member.config, split, examples)
        if keys is None:
            return None
        places = [scores.firsts.get(key) for key in keys]
        if split == "train" and None in places:
            raise InputError(_missing_message(scores.table, examples, keys, places))
        scores.used.update(place for place in places if place is not None)
        return places

    def _check_order(self, task: Task) -> None:
        if self.order is None:
            return
        keys, known = ([key_of(name) for name in names] for names in (self.order, task.labels))
        if sorted(keys) != sorted(known):
            raise InputError(
                f"teacher.labels [{', '.join(self.order)}]: the task's classes are "
                f"{', '.join(task.labels) or 'none, it is a regression'}; name each once, in the "
                "order of the lists of scores"
            )

    def _keys_of(self, config: ScoresConfig, split: str, examples: pa.Table) -> list[Key] | None:
        """Key of each row of a split; None if its rows cannot be matched."""
        if config.id_column is None:
            texts = (examples[name].to_pylist() for name in ("sentence1", "sentence2"))
            return list(zip(*texts, strict=True))
        # Ids of other files may be those of training rows, too.
        if split != "train":
            return None
        ids = self._train_ids(config.id_column)
        return [(ids[row], None) for row in examples["row_id"].to_pylist()]

    def _train_files(self) -> list[Location]:
        return [self.resolve(file) for file in self.task.files_of("train")]

    def _train_ids(self, column: str) -> list[str]:
        """Id of each row of the task's training files."""
        ids: list[str] = []
        seen: dict[str, str] = {}
        for path in self._train_files():
            layout = Layout(self.task.columns, self.task.quoting)
            table = read_table(path, [column], id_columns=[column], layout=layout)
            for number, value in enumerate(table[column].to_pylist()):
                place = f"{shown(path)}, {located([number])}"
                name = str(value)
                if not isinstance(value, str | int) or not name.strip():
                    raise InputError(
                        f"{place}: {column!r} is {value!r:.60}; an id is expected, a text or a "
                        "whole number; correct it, or match rows by their text"
                    )
                if name in seen:
                    raise InputError(
                        f"{place}: the id {name!r:.60} is that of {seen[name]}, too; correct one, "
                        "or match rows by their text (remove teacher.scores.id_column)"
                    )
                seen[name] = place
                ids.append(name)
        return ids


def has_outputs(folder: Path, split: str) -> bool:
    """True if all rows of a split have scores."""
    return (folder / split).is_dir()


def outputs_on(folder: Path, split: str) -> NDArray[np.float32]:
    """Logits (N, C) of the rows of a split that has outputs."""
    logits: NDArray[np.float32] = read_outputs(folder / split, LOGITS)
    return logits


def _combined(
    members: Sequence[_Scores], places: Sequence[Sequence[int | None]], *, regression: bool
) -> NDArray[np.float64]:
    """Logits (N, C) of rows, or scores (N, 1): the teacher's own, or those of the weighted mean."""
    kinds = [scores.member.config.kind for scores in members]
    values = [
        scores.table.values[np.array(rows, np.int64)]
        for scores, rows in zip(members, places, strict=True)
    ]
    if len(members) == 1 and (regression or kinds == ["logits"]):
        return values[0]
    if not regression:
        values = [
            softmax(one, axis=1) if kind == "logits" else one
            for one, kind in zip(values, kinds, strict=True)
        ]
    weights = [scores.member.weight for scores in members]
    mean: NDArray[np.float64] = np.average(values, axis=0, weights=weights)
    return mean if regression else logits_of(mean)


def _missing_message(
    table: ScoreTable, examples: pa.Table, keys: Sequence[Key], places: Sequence[int | None]
) -> str:
    missing = [row for row, place in enumerate(places) if place is None]
    key = keys[missing[0]]
    sources = ", ".join(dict.fromkeys(source for source, _ in table.rows))
    row_id = examples["row_id"][missing[0]].as_py()
    message = (
        f"{sources}: {len(missing):,} of the {len(keys):,} training rows have no scores, such as "
        f"{located([row_id])}, {shown_key(key)}"
    )
    alike = {_loose(known): row for row, known in enumerate(table.keys)}
    if (row := alike.get(_loose(key))) is not None:
        message += (
            f"; {table.located(row)} differs from it only in case or white space: texts are "
            "compared character by character"
        )
    return f"{message}; score these rows, too, or remove them from the task's train"


def _loose(key: Key) -> tuple[str, ...]:
    return tuple(" ".join((text or "").casefold().split()) for text in key)
