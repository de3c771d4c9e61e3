"""Stages that train: the teacher, then students by injection and adaptation; and their jobs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from raykd.arms import Arm, injections_of, text_of
from raykd.evaluation.predict import Scorer
from raykd.manifest import digest_of, digest_of_directory, digest_of_file
from raykd.models.resolve import digest_of_model
from raykd.models.student_init import Init
from raykd.objectives.fine_tune import FineTuneConfig
from raykd.run import Run
from raykd.starts import new_student, start_inputs
from raykd.training.new_student import NewStudent
from raykd.training.phases import (
    MODEL_FOLDER,
    Labels,
    PhaseConfig,
    PhaseJob,
    adopt_teacher,
)
from raykd.training.pipeline import cache_teacher_outputs, train_phases
from raykd.training.teacher_cache import OutputsJob
from raykd.training.tracking import Tracking


def train_teacher(run: Run) -> None:
    """teacher: fine-tuned on the task, or taken as named."""
    config, labels = run.recipe.teacher, _labels(run)
    reference = config.model
    if config.fine_tuned:
        adopt_teacher(reference, run.teacher, labels, {"model": digest_of_model(reference)})
        return
    values = config.model_dump(exclude={"model", "weights_sha256", "fine_tuned", "seed"})
    job = PhaseJob(
        stage="teacher",
        name="teacher",
        out=run.teacher,
        start=reference,
        teacher=None,
        text=run.split("train"),
        teacher_outputs=None,
        config=PhaseConfig(objective=FineTuneConfig(), **values),
        labels=labels,
        tokens=run.tokens,
        seed=config.seed,
        inputs={
            "model": digest_of_model(reference),
            "train": digest_of_file(run.split("train")),
        },
    )
    _train(run, [_with_curve(run, job)], "teacher", only_model=True)


def inject(run: Run) -> None:
    """inject: students learn from the teacher on unlabelled text."""
    if not run.recipe.injected_arms:
        return
    cache_outputs(run, run.recipe.teacher_texts())
    students = list(run.injections())
    for is_first in (True, False):
        wanted = [s for s in students if (len(injections_of(s[0])) == 1) == is_first]
        _train(run, [inject_job(run, *student) for student in wanted], "inject")


def inject_job(
    run: Run, arm: Arm, init: Init, seed: int, *, injected: Path | None = None
) -> PhaseJob:
    """The last injection of one student; `injected` is that of the one before, if not the run's."""
    *before, _ = injections_of(arm)
    text = text_of(arm)
    phase = run.recipe.injection_on(text)
    inputs = {
        "teacher": digest_of_directory(run.teacher),
        "text": digest_of_file(run.text(text)),
        **_generator_inputs(run, phase),
    }
    start: str | NewStudent
    if before:
        injected = injected or run.student(before[-1], init, seed, "injected")
        start = str(injected / MODEL_FOLDER)
        inputs["injected"] = digest_of_directory(injected)
    else:
        start = new_student(run, arm, init)
        inputs |= start_inputs(run, start)
    return PhaseJob(
        stage="inject",
        name=f"inject {arm} {init} seed {seed}",
        out=run.student(arm, init, seed, "injected"),
        start=start,
        teacher=run.teacher / MODEL_FOLDER,
        text=run.text(text),
        teacher_outputs=(run.teacher_outputs(text) if text in run.recipe.teacher_texts() else None),
        config=phase,
        labels=_labels(run),
        tokens=run.tokens,
        seed=seed,
        inputs=inputs,
    )


def adapt(run: Run) -> None:
    """adapt: students learn the task, after injection or alone."""
    cache_outputs(run, [name for name in run.recipe.teacher_texts() if name == "train"])
    _train(run, [adapt_job(run, *student) for student in run.students()], "adapt")


def adapt_job(
    run: Run, arm: Arm, init: Init, seed: int, *, injected: Path | None = None
) -> PhaseJob:
    """The adaptation of one student; `alone` and `direct` start anew, `alone` has no teacher."""
    recipe = run.recipe
    injected = injected or run.student(arm, init, seed, "injected")
    inputs = {"train": digest_of_file(run.split("train"))}
    if arm != "alone":
        inputs["teacher"] = digest_of_directory(run.teacher)
    reads_outputs = "train" in recipe.teacher_texts() and arm != "alone"
    phase = recipe.adaptation
    if arm == "alone":
        values = dict(recipe.alone or recipe.adaptation)
        values.pop("objective", None)
        phase = PhaseConfig(objective=FineTuneConfig(), **values)
    start: str | NewStudent
    if arm in recipe.injected_arms:
        start = str(injected / MODEL_FOLDER)
        inputs["injected"] = digest_of_directory(injected)
    else:
        start = new_student(run, arm, init)
        inputs |= start_inputs(run, start)
    inputs |= _generator_inputs(run, phase)
    job = PhaseJob(
        stage="adapt",
        name=f"adapt {arm} {init} seed {seed}",
        out=run.student(arm, init, seed, "adapted"),
        start=start,
        teacher=None if arm == "alone" else run.teacher / MODEL_FOLDER,
        text=run.split("train"),
        teacher_outputs=run.teacher_outputs("train") if reads_outputs else None,
        config=phase,
        labels=_labels(run),
        tokens=run.tokens,
        seed=seed,
        inputs=inputs,
    )
    return _with_curve(run, job)


def _train(run: Run, jobs: Sequence[PhaseJob], label: str, *, only_model: bool = False) -> None:
    tracking = Tracking(run.recipe.report_to, run.recipe.name, run.out)
    jobs = [replace(job, tracking=tracking) for job in jobs]
    train_phases(
        jobs,
        run.recipe.workers,
        label=label,
        storage=run.out / "ray_train",
        only_model=only_model,
    )


def cache_outputs(run: Run, names: Sequence[str]) -> None:
    """Compute the teacher's outputs on texts, see `Recipe.teacher_texts`."""
    jobs = [_outputs_job(run, name) for name in names]
    cache_teacher_outputs(jobs, use_gpu=run.recipe.workers.use_gpu)


def _outputs_job(run: Run, name: str) -> OutputsJob:
    recipe = run.recipe
    phase = recipe.adaptation if name == "train" else recipe.injection_on(name)
    return OutputsJob(
        teacher=run.teacher / MODEL_FOLDER,
        text=run.text(name),
        out=run.teacher_outputs(name),
        max_length=phase.max_length,
        pooling=phase.objective.teacher_features,
        relation_layer=phase.objective.teacher_relations,
        inputs={
            "teacher": digest_of_directory(run.teacher),
            "text": digest_of_file(run.text(name)),
        },
    )


def _with_curve(run: Run, job: PhaseJob) -> PhaseJob:
    """The job, scored on dev as it goes; what the curve depends on is among its inputs."""
    split, metrics, length = run.split("dev"), run.task().metrics, job.config.max_length
    curve = digest_of([digest_of_file(split), metrics, length])
    scorer = Scorer(split, metrics, max_length=length)
    return replace(job, score=scorer, inputs={**job.inputs, "curve": curve})


def _generator_inputs(run: Run, phase: PhaseConfig) -> dict[str, str]:
    reference = phase.objective.generator_beside(str(run.teacher / MODEL_FOLDER))
    return {} if reference is None else {"generator": digest_of_model(reference)}


def _labels(run: Run) -> Labels:
    task = run.task()
    return Labels(tuple(task.labels), task.regression)
