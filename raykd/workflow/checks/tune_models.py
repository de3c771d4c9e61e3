"""Checks of the models and objectives that a search space makes, before anything is trained."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice, product
from typing import Any

from raykd.errors import InputError, shortened
from raykd.training.phase.config import PhaseConfig
from raykd.workflow.checks.preflight import check_models
from raykd.workflow.checks.tune_checks import recipes_with, section_of
from raykd.workflow.recipe.model_rules import teacher_reference
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.recipe.tune_space import Parameter, label_of
from raykd.workflow.run import Run

# Of a value's combinations with other values, how many are tried before it is refused.
_MAX_COMBINATIONS = 16
_MAX_LABEL_LENGTH = 80


def check_choices(run: Run) -> None:
    """Check the models of the recipe, and those of each value of each parameter that changes them.

    Raises:
        InputError: as `check_models`, for the recipe, or for all combinations of a value.
    """
    check_models(run)
    recipe = run.recipe
    assert recipe.tune is not None
    for name, parameter in recipe.tune.space.items():
        if _changes_models(name, parameter):
            for assignment in parameter.assignments(name):
                _check_models_with(run, name, assignment)
    for name in _prepared_keys(recipe):
        _check_shared(recipe, name)


def prepared_recipes(recipe: Recipe) -> list[Recipe]:
    """Recipes with each combination of the keys that decide what trials need; itself if none does.

    Objectives read generators and cached outputs of the teacher, and `adapt` decides whether that
    of the adaptation is used.
    """
    assert recipe.tune is not None
    names = _prepared_keys(recipe)
    if not names:
        return [recipe]
    found: list[Recipe] = []
    for chosen in product(*(recipe.tune.space[name].values() for name in names)):
        try:
            found.append(next(recipes_with(recipe, dict(zip(names, chosen, strict=True)))))
        except InputError:
            continue  # each value is allowed with others
    return found


def _changes_models(name: str, parameter: Parameter) -> bool:
    """Return whether a parameter can change the shape of a student, or an objective's parts.

    Numbers in a range of an objective are weights, temperatures and the like, whose bounds the
    recipe knows.
    """
    keys = parameter.keys_of(name)
    if any(key.startswith("student.") for key in keys):
        return True
    return parameter.choice is not None and any("objective" in key.split(".") for key in keys)


def _check_models_with(run: Run, name: str, assignment: Mapping[str, Any]) -> None:
    first: InputError | None = None
    for recipe in islice(recipes_with(run.recipe, assignment, name), _MAX_COMBINATIONS):
        try:
            check_models(replace(run, recipe=recipe))
        except InputError as error:
            first = first or error
        else:
            return
    shown = ", ".join(f"{key} = {_shown(value)}" for key, value in assignment.items())
    raise InputError(f"tune.space: {shown}: {first}")


def _shown(value: Any) -> str:
    return shortened(label_of(value), _MAX_LABEL_LENGTH)


def _prepared_keys(recipe: Recipe) -> list[str]:
    assert recipe.tune is not None
    last_parts = ("objective", "adapt")
    return [name for name in recipe.tune.space if name.rpartition(".")[2] in last_parts]


def _check_shared(recipe: Recipe, name: str) -> None:
    """Refuse objectives for which the trials cannot share one generator and one cache.

    Raises:
        InputError: two choices have different generators, or caches of teacher outputs.
    """
    assert recipe.tune is not None
    generators: dict[object, str] = {}
    caches: dict[object, str] = {}
    teacher = teacher_reference(recipe.teacher, recipe.student)
    for value in recipe.tune.space[name].values():
        changed = next(recipes_with(recipe, {name: value}))
        phase: PhaseConfig = changed.adaptation
        if (section := section_of(name)) != "adaptation":
            phase = changed.injection_sections()[section]
        objective = phase.objective
        if model := objective.generator_reference(teacher):
            generators[model, str(objective.head_training)] = _shown(value)
        if phase.reads_outputs:
            caches[objective.teacher_features, objective.teacher_relations] = _shown(value)
    if len(generators) > 1:
        raise InputError(
            f"tune.space: {name}: {' and '.join(generators.values())} have different generators, "
            "and trials share one; give these choices the same keys of `generator`"
        )
    if len(caches) > 1:
        raise InputError(
            f"tune.space: {name}: {' and '.join(caches.values())} read different cached teacher "
            "outputs, and trials share one cache; set cached_teacher: false in the choices that "
            "have this key"
        )
