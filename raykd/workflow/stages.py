"""Stages of a run, in order.

Only the files of stages (`corpus_stages`, `training_stages` and this one) know the whole recipe and
the layout of the run directory; a stage's code gets paths and its own settings.
"""

import time
from collections.abc import Callable, Sequence

from raykd import progress
from raykd.cluster import metrics
from raykd.config import dump_yaml
from raykd.report.page import render
from raykd.storage.manifest import check_replaceable, make_output_directory
from raykd.storage.outputs import alone_in
from raykd.storage.schemas import PLAN_FILE
from raykd.storage.working_files import write_if_new
from raykd.workflow.checks.preflight import check_classes, check_models, search_embedder
from raykd.workflow.checks.teacher_check import check_teacher
from raykd.workflow.collect import (
    analyze_students,
    collect,
    measure_models,
    score_models,
)
from raykd.workflow.comparisons import compare_scores
from raykd.workflow.corpus_stages import (
    corpora_of,
    ingest,
    load_task,
    make_docstrings,
    make_training_texts,
    retrieve,
    searched_corpora_of,
)
from raykd.workflow.generators import generating_phases, train_generators
from raykd.workflow.planned_outputs import plan_text
from raykd.workflow.run import Run
from raykd.workflow.scoring.calibration import (
    calibrate_student,
    chosen_student,
    describe_calibration,
)
from raykd.workflow.scoring.student import write_student
from raykd.workflow.teacher.scores import read_scores
from raykd.workflow.training_stages import adapt, inject, train_teacher


def evaluate(run: Run) -> None:
    """evaluate: score models, compare them, calibrate the student, and measure costs."""
    main = run.task().main_metric
    scores = score_models(run)
    for score in scores:
        who = score.variant
        if score.init is not None:
            when = "before adaptation" if score.stage == "injected" else "final"
            who = f"{score.variant}, init {score.init}, seed {score.seed}, {when}"
        answer = score.constant_answer
        same = "" if answer is None else f"  (answers {answer} for every row)"
        on_sets = [
            f"{next(iter(metrics.values())):.3f} {next(iter(metrics))} on {name}"
            for name, metrics in score.sets.items()
        ]
        more = f"  ({', '.join(on_sets)})" if on_sets else ""
        progress.say(f"  {score.metrics[main]:.3f} {main}  {who}{same}{more}")
    analyze_students(run)
    compare_scores(run, scores)
    if (calibration := calibrate_student(run)) is not None:
        progress.say(f"  {describe_calibration(calibration.facts)}")
    printed = set()
    for model in measure_models(run):
        if model.cost and model.cost not in printed:
            printed.add(model.cost)
            size = f"{model.num_parameters / 1e6:.2f} M parameters"
            progress.say(f"  {model.cost.latency_ms:.2f} ms per row, {size}  {model.variant}")


def report(run: Run) -> None:
    """report: results.json, report.html, and the student of the first seed with its card."""
    calibration = calibrate_student(run)
    results = collect(run, None if calibration is None else calibration.facts)
    write_if_new(run.out / "results.json", results.model_dump_json(indent=2) + "\n")
    write_if_new(run.out / "report.html", render(results))
    model = run.adapted(*chosen_student(run))
    write_student(run, results, model, calibration, run.out / "student")
    progress.say(f"  {run.out / 'report.html'}")


STAGES: dict[str, Callable[[Run], None]] = {
    "docstrings": make_docstrings,
    "task": load_task,
    "ingest": ingest,
    "retrieve": retrieve,
    "contextualize": make_training_texts,
    "generator": train_generators,
    "teacher": train_teacher,
    "inject": inject,
    "adapt": adapt,
    "evaluate": evaluate,
    "report": report,
}


def run_stages(
    run: Run, last: str, *, first: str = "docstrings", checks_models: bool = True
) -> None:
    """Run the stages from `first` to `last`; completed stages are skipped.

    Another process that makes the same run is waited for.

    Args:
        run: the run.
        last: last stage.
        first: first stage; those before it are complete.
        checks_models: whether to check and describe the models; not needed if those of another
            run, with the same models, were checked.

    Raises:
        InputError: the run directory is invalid, or contains a user's file where a stage writes;
            or any error of a stage.
    """
    make_output_directory(run.out)
    names = list(STAGES)
    names = names[names.index(first) : names.index(last) + 1]
    with alone_in(run.out):
        _check_and_run(run, names, checks_models)


def _check_and_run(run: Run, names: Sequence[str], checks_models: bool) -> None:
    for folder in run.replaced_folders():
        check_replaceable(folder)
    needs_models = not {"generator", "teacher"}.isdisjoint(names)
    if "retrieve" in names:
        search_embedder(run)
    if needs_models and checks_models:
        for line in check_models(run):
            progress.say(line)
    write_if_new(run.out / "recipe.yaml", dump_yaml(run.recipe))
    write_if_new(run.out / PLAN_FILE, plan_text(run))
    _run_each(run, names)


def make_texts(run: Run) -> None:
    """Run the stages `retrieve` and `contextualize` only, whose outputs are in `run.corpora`.

    Raises:
        InputError: any error of a stage.
    """
    _run_each(run, ["retrieve", "contextualize"])


def _run_each(run: Run, names: Sequence[str]) -> None:
    needs_models = not {"generator", "teacher"}.isdisjoint(names)
    for name in names:
        if _is_unused(run, name):
            continue
        started = time.monotonic()
        with progress.labeled(run=run.recipe.name, stage=name), run.timed(name):
            STAGES[name](run)
            if name == "task" and needs_models:
                check_classes(run)
                read_scores(run)
            if name == "teacher" and run.has_dev:
                check_teacher(run)
            seconds = time.monotonic() - started
            metrics.record("raykd_stage_seconds_total", seconds)
            progress.say(f"{name:14} {seconds:6.1f} s")


def _is_unused(run: Run, name: str) -> bool:
    """Return True for stages of recipe sections that this recipe does not have."""
    recipe = run.recipe
    if name == "docstrings":
        return recipe.docstrings is None
    if name == "ingest":
        return not corpora_of(run)
    if name == "retrieve":
        return recipe.retrieval is None or not searched_corpora_of(run)
    if name == "contextualize":
        return not recipe.corpus_texts and recipe.adaptation.rows != "task_da"
    if name == "inject":
        return not list(run.injections())
    return name == "generator" and not generating_phases(recipe)
