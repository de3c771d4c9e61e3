"""A run's evaluation sets: read and checked with the task, scored with its models."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from raykd import progress
from raykd.evaluation.config import EvaluationSetConfig
from raykd.evaluation.pipeline import EvaluationJob
from raykd.evaluation.sets.examples import read_set, write_set
from raykd.evaluation.sets.pipeline import (
    SetJob,
    constant_set_scores,
    predict_sets,
    set_scores,
)
from raykd.report.results import SetFacts
from raykd.tasks.class_counts import content_of, limits_of
from raykd.tasks.overlap import overlap_of, rows_in
from raykd.tasks.task import Task
from raykd.training.distributed.placement import uses_gpu
from raykd.workflow.run import Run

# Metrics by evaluation set.
SetScores = Mapping[str, dict[str, float]]


def load_sets(run: Run) -> None:
    """Read and check all evaluation sets, after the task; write their examples, and print them.

    Raises:
        InputError: see `write_set`.
    """
    task = run.task()
    for one in run.recipe.evaluation.sets:
        folder = run.evaluation_set(one.name)
        write_set(one, run.recipe.task, task.labels, run.resolve, folder)
        facts = _facts(run, one, task)
        progress.say(f"  {facts.name:6} {facts.num_rows:,} rows: {facts.content}")
        for remark in facts.remarks:
            progress.say(f"  {facts.name}: {remark}")


def facts_of_sets(run: Run) -> list[SetFacts]:
    """Facts about the sets for the report."""
    task = run.task()
    return [_facts(run, one, task) for one in run.recipe.evaluation.sets]


def score_models_on_sets(run: Run, jobs: Sequence[EvaluationJob]) -> list[SetScores]:
    """Score models on every set; write missing predictions.

    Args:
        run: completed up to the models.
        jobs: the models, as they are evaluated on the task.
    """
    jobs_of_sets = {
        one.name: [_job(run, one, job) for job in jobs] for one in run.recipe.evaluation.sets
    }
    predict_sets(
        [job for of_set in jobs_of_sets.values() for job in of_set],
        use_gpu=uses_gpu(run.recipe.workers),
    )
    return [
        {
            one.name: set_scores(jobs_of_sets[one.name][number].out, metrics)
            for one, metrics in _with_metrics(run)
        }
        for number in range(len(jobs))
    ]


def score_constant_on_sets(run: Run) -> SetScores:
    """Score the best constant answer on every set."""
    return {
        one.name: constant_set_scores(run.task_folder, run.evaluation_set(one.name), metrics)
        for one, metrics in _with_metrics(run)
    }


def baseline_sets(run: Run, name: str) -> tuple[tuple[Path, Path], ...]:
    """Folder of each evaluation set, and of a baseline's predictions on it."""
    return tuple(
        (run.evaluation_set(one.name), run.predictions(run.out / name, one.name))
        for one in run.recipe.evaluation.sets
    )


def baseline_set_scores(run: Run, name: str) -> SetScores:
    """Score the predictions of a baseline on every set."""
    return {
        one.name: set_scores(run.predictions(run.out / name, one.name), metrics)
        for one, metrics in _with_metrics(run)
    }


def _job(run: Run, one: EvaluationSetConfig, job: EvaluationJob) -> SetJob:
    out = run.predictions(job.model.parent, one.name)
    return SetJob(model=job, folder=run.evaluation_set(one.name), out=out)


def _with_metrics(run: Run) -> Iterator[tuple[EvaluationSetConfig, tuple[str, ...]]]:
    for one in run.recipe.evaluation.sets:
        yield one, one.reported_metrics(run.recipe.task)


def _facts(run: Run, config: EvaluationSetConfig, task: Task) -> SetFacts:
    rows = read_set(run.evaluation_set(config.name))
    labels, targets = rows.classes
    metrics = config.reported_metrics(run.recipe.task)
    return SetFacts(
        name=config.name,
        source=rows.source,
        labels=list(labels),
        label_map={
            name: labels[target]
            for name, target in zip(task.labels, targets, strict=True)
            if config.label_map is not None
        },
        metrics=list(metrics),
        num_rows=rows.table.num_rows,
        content=content_of(rows.table, labels),
        num_in_train=len(rows_in(rows.table, task.train)),
        remarks=[
            *rows.remarks,
            *limits_of(rows.table, labels, metrics),
            *overlap_of(rows.table, task.train),
        ],
    )
