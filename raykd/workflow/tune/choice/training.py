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
from raykd.training.phases import PhaseJob
from raykd.training.pipeline import train_phases
from raykd.workflow.run import Run
from raykd.workflow.training_stages import adapt_job, inject_job
from raykd.workflow.tune.trial.corpora import run_of
from raykd.workflow.tune.trial.events import better
from raykd.workflow.tune.trial.setting import Setting, scored

STUDENT = "adapted"


@dataclass(frozen=True)
class ChosenStudent:
    """A student to train: its values and seed, and the folder of its trainings."""

    values: Mapping[str, Any]
    seed: int
    folder: Path

    @property
    def trained(self) -> Path:
        """Output of its last training."""
        return self.folder / STUDENT


def shared_inputs(setting: Setting) -> dict[str, str]:
    """Digests of everything that trials read."""
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
    runs = [run_of(setting, student.values, label) for student in students]
    injected: list[Path | None] = [None] * len(students)
    for chain in setting.chains:
        jobs = []
        for place, (student, run) in enumerate(zip(students, runs, strict=True)):
            init = run.recipe.student.inits[0]
            job = inject_job(run, chain, init, student.seed, injected=injected[place])
            if job.finished() is None:
                job = replace(job, out=student.folder / f"injected-{len(chain.steps)}")
            jobs.append(job)
            injected[place] = job.out
        _train(setting, jobs, workers, label)
    _train(
        setting,
        [
            _adaptation(setting, run, student, start)
            for student, run, start in zip(students, runs, injected, strict=True)
        ],
        workers,
        label,
    )


def _adaptation(
    setting: Setting, run: Run, student: ChosenStudent, injected: Path | None
) -> PhaseJob:
    init = run.recipe.student.inits[0]
    job = adapt_job(run, setting.variant, init, student.seed, injected=injected)
    # As in a trial: it is scored as often, and the best state kept if the recipe says so.
    return replace(scored(job, run.recipe), out=student.trained)


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
    recipe = setting.run.recipe.with_values(student.values, "student")
    scores: dict[str, float] = {}
    for line in (student.trained / CURVE_FILE).read_text(encoding="utf-8").splitlines():
        record: dict[str, float] = json.loads(line)["scores"]
        if not record:
            continue
        is_best = recipe.adaptation.keep == "best"
        scores = better(scores, record, setting.main_metric) if is_best else record
    return {name: score for name, score in scores.items() if math.isfinite(score)}
