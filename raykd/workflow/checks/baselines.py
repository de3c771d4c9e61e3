"""Baselines of a run: their jobs, and what they need before work starts."""

from dataclasses import replace

from raykd.evaluation.baselines import Baseline
from raykd.evaluation.baselines.pipeline import BaselineJob
from raykd.evaluation.baselines.setfit import check_setfit_installed
from raykd.evaluation.baselines.static import check_static_installed
from raykd.models.onnx.export import check_onnx_installed
from raykd.models.resolve import digest_of_model
from raykd.models.tokenization.positions import num_positions
from raykd.storage.manifest import digest_of_directory
from raykd.workflow.evaluation_sets import baseline_sets
from raykd.workflow.recipe.model_rules import baseline_model
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.run import Run
from raykd.workflow.scoring.jobs import evaluation_job


def check_baseline_packages(recipe: Recipe) -> None:
    """Check that the packages of the baselines are installed.

    Raises:
        InputError: names the package and the extra that has it.
    """
    if "static" in recipe.baselines:
        check_static_installed()
    if "setfit" in recipe.baselines:
        check_setfit_installed()
    if "int8_teacher" in recipe.baselines:
        check_onnx_installed("variants: 'int8_teacher'")


def baseline_job(run: Run, name: Baseline) -> BaselineJob:
    """Predictions of a baseline on the task and on all evaluation sets."""
    job = BaselineJob(
        name=name,
        task=run.task_folder,
        out=run.predictions(run.out / name),
        sets=baseline_sets(run, name),
        cost=run.baseline_cost(name),
        made=run.out / name,
    )
    if name == "tfidf":
        return job
    if name == "int8_teacher":
        teacher = evaluation_job(run, "teacher", "teacher", run.teacher)
        return replace(
            job,
            model=str(teacher.model),
            model_digest=digest_of_directory(run.teacher),
            max_length=teacher.max_length,
        )
    model = baseline_model(run.recipe.teacher, run.recipe.student)
    assert model is not None, "checked by the recipe"
    length = run.recipe.adaptation.max_length
    max_length = min(length, num_positions(model) or length)
    return replace(job, model=model, model_digest=digest_of_model(model), max_length=max_length)
