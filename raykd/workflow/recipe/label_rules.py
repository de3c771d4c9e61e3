"""Rules on settings of gold labels: without effect or meaning, they are refused."""

from collections.abc import Mapping

from raykd.tasks.config import TaskConfig
from raykd.training.class_weights import check_class_names
from raykd.training.injection_config import InjectionConfig
from raykd.training.phase_config import AdaptationConfig, PhaseConfig, TeacherConfig
from raykd.training.settings import TrainingConfig


def labeled_phases(
    teacher: TeacherConfig, adaptation: AdaptationConfig, alone: TrainingConfig | None
) -> dict[str, TrainingConfig]:
    """Settings of the trainings on labeled rows, by their paths."""
    phases: dict[str, TrainingConfig] = {"teacher": teacher, "adaptation": adaptation}
    return phases if alone is None else {**phases, "alone": alone}


def check_gold_labels(
    task: TaskConfig,
    phases: Mapping[str, TrainingConfig],
    injections: Mapping[str, InjectionConfig],
) -> None:
    """Check the class weights and the label smoothing of all trainings.

    Args:
        task: section of the recipe.
        phases: trainings on labeled rows, by their paths.
        injections: injections, by their paths.

    Raises:
        ValueError: names the key, the reason and what to do.
    """
    for section, phase in {**phases, **injections}.items():
        for key in phase.gold_keys:
            if (reason := _reason_against(task, phase)) is not None:
                raise ValueError(f"{section}.{key}: {reason}")
        weights = phase.class_weights
        if task.known_labels and isinstance(weights, Mapping):
            check_class_names(f"{section}.class_weights", weights, task.known_labels)


def _reason_against(task: TaskConfig, phase: TrainingConfig) -> str | None:
    """Reason why gold labels have no weights and no smoothing in a training."""
    if task.is_regression:
        return (
            f"the task {task.name!r} is a regression, whose scores have a squared error and no "
            "classes to weigh or smooth; remove it"
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
