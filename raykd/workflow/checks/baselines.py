"""Linear baselines of a run: their jobs, and what they need before work starts."""

from dataclasses import replace

from raykd.evaluation.baselines import LinearBaseline
from raykd.evaluation.baselines.pipeline import BaselineJob
from raykd.evaluation.baselines.static import check_static_installed
from raykd.models.resolve import digest_of_model
from raykd.models.tokenization.positions import num_positions
from raykd.workflow.evaluation_sets import baseline_sets
from raykd.workflow.recipe.model_rules import baseline_model
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.run import Run


def check_baseline_packages(recipe: Recipe) -> None:
    """Check that the packages of the baselines are installed.

    Raises:
        InputError: names the package and the extra that has it.
    """
    if "static" in recipe.linear_baselines:
        check_static_installed()


def baseline_job(run: Run, name: LinearBaseline) -> BaselineJob:
    """Predictions of a linear baseline on the task and on all evaluation sets."""
    job = BaselineJob(
        name=name,
        task=run.task_folder,
        out=run.predictions(run.out / name),
        sets=baseline_sets(run, name),
        static=run.out / "static",
    )
    if name == "tfidf":
        return job
    model = baseline_model(run.recipe.teacher, run.recipe.student)
    assert model is not None, "checked by the recipe"
    length = run.recipe.adaptation.max_length
    max_length = min(length, num_positions(model) or length)
    return replace(job, model=model, model_digest=digest_of_model(model), max_length=max_length)
