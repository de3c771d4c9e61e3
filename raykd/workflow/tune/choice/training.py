"""Training of chosen students outside of the search, with the steps of a trial."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raykd.storage.manifest import digest_of_directory, digest_of_file
from raykd.training.distributed.config import WorkersConfig
from raykd.training.logging.metrics_writer import CURVE_FILE
from raykd.training.phase.job import PhaseJob
from raykd.training.pipeline import train_phases
from raykd.workflow.run import Run
from raykd.workflow.training_stages import adapt_job, inject_job
from raykd.workflow.tune.trial.corpora import run_of
from raykd.workflow.tune.trial.events import better
from raykd.workflow.tune.trial.folds import FoldStudents
from raykd.workflow.tune.trial.setting import Setting, fold_folder, scored

STUDENT = "adapted"


@dataclass(frozen=True)
class ChosenStudent:
    """A student to train: its values and seed, and the folder of its trainings.

    With `tune.folds` it is one student per fold, see `trial.setting.fold_folder`.
    """

    values: Mapping[str, Any]
    seed: int
    folder: Path

    @property
    def trained(self) -> Path:
        """Output of its last training."""
        return self.folder / STUDENT


def shared_inputs(setting: Setting) -> dict[str, str]:
    """Digests of everything that trials read."""
    if setting.folds:
        return {
            f"{name} of fold {number}": digest
            for number, part in enumerate(setting.parts, 1)
            for name, digest in shared_inputs(part).items()
        }
    run = setting.run
    inputs = {
        "train": digest_of_file(run.labeled_rows(run.recipe.adaptation_text(setting.variant))),
        "validation": digest_of_file(run.split("dev")),
        "teacher": digest_of_directory(run.teacher),
    }
    for chain in setting.chains:
        text = chain.last.text
        inputs[f"text {text.name}"] = digest_of_file(run.text(text))
    return inputs


def train_students(
    setting: Setting, students: Sequence[ChosenStudent], workers: WorkersConfig, label: str
) -> None:
    """Train students, each with the same functions, rows and resources as a trial.

    Trainings that are complete are skipped, and interrupted ones resume from their checkpoints. An
    injection that all trials shared is not repeated.

    Args:
        setting: values shared by the trials.
        students: students to train.
        workers: resources of each training.
        label: label of the progress bar.
    """
    if not setting.folds:
        _train_all(
            setting,
            [_Training(setting, one.values, one.seed, one.folder, one.trained) for one in students],
            workers,
            label,
        )
        return
    of_folds = [FoldStudents(setting, one.values, one.folder) for one in students]
    _train_all(
        setting,
        [
            _of_fold(setting, student, folds.values, number)
            for student, folds in zip(students, of_folds, strict=True)
            for number in folds.numbers
        ],
        workers,
        label,
    )
    _train_all(
        setting,
        [
            _of_fold(setting, student, folds.values, number, stop_after)
            for student, folds in zip(students, of_folds, strict=True)
            for number, stop_after in folds.stops().items()
        ],
        workers,
        label,
    )


@dataclass(frozen=True)
class _Training:
    """Training of one model: its setting, values and seed, and folders of injections and output."""

    setting: Setting
    values: Mapping[str, Any]
    seed: int
    folder: Path
    out: Path
    stop_after: int | None = None


def _of_fold(
    setting: Setting,
    student: ChosenStudent,
    values: Mapping[str, Any],
    number: int,
    stop_after: int | None = None,
) -> _Training:
    return _Training(
        setting.parts[number - 1],
        values,
        student.seed,
        student.folder / f"injections-{number}",
        fold_folder(student.folder, number, stopped=stop_after is not None),
        stop_after,
    )


def _train_all(
    setting: Setting, trainings: Sequence[_Training], workers: WorkersConfig, label: str
) -> None:
    runs = [run_of(one.setting, one.values, label) for one in trainings]
    injected: list[Path | None] = [None] * len(trainings)
    for chain in setting.chains:
        jobs = []
        for place, (one, run) in enumerate(zip(trainings, runs, strict=True)):
            init = run.recipe.student.inits[0]
            job = inject_job(run, chain, init, one.seed, injected=injected[place])
            if job.finished() is None:
                job = replace(job, out=one.folder / f"injected-{len(chain.steps)}")
            jobs.append(job)
            injected[place] = job.out
        _train(setting, jobs, workers, label)
    _train(
        setting,
        [
            _adaptation(one, run, start)
            for one, run, start in zip(trainings, runs, injected, strict=True)
        ],
        workers,
        label,
    )


def _adaptation(one: _Training, run: Run, injected: Path | None) -> PhaseJob:
    init = run.recipe.student.inits[0]
    job = adapt_job(run, one.setting.variant, init, one.seed, injected=injected)
    # As in a trial: it is scored as often, and the best state kept if the recipe says so.
    return replace(scored(job, run.recipe), out=one.out, stop_after=one.stop_after)


def _train(setting: Setting, jobs: Sequence[PhaseJob], workers: WorkersConfig, label: str) -> None:
    for job in jobs:
        job.out.parent.mkdir(parents=True, exist_ok=True)
    train_phases(jobs, workers, label=label, storage=setting.folder / "ray_train")


def workers_like_trials(
    setting: Setting, num_workers: int, num_cpus: float, num_gpus: float
) -> WorkersConfig:
    """Resources of a training that are those of a trial.

    The numbers of workers and threads affect rounding.
    """
    return setting.run.recipe.workers.model_copy(
        update={
            "num_workers": num_workers,
            "cpus_per_worker": num_cpus / num_workers,
            "use_gpu": num_gpus > 0,
            "engine": "auto",
        }
    )


def final_scores(setting: Setting, student: ChosenStudent) -> dict[str, float]:
    """Scores of a trained student, chosen among its epochs as those of a trial."""
    if setting.folds:
        scores = FoldStudents(setting, student.values, student.folder).scores()
        return {name: score for name, score in scores.items() if math.isfinite(score)}
    recipe = setting.run.recipe.with_values(student.values, "student")
    scores = {}
    for line in (student.trained / CURVE_FILE).read_text(encoding="utf-8").splitlines():
        record: dict[str, float] = json.loads(line)["scores"]
        if not record:
            continue
        is_best = recipe.adaptation.keep == "best"
        scores = better(scores, record, setting.main_metric) if is_best else record
    return {name: score for name, score in scores.items() if math.isfinite(score)}
