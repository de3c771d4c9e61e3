"""Rules of recipes whose teacher is known by its scores: what needs a model is refused."""

from collections.abc import Mapping, Sequence

from raykd.models.student.init import StudentConfig
from raykd.tasks.config import TaskConfig
from raykd.training.phase.config import AdaptationConfig, PhaseConfig, TeacherConfig
from raykd.training.phase.injection_config import InjectionConfig
from raykd.training.scores.config import ScoresConfig
from raykd.workflow.recipe.variants import Step

_LOGITS_ONLY = "vanilla_kd, annealing_kd or ad2 without deep KD"


def check_scores(
    teacher: TeacherConfig,
    student: StudentConfig,
    task: TaskConfig,
    injections: Mapping[str, InjectionConfig],
    adaptation: AdaptationConfig,
    steps: Sequence[Step],
) -> None:
    """Refuse what a teacher that is known by its scores cannot give; models are not checked.

    Args:
        teacher: section of the recipe, as are `student`, `task` and `adaptation`.
        student: section of the recipe.
        task: section of the recipe.
        injections: sections of injections by their paths.
        adaptation: section of the recipe.
        steps: injections of all variants.

    Raises:
        ValueError: names the key, the reason and what to do.
    """
    if not teacher.members:
        return
    key = "teacher.scores" if teacher.scores is not None else "teacher.ensemble"
    if student.model is None:
        raise ValueError(
            f"{key}: there is no teacher to make a student from; name a pretrained model "
            "as student.model (with num_layers and inits, some layers of it)"
        )
    for member in teacher.members:
        _check_columns(member.scores, task)
    phases: dict[str, PhaseConfig] = {**injections, "adaptation": adaptation}
    for section, phase in phases.items():
        objective = phase.objective
        if "model" in objective.needs_teacher:
            raise ValueError(
                f"{section}.objective {objective.name!r} runs the teacher's model for its layers, "
                f"its gradients or its outputs on other text, and {key} has its outputs on the "
                f"training rows only; use {_LOGITS_ONLY}, or name a model as teacher.model"
            )
    for step in steps:
        config = injections.get(step.section)
        if step.text.kind != "task" and config is not None and config.reads_outputs:
            raise ValueError(
                f"variants: the step {step.name} trains on the text {step.text.name!r}, of which "
                f"{key} has no outputs: it has those of the training rows; use the "
                "variants direct and task, or name a model as teacher.model"
            )
    augmented = [step.name for step in steps if step.text.kind == "task_da"]
    if augmented and adaptation.rows == "task_da" and adaptation.reads_outputs:
        raise ValueError(
            f"adaptation.rows 'task_da': {key} has no outputs on augmented rows; set rows: "
            "task, or an objective that reads no outputs of the teacher (fine_tune)"
        )


def _check_columns(scores: ScoresConfig, task: TaskConfig) -> None:
    if scores.id_column is not None and not task.files_of("train"):
        raise ValueError(
            "scores.id_column: ids are looked up in the task's training files, and its "
            "rows are those of a dataset; match rows by their text, or give files (task.train)"
        )
    columns = scores.text_columns
    if columns is not None and (len(columns) == 2) != task.has_pairs:
        raise ValueError(
            f"scores.text_columns [{', '.join(columns)}]: a row of the task has "
            f"{'two texts' if task.has_pairs else 'one text'}; name as many columns"
        )
