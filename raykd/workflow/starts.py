"""Initial weights of the students of a run, as training jobs and in words."""

from collections.abc import Mapping

import torch

from raykd.errors import InputError
from raykd.models.encoder import Encoder
from raykd.models.meta_model import load_meta_model
from raykd.models.resolve import digest_of_model, resolve_model
from raykd.models.student.init import Init, layers_of, make_student
from raykd.models.student.layer_copy import shares_layers, weights_left_out
from raykd.storage.manifest import digest_of_directory
from raykd.training.phase.job import MODEL_FOLDER
from raykd.training.phase.new_student import NewStudent
from raykd.workflow.recipe.model_rules import student_reference
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.run import Run


def new_student(run: Run, variant: str, init: Init) -> NewStudent:
    """The student of a variant before its first training.

    The variant `alone` learns from no teacher, so that it never gets the teacher's classifier.
    """
    config, teacher = run.recipe.student, run.recipe.teacher
    if run.recipe.copies_teacher and config.copies_layers(init):
        source = str(run.teacher / MODEL_FOLDER)
        return NewStudent(config, init, source, of_teacher=True, with_classifier=variant != "alone")
    return NewStudent(config, init, student_reference(teacher, config))


def start_inputs(run: Run, student: NewStudent) -> dict[str, str]:
    """Digests of what a student is made of, for the key of its first training."""
    if student.of_teacher:
        return {"teacher": digest_of_directory(run.teacher)}
    return {"student": digest_of_model(student.source)}


def source_meta_model(recipe: Recipe) -> Encoder:
    """The source of the students without weights; a fine-tuned teacher has its model's shape.

    Raises:
        InputError: the student is the fine-tuned teacher itself; or see `load_meta_model`.
    """
    model, teacher = recipe.student.model, recipe.teacher
    if model is None or teacher.model is None:
        return load_meta_model(student_reference(teacher, recipe.student))
    copies = any(init != "random" for init in recipe.student.inits)
    is_teacher = resolve_model(model).resolve() == resolve_model(teacher.model).resolve()
    if copies and teacher.fine_tuned and is_teacher:
        raise InputError(
            f"student.model {model}: is the fine-tuned teacher itself, so that the student knows "
            "the task before any training; name the pretrained model, or copy layers of the "
            "teacher by student.init_from: teacher without student.model"
        )
    return load_meta_model(model)


def student_meta_models(recipe: Recipe, source: Encoder) -> dict[Init, Encoder]:
    """The student of each init, without weights.

    Raises:
        InputError: see `make_student`.
    """
    with torch.device("meta"):
        return {
            init: make_student(source, recipe.student, init, seed=0)
            for init in recipe.student.inits
        }


def starts_of(recipe: Recipe) -> dict[str, str]:
    """For each init, what a student starts from; only shapes of models are read."""
    source = source_meta_model(recipe)
    return describe_starts(recipe, source, student_meta_models(recipe, source))


def describe_starts(
    recipe: Recipe, source: Encoder, students: Mapping[Init, Encoder]
) -> dict[str, str]:
    """For each init, what a student starts from."""
    return {init: _describe(recipe, source, student, init) for init, student in students.items()}


def _describe(recipe: Recipe, source: Encoder, student: Encoder, init: Init) -> str:
    config = recipe.student
    name = student_reference(recipe.teacher, config)
    if init == "random":
        return f"random weights, in the shape of {name}"
    if init == "pretrained":
        return f"the whole of {name} as it was downloaded"
    layers = layers_of(source, config, init)
    whole = f"layers {', '.join(map(str, layers))}"
    if shares_layers(source.model.config):
        whole = f"{len(layers)} times the one shared layer"
    whole += " and the embeddings of "
    if recipe.copies_teacher:
        whole += "the fine-tuned teacher, with its classifier"
        if "alone" in recipe.variants:
            whole += (
                " (random for the variant alone, which learned from the teacher through the layers "
                "and is no baseline)"
            )
    else:
        whole += f"{name} as it was downloaded, with a random classifier"
    for layer, missing in weights_left_out(source, student, layers).items():
        whole += f"; layer {layer} comes first and loses its {missing}, as the first of its family"
    return whole
