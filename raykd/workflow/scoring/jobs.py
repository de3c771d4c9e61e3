"""Evaluations of a run's models: their inputs, lengths and predictions."""

from dataclasses import replace
from pathlib import Path

from raykd.evaluation.pipeline import PREDICTIONS_FILE, EvaluationJob, evaluate
from raykd.report.results import ScoreStage
from raykd.storage.manifest import digest_of_directory
from raykd.training.distributed.placement import uses_gpu
from raykd.training.phase.job import MODEL_FOLDER
from raykd.training.settings import TrainingConfig
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.run import Run


def evaluation_job(run: Run, variant: str, stage: ScoreStage, folder: Path) -> EvaluationJob:
    """Evaluation of a model, or of a teacher's given scores, on the report split."""
    is_given = stage == "teacher" and bool(run.recipe.teacher.members)
    return EvaluationJob(
        given=folder if is_given else None,
        model=folder / MODEL_FOLDER,
        out=run.predictions(folder),
        max_length=max_length_of(run.recipe, variant, stage),
        inputs={
            "model": digest_of_directory(folder),
            "task": digest_of_directory(run.task_folder),
        },
    )


def max_length_of(recipe: Recipe, variant: str, stage: ScoreStage) -> int:
    """Return the maximum tokens per row, as in the model's training."""
    phase: TrainingConfig | None = recipe.adaptation
    if stage == "teacher":
        phase = recipe.teacher
    elif stage == "injected":
        chain = recipe.chain_of(variant)
        phase = None if chain is None else recipe.injection_of(chain.last)
    elif variant == "alone":
        phase = recipe.alone or recipe.adaptation
    assert phase is not None
    return phase.max_length


def predictions_on_dev(run: Run, variant: str, stage: ScoreStage, folder: Path) -> Path:
    """Write a model's predictions on dev, unless they exist; return their file."""
    job = evaluation_job(run, variant, stage, folder)
    if run.task().report_split != "dev":
        out = job.out.with_name(f"{job.out.name}-dev")
        job = replace(job, out=out, on_dev=True)
    return _predictions(run, job)


def predictions_on_reported(run: Run, variant: str, stage: ScoreStage, folder: Path) -> Path:
    """Write a model's predictions on the report split, unless they exist; return their file."""
    return _predictions(run, evaluation_job(run, variant, stage, folder))


def _predictions(run: Run, job: EvaluationJob) -> Path:
    evaluate([job], run.task_folder, use_gpu=uses_gpu(run.recipe.workers))
    return job.out / PREDICTIONS_FILE
