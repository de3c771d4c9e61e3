"""Rules on settings of gold labels: without effect or meaning, they are refused."""

from collections.abc import Mapping

from raykd.tasks.config import TaskConfig
from raykd.training.class_weights import check_class_names
from raykd.training.phase.config import AdaptationConfig, PhaseConfig, TeacherConfig
from raykd.training.phase.injection_config import InjectionConfig
from raykd.training.settings import TrainingConfig


def labeled_phases(
    teacher: TeacherConfig, adaptation: AdaptationConfig, alone: TrainingConfig | None
) -> dict[str, TrainingConfig]:
    """Settings of the trainings on labeled rows, by their paths."""
    phases: dict[str, TrainingConfig] = {"teacher": teacher, "adaptation": adaptation}
    return phases if alone is None else {**phases, "alone": alone}


def check_labels(
    task: TaskConfig,
    phases: Mapping[str, TrainingConfig],
    injections: Mapping[str, InjectionConfig],
    task_da: str | None,
) -> None:
    """Check class weights and label smoothing, and what a multi-label task does not allow.

    Args:
        task: section of the recipe.
        phases: trainings on labeled rows, by their paths.
        injections: injections, by their paths.
        task_da: directory of augmented rows.

    Raises:
        ValueError: names the key, the reason and what to do.
    """
    if task.multi_label:
        _check_multi_label(phases, injections, task_da)
    for section, phase in {**phases, **injections}.items():
        for key in phase.gold_keys:
            if (reason := _reason_against(task, phase)) is not None:
                raise ValueError(f"{section}.{key}: {reason}")
        weights = phase.class_weights
        if task.known_labels and isinstance(weights, Mapping):
            check_class_names(f"{section}.class_weights", weights, task.known_labels)


def _check_multi_label(
    phases: Mapping[str, TrainingConfig],
    injections: Mapping[str, InjectionConfig],
    task_da: str | None,
) -> None:
    if task_da is not None:
        raise ValueError(
            "task_da: raykd augment reads rows with one class or a score, and the task is "
            "multi-label; remove the key and its variants"
        )
    for section, phase in {**phases, **injections}.items():
        if isinstance(phase, TeacherConfig) and phase.members:
            key = "teacher.scores" if phase.scores is not None else "teacher.ensemble"
            raise ValueError(
                f"{key}: its probabilities are of tasks with one class per row, and the task is "
                "multi-label; name a model as teacher.model"
            )
        if isinstance(phase, PhaseConfig):
            reason = phase.objective.needs_single_class
            if reason is not None:
                raise ValueError(f"{section}.objective {phase.objective.name!r}: {reason}")


def _reason_against(task: TaskConfig, phase: TrainingConfig) -> str | None:
    """Reason why gold labels have no weights and no smoothing in a training."""
    if task.is_regression:
        return (
            f"the task {task.name!r} is a regression, whose scores have a squared error and no "
            "classes to weigh or smooth; remove it"
        )
    if task.multi_label:
        return (
            f"the task {task.name!r} is multi-label: each class is a decision of its own, and "
            "weights and smoothing are those of one class per row; remove it"
        )
    if isinstance(phase, InjectionConfig):
        return "an injection runs on text without gold labels; remove it"
    if isinstance(phase, TeacherConfig) and phase.fine_tuned:
        return "the teacher is fine-tuned already and not trained here; remove it"
    if isinstance(phase, PhaseConfig) and not phase.objective.needs_labels:
        return (
            f"the objective {phase.objective.name!r} gives the gold labels no weight, so that it "
            "would have no effect; remove it, give them a weight (task_weight), or set it in the "
            "section alone for the variant alone"
        )
    return None
