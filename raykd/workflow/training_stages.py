"""Stages that train: the teacher, then students by injection and adaptation; and their jobs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from raykd.evaluation.baselines import BASELINES
from raykd.evaluation.predict import Scorer
from raykd.models.resolve import digest_of_model
from raykd.models.student.init import Init
from raykd.models.tokenization.positions import num_positions
from raykd.objectives.fine_tune import FineTuneConfig
from raykd.storage.manifest import digest_of, digest_of_directory, digest_of_file
from raykd.training.distributed.placement import uses_gpu
from raykd.training.logging.tracking import Tracking
from raykd.training.phase.config import PhaseConfig
from raykd.training.phase.given import adopt_teacher
from raykd.training.phase.job import MODEL_FOLDER, Labels, PhaseJob
from raykd.training.phase.new_student import NewStudent
from raykd.training.pipeline import cache_teacher_outputs, train_phases
from raykd.training.settings import TrainingConfig
from raykd.training.teacher_cache import OutputsJob
from raykd.workflow.generators import generator_inputs, generator_of
from raykd.workflow.recipe.variants import Chain, Step
from raykd.workflow.run import Run, student_name
from raykd.workflow.starts import new_student, start_inputs
from raykd.workflow.teacher.scores import write_scores


def train_teacher(run: Run) -> None:
    """teacher: fine-tuned on the task, or taken as named: a model, or scores of the rows."""
    config = run.recipe.teacher
    if config.model is None:
        write_scores(run)
    elif config.fine_tuned:
        inputs = {"model": digest_of_model(config.model)}
        adopt_teacher(config.model, run.teacher, _labels(run), inputs, config.labels)
    else:
        train(run, [teacher_job(run)], "teacher", only_model=True)


def teacher_job(run: Run) -> PhaseJob:
    """Fine-tuning of the teacher."""
    config = run.recipe.teacher
    assert config.model is not None
    values = config.model_dump(include=set(TrainingConfig.model_fields))
    job = PhaseJob(
        stage="teacher",
        name="teacher",
        out=run.teacher,
        start=config.model,
        teacher=None,
        text=run.split("train"),
        teacher_outputs=None,
        config=PhaseConfig(objective=FineTuneConfig(), **values),
        labels=_labels(run),
        tokens=run.tokens,
        seed=config.seed,
        inputs={
            "model": digest_of_model(config.model),
            "train": digest_of_file(run.split("train")),
        },
        stop_after=run.stop_after.get("teacher"),
    )
    return _with_curve(run, job)


def inject(run: Run) -> None:
    """inject: distill the teacher into students on unlabeled text, step by step."""
    cache_outputs(run, run.recipe.steps_on_outputs())
    students = list(run.injections())
    for num_steps in sorted({len(chain.steps) for chain, _, _ in students}):
        wanted = [student for student in students if len(student[0].steps) == num_steps]
        train(run, [inject_job(run, *student) for student in wanted], "inject")


def inject_job(
    run: Run, chain: Chain, init: Init, seed: int, *, injected: Path | None = None
) -> PhaseJob:
    """The last injection of one student; `injected` is that of the one before, if not the run's."""
    recipe, step = run.recipe, chain.last
    config, teacher = recipe.injection_of(step), _teacher_of(run, step)
    phase = config.phase()
    inputs = {
        ("pretrained_teacher" if teacher.is_pretrained else "teacher"): teacher.digest,
        "text": digest_of_file(run.text(step.text)),
        **generator_inputs(run, phase),
    }
    start: str | NewStudent
    if chain.before is not None:
        injected = injected or run.injected(chain.before, init, seed)
        start = str(injected / MODEL_FOLDER)
        inputs["injected"] = digest_of_directory(injected)
    else:
        start = new_student(run, chain.name, init)
        inputs |= start_inputs(run, start)
    has_outputs = step in recipe.steps_on_outputs()
    return PhaseJob(
        stage="inject",
        name=f"inject {chain.name} {init} seed {seed}",
        out=run.injected(chain, init, seed),
        start=start,
        teacher=teacher.model,
        is_pretrained=teacher.is_pretrained,
        text=run.text(step.text),
        teacher_outputs=run.step_outputs(step) if has_outputs else None,
        has_more_outputs=run.has_slice(step.text),
        config=phase,
        labels=_labels(run),
        tokens=run.tokens,
        seed=seed,
        inputs=inputs,
        generator=generator_of(run, phase),
    )


@dataclass(frozen=True)
class _Teacher:
    model: str | Path | None  # None for a file of scores
    digest: str
    is_pretrained: bool


def _teacher_of(run: Run, step: Step) -> _Teacher:
    reference = run.recipe.teacher_model_of(run.recipe.injection_of(step))
    if reference is None:
        return _Teacher(_teacher_model(run), digest_of_directory(run.teacher), False)
    return _Teacher(reference, digest_of_model(reference), True)


def _teacher_model(run: Run) -> Path | None:
    """The run's fine-tuned teacher; None where it is a file of scores."""
    return None if run.recipe.teacher.members else run.teacher / MODEL_FOLDER


def adapt(run: Run) -> None:
    """adapt: students learn the task, after injection or alone."""
    cache_outputs(run, (), train=True)
    train(run, [adapt_job(run, *student) for student in run.students()], "adapt")


def adapt_job(
    run: Run, variant: str, init: Init, seed: int, *, injected: Path | None = None
) -> PhaseJob:
    """Adaptation of one student; `alone` and `direct` have no injection, `alone` no teacher."""
    recipe, chain = run.recipe, run.recipe.chain_of(variant)
    if chain is not None and not recipe.adapts(variant):
        injected = injected or run.injected(chain, init, seed)
        return _kept_job(run, variant, init, seed, injected=injected)
    text = recipe.adaptation_text(variant)
    inputs = {"train": digest_of_file(run.labeled_rows(text))}
    if variant != "alone":
        inputs["teacher"] = digest_of_directory(run.teacher)
    has_outputs = recipe.adaptation.reads_outputs and variant != "alone"
    phase: PhaseConfig = recipe.adaptation
    if variant == "alone":
        values = dict(recipe.alone or recipe.adaptation)
        values.pop("objective", None)
        values.pop("rows", None)
        phase = PhaseConfig(objective=FineTuneConfig(), **values)
    start: str | NewStudent
    if chain is not None:
        injected = injected or run.injected(chain, init, seed)
        start = str(injected / MODEL_FOLDER)
        inputs["injected"] = digest_of_directory(injected)
    else:
        start = new_student(run, variant, init)
        inputs |= start_inputs(run, start)
    inputs |= generator_inputs(run, phase)
    job = PhaseJob(
        stage="adapt",
        name=f"adapt {variant} {init} seed {seed}",
        out=run.adapted(variant, init, seed),
        start=start,
        teacher=None if variant == "alone" else _teacher_model(run),
        text=run.labeled_rows(text),
        teacher_outputs=run.teacher_outputs(text) if has_outputs else None,
        config=phase,
        labels=_labels(run),
        tokens=run.tokens,
        seed=seed,
        inputs=inputs,
        generator=generator_of(run, phase),
        stop_after=run.stop_after.get(student_name(variant, init)),
    )
    return _with_curve(run, job)


def _kept_job(run: Run, variant: str, init: Init, seed: int, *, injected: Path) -> PhaseJob:
    """Adaptation that is left out: the student is scored on dev and kept as it is."""
    max_length = run.recipe.adaptation.max_length
    job = PhaseJob(
        stage="adapt",
        name=f"keep {variant} {init} seed {seed}",
        out=run.adapted(variant, init, seed),
        start=str(injected / MODEL_FOLDER),
        teacher=None,
        text=run.split("train"),
        teacher_outputs=None,
        config=PhaseConfig(objective=FineTuneConfig(), max_length=max_length),
        labels=_labels(run),
        seed=seed,
        inputs={"injected": digest_of_directory(injected)},
        trains=False,
    )
    return _with_curve(run, job)


def train(run: Run, jobs: Sequence[PhaseJob], label: str, *, only_model: bool = False) -> None:
    """Run the unfinished jobs of a stage with the run's workers and trackers."""
    tracking = Tracking(run.recipe.report_to, run.recipe.name, run.out)
    jobs = [replace(job, tracking=tracking) for job in jobs]
    train_phases(
        jobs,
        run.recipe.workers,
        label=label,
        storage=run.out / "ray_train",
        only_model=only_model,
    )


def cache_outputs(run: Run, steps: Sequence[Step], *, train: bool = False) -> None:
    """Compute teachers' outputs on the texts of steps that read them, and on rows of adaptations.

    Args:
        run: of the steps.
        steps: some of `Recipe.steps_on_outputs`.
        train: whether to compute those that the adaptation reads, if it reads any.
    """
    if run.recipe.teacher.members:
        return  # the outputs are those of the stage `teacher`
    jobs = [_outputs_job(run, step) for step in steps]
    if train and run.recipe.adaptation.reads_outputs:
        taught = [
            variant
            for variant in run.recipe.variants
            if variant not in (*BASELINES, "alone") and run.recipe.adapts(variant)
        ]
        texts = dict.fromkeys(run.recipe.adaptation_text(variant) for variant in taught)
        jobs += [_outputs_job(run, text) for text in texts]
    cache_teacher_outputs(jobs, use_gpu=uses_gpu(run.recipe.workers))


def _outputs_job(run: Run, step: Step | str) -> OutputsJob:
    """Outputs on a step's text, or on the rows of an adaptation."""
    phase: PhaseConfig
    if isinstance(step, str):
        phase, text = run.recipe.adaptation, run.labeled_rows(step)
        teacher = _Teacher(run.teacher / MODEL_FOLDER, digest_of_directory(run.teacher), False)
    else:
        phase, text = run.recipe.injection_of(step), run.text(step.text)
        teacher = _teacher_of(run, step)
    assert teacher.model is not None, "a file of scores has no outputs to compute"
    return OutputsJob(
        teacher=teacher.model,
        is_pretrained=teacher.is_pretrained,
        text=text,
        out=run.teacher_outputs(step) if isinstance(step, str) else run.step_outputs(step),
        # A student with another tokenizer may read longer texts than its teacher can.
        max_length=min(phase.max_length, num_positions(str(teacher.model)) or phase.max_length),
        pooling=phase.objective.teacher_features,
        relation_layer=phase.objective.teacher_relations,
        inputs={"teacher": teacher.digest, "text": digest_of_file(text)},
    )


def _with_curve(run: Run, job: PhaseJob) -> PhaseJob:
    """The job, scored on dev as it goes; what the curve depends on is among its inputs."""
    if not run.has_dev:
        return job
    split, metrics, length = run.split("dev"), run.task().metrics, job.config.max_length
    curve = digest_of([digest_of_file(split), metrics, length])
    scorer = Scorer(split, metrics, max_length=length)
    return replace(job, score=scorer, inputs={**job.inputs, "curve": curve})


def _labels(run: Run) -> Labels:
    task = run.task()
    return Labels(tuple(task.labels), task.regression, task.multi_label)
