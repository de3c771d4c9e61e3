"""Repetition of the best trials with new seeds."""

import statistics
from collections.abc import Sequence

from raykd import progress
from raykd.evaluation.predict import Scorer
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.report.tune.trials import Trial, rank
from raykd.training.phase.job import MODEL_FOLDER
from raykd.workflow.tune.choice.confirmation import Confirmation, choose
from raykd.workflow.tune.choice.rows import held_out_rows
from raykd.workflow.tune.choice.training import (
    ChosenStudent,
    final_scores,
    train_students,
    workers_like_trials,
)
from raykd.workflow.tune.resources import trial_resources
from raykd.workflow.tune.trial.setting import Setting

REPEATED_FOLDER = "confirm"


def confirm(setting: Setting, trials: Sequence[Trial]) -> Confirmation | None:
    """Train the best complete trials with new seeds, and choose the winner by the means.

    Complete trainings are skipped, so an interrupted call resumes. Returns None if the recipe does
    not ask for it, or no trial was trained to its end.
    """
    recipe = setting.run.recipe
    assert recipe.tune is not None
    config = recipe.tune.confirm
    chosen = [trial for trial in rank(trials) if trial.whole]
    if config is None or not chosen:
        return None
    chosen = chosen[: config.top]
    seeds = [setting.seed + 1 + number for number in range(config.seeds)]
    progress.say(f"tune: training the {len(chosen)} best trials with {len(seeds)} new seeds")
    students = {
        (trial.number, seed): repeated_student(setting, trial, seed)
        for trial in chosen
        for seed in seeds
    }
    resources = trial_resources(recipe)
    workers = workers_like_trials(
        setting, resources.num_workers, resources.num_cpus, resources.num_gpus
    )
    workers = workers.model_copy(update={"models_at_once": resources.num_at_once or len(students)})
    train_students(setting, list(students.values()), workers, "confirm")
    scores = {
        trial.number: [
            final_scores(setting, students[trial.number, seed])[setting.metric] for seed in seeds
        ]
        for trial in chosen
    }
    repeated = choose(chosen, scores)
    winner = repeated[0]
    held_out = [
        _held_out_score(setting, students[winner.number, seed])
        for seed in seeds
        if config.held_out > 0
    ]
    return Confirmation(
        winner=winner.number,
        seeds=seeds,
        repeated=repeated,
        seed_bias=winner.search_score - winner.mean,
        held_out_scores=held_out,
        row_bias=winner.mean - statistics.fmean(held_out) if held_out else None,
    )


def repeated_student(setting: Setting, trial: Trial, seed: int) -> ChosenStudent:
    """The student of a trial with another seed."""
    folder = setting.folder / REPEATED_FOLDER / f"trial-{trial.number}" / f"seed-{seed}"
    return ChosenStudent(trial.values, seed, folder)


def _held_out_score(setting: Setting, student: ChosenStudent) -> float:
    model = str(student.trained / MODEL_FOLDER)
    recipe = setting.run.recipe.with_values(student.values, "student")
    scorer = Scorer(
        held_out_rows(setting),
        setting.run.task().metrics,
        max_length=recipe.adaptation.max_length,
    )
    return scorer(load_encoder(model), load_tokenizer(model))[setting.metric]
