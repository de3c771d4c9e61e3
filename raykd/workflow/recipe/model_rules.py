"""Rules on the models that a recipe names: what needs a pretrained model must have one.

Either the teacher or the student has a model: a teacher that is a file of scores has none, and its
student must (`scores_rules`).
"""

from collections.abc import Mapping, Sequence

from raykd.evaluation.baselines import ON_ENCODERS, Baseline
from raykd.models.student.init import StudentConfig
from raykd.tasks.config import TaskConfig
from raykd.training.phase.config import TeacherConfig
from raykd.training.phase.injection_config import InjectionConfig


def student_reference(teacher: TeacherConfig, student: StudentConfig) -> str:
    """The student's model, else the teacher's: it has family, vocabulary and default sizes."""
    reference = student.model or teacher.model
    assert reference is not None, "checked by the recipe"
    return reference


def teacher_reference(teacher: TeacherConfig, student: StudentConfig) -> str:
    """The teacher's model; where it is a file of scores, the student's."""
    reference = teacher.model or student.model
    assert reference is not None, "checked by the recipe"
    return reference


def check_student_source(teacher: TeacherConfig, student: StudentConfig) -> None:
    """Check that there is a pretrained model to copy a student's layers from.

    Raises:
        ValueError: the only model is fine-tuned.
    """
    lacks_source = student.model is None and student.init_from == "pretrained"
    if teacher.fine_tuned and student.copying_inits and lacks_source:
        raise ValueError(
            f"student.init_from 'pretrained': inits {list(student.inits)} copy layers of the "
            "teacher's model before it is fine-tuned, and with teacher.fine_tuned: true there "
            "is none; name the pretrained model as student.model, or remove init_from to copy "
            "layers of the fine-tuned teacher"
        )


def check_pretrained_teachers(
    injections: Mapping[str, InjectionConfig], teacher: TeacherConfig
) -> None:
    """Check that there is a pretrained model where an injection has it as its teacher.

    Raises:
        ValueError: names the section.
    """
    for section, phase in injections.items():
        has_one = phase.teacher_model is not None or not teacher.fine_tuned
        if phase.teacher == "pretrained" and not has_one:
            raise ValueError(
                f"{section}.teacher 'pretrained': teacher.model {teacher.model!r} is "
                "fine-tuned already (teacher.fine_tuned: true); name the model that it was "
                f"made from as {section}.teacher_model"
            )


def check_baselines(
    baselines: Sequence[Baseline], teacher: TeacherConfig, student: StudentConfig, task: TaskConfig
) -> None:
    """Check that baselines have the models that they begin with, and that SetFit fits the task.

    Raises:
        ValueError: names the variant.
    """
    reasons = {
        "a row is a pair of texts": task.has_pairs,
        "the label is a score": task.is_regression,
        "a row has several classes": task.multi_label,
    }
    reason = next((reason for reason, applies in reasons.items() if applies), None)
    if "setfit" in baselines and reason is not None:
        raise ValueError(
            f"variants: 'setfit' is for single texts with one class, and {reason}; remove the "
            "variant"
        )
    if "int8_teacher" in baselines and teacher.model is None:
        raise ValueError(
            "variants: 'int8_teacher' needs a teacher that is a model, and this one is known by "
            "its scores; remove the variant"
        )
    for name in baselines:
        if name in ON_ENCODERS and baseline_model(teacher, student) is None:
            raise ValueError(
                f"variants: {name!r} needs a pretrained model, but teacher.model is fine-tuned "
                "already (teacher.fine_tuned: true); name one as student.model, or remove the "
                "variant"
            )


def baseline_model(teacher: TeacherConfig, student: StudentConfig) -> str | None:
    """Pretrained model whose embeddings baselines use: the teacher's, else the student's."""
    return student.model if teacher.fine_tuned or teacher.model is None else teacher.model
