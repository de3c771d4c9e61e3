"""Rules of recipes whose teacher is a file of scores: what needs a model is refused."""

from collections.abc import Mapping, Sequence

from raykd.models.student.init import StudentConfig
from raykd.tasks.config import TaskConfig
from raykd.training.injection_config import InjectionConfig
from raykd.training.phase_config import AdaptationConfig, PhaseConfig, TeacherConfig
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
    """Refuse what a teacher that is a file of scores cannot give; other teachers are not checked.

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
    if teacher.scores is None:
        return
    if student.model is None:
        raise ValueError(
            "teacher.scores: there is no teacher to make a student from; name a pretrained model "
            "as student.model (with num_layers and inits, some layers of it)"
        )
    _check_columns(teacher.scores, task)
    phases: dict[str, PhaseConfig] = {**injections, "adaptation": adaptation}
    for section, phase in phases.items():
        objective = phase.objective
        if "model" in objective.needs_teacher:
            raise ValueError(
                f"{section}.objective {objective.name!r} runs the teacher's model for its layers, "
                "its gradients or its outputs on other text, and teacher.scores has its outputs on "
                f"the training rows only; use {_LOGITS_ONLY}, or name a model as teacher.model"
            )
    for step in steps:
        config = injections.get(step.section)
        if step.text.kind != "task" and config is not None and config.reads_outputs:
            raise ValueError(
                f"variants: the step {step.name} trains on the text {step.text.name!r}, of which "
                "teacher.scores has no outputs: it has those of the training rows; use the "
                "variants direct and task, or name a model as teacher.model"
            )
    augmented = [step.name for step in steps if step.text.kind == "task_da"]
    if augmented and adaptation.rows == "task_da" and adaptation.reads_outputs:
        raise ValueError(
            "adaptation.rows 'task_da': teacher.scores has no outputs on augmented rows; set rows: "
            "task, or an objective that reads no outputs of the teacher (fine_tune)"
        )


def _check_columns(scores: ScoresConfig, task: TaskConfig) -> None:
    if scores.id_column is not None and not task.files_of("train"):
        raise ValueError(
            "teacher.scores.id_column: ids are looked up in the task's training files, and its "
            "rows are those of a dataset; match rows by their text, or give files (task.train)"
        )
    columns = scores.text_columns
    if columns is not None and (len(columns) == 2) != task.has_pairs:
        raise ValueError(
            f"teacher.scores.text_columns [{', '.join(columns)}]: a row of the task has "
            f"{'two texts' if task.has_pairs else 'one text'}; name as many columns"
        )
