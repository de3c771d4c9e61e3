"""Numbers of epochs, chosen by the mean learning curve over folds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

from raykd import progress
from raykd.report.crossval.facts import EpochChoice, EpochPoint
from raykd.training.phase.job import PhaseJob
from raykd.workflow.collect import curve_points
from raykd.workflow.crossval.folds import Crossval
from raykd.workflow.reproduce.shared_outputs import take_over
from raykd.workflow.run import Run, student_name
from raykd.workflow.stage_times import timed
from raykd.workflow.training_stages import adapt_job, cache_outputs, teacher_job, train

# Names of the two rounds of trainings that epochs are chosen by.
TEACHER_ROUND, STUDENT_ROUND = "choose epochs: teacher", "choose epochs: students"
# Means that differ by less are equal up to rounding.
_DECIMALS = 12

# Score by epoch.
EpochScores = Mapping[int, float]


@dataclass(frozen=True)
class Choice:
    """A number of epochs for the training on all rows, and for the models of each fold.

    Attributes:
        best: epoch with the best mean over all folds.
        curves: mean over seeds of each fold's scores.
    """

    num_epochs: int
    best: int
    chosen: int
    by_fold: Mapping[int, int]
    curves: Mapping[int, EpochScores]

    def facts(self, variant: str, init: str | None) -> EpochChoice:
        """Return what the report shows of it."""
        epochs = sorted(mean_curve(self.curves.values()))
        scores = [[curve[epoch] for curve in self.curves.values()] for epoch in epochs]
        return EpochChoice(
            variant=variant,
            init=init,
            num_epochs=self.num_epochs,
            best=self.best,
            chosen=self.chosen,
            by_fold=[self.by_fold[fold] for fold in sorted(self.by_fold)],
            points=[
                EpochPoint(epoch=epoch, mean=fmean(values), deviation=stdev(values))
                for epoch, values in zip(epochs, scores, strict=True)
            ],
        )


def mean_curve(curves: Iterable[EpochScores]) -> dict[int, float]:
    """Mean of several curves at the epochs that all of them have."""
    known = list(curves)
    epochs = set(known[0]).intersection(*known[1:])
    return {epoch: fmean(curve[epoch] for curve in known) for epoch in sorted(epochs)}


def best_epoch(curve: EpochScores) -> int:
    """The first epoch with the highest score."""
    return max(curve, key=lambda epoch: (round(curve[epoch], _DECIMALS), -epoch))


def clear_epoch(curves: Sequence[EpochScores]) -> int:
    """The best epoch of the mean curve, if it is clearly better than the last one; else the last.

    Clearly: by more than one standard error of the difference, paired over folds. On few rows the
    highest point of a curve is often chance, and training for fewer epochs needs a reason. One
    fold alone has no standard error.

    Args:
        curves: one per fold.

    Source: the one-standard-error rule; Breiman, Friedman, Olshen and Stone 1984, "Classification
    and Regression Trees", section 3.4.3, doi:10.1201/9781315139470.
    """
    mean = mean_curve(curves)
    best, last = best_epoch(mean), max(mean)
    if len(curves) < 2:
        return best
    gains = [curve[best] - curve[last] for curve in curves]
    error = stdev(gains) / math.sqrt(len(gains))
    return best if fmean(gains) > error + 10.0**-_DECIMALS else last


def choose(curves: Mapping[int, Sequence[EpochScores]], num_epochs: int) -> Choice:
    """Choose a number of epochs by the mean scores over folds, see `clear_epoch`.

    The number for the models that a fold scores is chosen on the other folds, so that no held-out
    row has a part in the choice of a model that predicts it.

    Args:
        curves: curves of each fold, one per seed.
        num_epochs: epochs of the schedule.
    """
    means = {fold: mean_curve(own) for fold, own in curves.items()}
    by_fold = {
        fold: clear_epoch([curve for other, curve in means.items() if other != fold])
        for fold in means
    }
    every = list(means.values())
    return Choice(num_epochs, best_epoch(mean_curve(every)), clear_epoch(every), by_fold, means)


def choose_teacher_epochs(crossval: Crossval, runs: Mapping[int, Run]) -> Choice:
    """Train the teachers of all folds for all epochs, and choose the number of epochs."""
    jobs: dict[tuple[int, int | None], PhaseJob] = {
        (number, None): _choice_job(teacher_job(run), run, number, crossval)
        for number, run in runs.items()
    }
    _train(crossval, TEACHER_ROUND, list(jobs.values()), only_model=True)
    return _chosen(jobs, "teacher", crossval)


def choose_student_epochs(
    crossval: Crossval, runs: Mapping[int, Run]
) -> dict[tuple[str, str], Choice]:
    """Train the students of all folds for all epochs, and choose the number of epochs of each.

    Returns:
        Choice by variant and init; those that are not adapted, or whose section keeps the last
        state, have none.
    """
    whole = crossval.whole_run
    jobs: dict[tuple[str, str], dict[tuple[int, int | None], PhaseJob]] = {}
    for number, run in runs.items():
        cache_outputs(run, (), train=True)
        for variant, init, seed in whole.students():
            if not whole.recipe.adapts(variant):
                continue
            if crossval.chooses("alone" if variant == "alone" else "adaptation"):
                job = adapt_job(run, variant, init, seed)
                own = jobs.setdefault((variant, init), {})
                own[number, seed] = _choice_job(job, run, number, crossval)
    _train(crossval, STUDENT_ROUND, [job for own in jobs.values() for job in own.values()])
    return {
        (variant, init): _chosen(own, f"{variant}, init {init}", crossval)
        for (variant, init), own in jobs.items()
    }


def with_choice(run: Run, name: str, num_epochs: int, choice: Choice) -> Run:
    """The run with a chosen number of epochs of a training.

    Args:
        run: run of a fold, or on all rows.
        name: `teacher`, or a student's `run.student_name`.
        num_epochs: the number chosen for this run.
        choice: the choice it is from.
    """
    if num_epochs == choice.num_epochs:
        return run  # the training ends with its schedule
    return replace(run, stop_after={**run.stop_after, name: num_epochs})


def take_over_choices(crossval: Crossval, runs: Mapping[int, Run]) -> None:
    """Link the trainings that epochs were chosen by to the folds: some have the chosen number."""
    for number, run in runs.items():
        take_over([(crossval.choices_of(number), run.recipe)], run.out, run.recipe)


def name_of(variant: str, init: str | None) -> str:
    """Name of a training in `Run.stop_after`."""
    return variant if init is None else student_name(variant, init)


def _choice_job(job: PhaseJob, run: Run, number: int, crossval: Crossval) -> PhaseJob:
    """The job in the folder of choices, scored after every epoch."""
    return replace(
        job,
        name=f"fold {number}: {job.name}",
        out=crossval.choices_of(number) / job.out.relative_to(run.out),
        num_scores=job.num_epochs(),
    )


def _train(
    crossval: Crossval, name: str, jobs: Sequence[PhaseJob], *, only_model: bool = False
) -> None:
    patterns = ("choices/*/teacher/manifest.json", "choices/*/students/*/adapted/manifest.json")
    with timed(crossval.out, name, patterns):
        train(crossval.whole_run, jobs, "choose epochs", only_model=only_model)


def _chosen(
    jobs: Mapping[tuple[int, int | None], PhaseJob], name: str, crossval: Crossval
) -> Choice:
    metric = crossval.recipe.task.reported_metrics[0]
    curves: dict[int, list[EpochScores]] = {}
    for (number, _), job in jobs.items():
        curves.setdefault(number, []).append(epoch_scores(job.out, metric))
    num_epochs = next(iter(jobs.values())).num_epochs()
    choice = choose(curves, num_epochs)
    mean = mean_curve(choice.curves.values())[choice.chosen]
    progress.say(
        f"  {name}: {choice.chosen} of {num_epochs} epochs, {metric} {mean:.3f} (mean of "
        f"{len(choice.curves)} folds)"
    )
    return choice


def epoch_scores(training: Path, metric: str) -> dict[int, float]:
    """Scores after whole epochs of a completed training."""
    return {
        int(point.epoch): point.metrics[metric]
        for point in curve_points(training)
        if point.metrics and point.epoch == int(point.epoch)
    }
