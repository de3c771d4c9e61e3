"""Recipe file -> recipe: preset filled in, paths made absolute."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raykd.config import is_path
from raykd.corpus.dataset.readers import with_absolute_paths
from raykd.errors import InputError
from raykd.objectives.shared.generation import GeneratorConfig
from raykd.storage.locations import absolute_reference, is_url
from raykd.storage.yaml_files import load_yaml
from raykd.tasks.config import SPLITS
from raykd.tasks.dataset import with_absolute_path
from raykd.training.phase.config import PhaseConfig
from raykd.workflow.presets import load_preset, merged
from raykd.workflow.recipe.recipe import DOCSTRINGS_SCHEME, Recipe


def load_recipe(path: Path, task: Mapping[str, Any] | None = None) -> Recipe:
    """Read and validate a recipe; its paths become absolute, so that it can be kept anywhere.

    Args:
        path: file of the recipe.
        task: keys of the section task that replace those of the file.

    Raises:
        InputError: names the file, the path of each wrong key, and what is accepted there.
    """
    return _with_absolute_paths(read_recipe(path, task), path.absolute().parent, str(path))


def recipe_of(values: dict[str, Any], folder: Path, source: str) -> Recipe:
    """Validate a recipe that is given as values; its paths are relative to `folder`.

    Args:
        values: keys of a recipe, as a file has them.
        folder: of relative paths.
        source: origin of the values, for messages.

    Raises:
        InputError: names the source, the path of each wrong key, and what is accepted there.
    """
    return _with_absolute_paths(_parsed(values, source), folder, source)


def _with_absolute_paths(recipe: Recipe, folder: Path, source: str) -> Recipe:
    values: dict[str, Any] = {}
    for key, references in file_references(recipe).items():
        if isinstance(references, str):
            values[key] = _absolute(folder, references)
        else:
            values[key] = [_absolute(folder, reference) for reference in references]
    for name, corpus in recipe.all_corpora.items():
        if corpus.reader is not None:
            key = "corpus.reader" if name is None else f"corpora.{name}.reader"
            reader = with_absolute_paths(corpus.reader, folder)
            values[key] = reader.model_dump(mode="json")
    if recipe.evaluation.sets:
        values["evaluation.sets"] = [
            one.model_dump(mode="json") | {"path": _absolute(folder, one.path)}
            for one in recipe.evaluation.sets
        ]
    values |= _absolute_scores(recipe, folder)
    if recipe.task.dataset is not None:
        dataset = with_absolute_path(recipe.task.dataset, folder)
        values["task.dataset"] = dataset.model_dump(mode="json", exclude_unset=True)
    for key, model in model_references(recipe).items():
        # Any other reference is a name: of an installed package, or on the hub.
        if is_path(folder, model):
            values[key] = _absolute(folder, model)
    return recipe.with_values(values, source)


def _absolute_scores(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """A teacher's scores with absolute paths, by their keys in the recipe."""
    teacher = recipe.teacher.model_dump(mode="json", include={"scores", "ensemble"})
    for member in (teacher, *(teacher["ensemble"] or ())):
        if (scores := member["scores"]) is not None:
            scores["paths"] = [_absolute(folder, path) for path in scores["paths"]]
    return {f"teacher.{key}": value for key, value in teacher.items()}


def read_recipe(path: Path, task: Mapping[str, Any] | None = None) -> Recipe:
    """Read and validate a recipe; its paths stay as written.

    Raises:
        InputError: as `load_recipe`.
    """
    values = load_yaml(path)
    if task and isinstance(values.get("task"), dict):
        values = {**values, "task": {**values["task"], **task}}
    if "tasks" in values:
        raise InputError(f"{path}: names several tasks; raykd corpus makes their corpora")
    return _parsed(values, str(path))


def _parsed(values: dict[str, Any], source: str) -> Recipe:
    recipe = Recipe.parse(_with_preset(values, source), source)
    if recipe.task_da and is_url(recipe.task_da):
        raise InputError(
            f"{source}: task_da {recipe.task_da}: a local directory is expected; copy what raykd "
            "augment wrote there"
        )
    return recipe


def file_references(recipe: Recipe) -> dict[str, str | list[str]]:
    """Paths and URLs of task files and corpora, by their keys in the recipe."""
    references: dict[str, str | list[str]] = {
        f"task.{split}": list(paths) if len(paths) > 1 else paths[0]
        for split in SPLITS
        if (paths := recipe.task.files_of(split))
    }
    if recipe.task_da:
        references["task_da"] = recipe.task_da
    for name, corpus in recipe.all_corpora.items():
        key = "corpus.paths" if name is None else f"corpora.{name}.paths"
        references[key] = list(corpus.paths)
    return references


def score_references(recipe: Recipe) -> dict[str, list[str]]:
    """Paths and URLs of a teacher's scores, by their keys in the recipe."""
    if recipe.teacher.scores is not None:
        return {"teacher.scores.paths": list(recipe.teacher.scores.paths)}
    return {
        f"teacher.ensemble.{number}.scores.paths": list(member.scores.paths)
        for number, member in enumerate(recipe.teacher.members)
    }


def set_references(recipe: Recipe) -> dict[str, str]:
    """Paths and URLs of evaluation sets, by their keys in the recipe."""
    paths = recipe.evaluation.paths
    return {f"evaluation.sets.{number}.path": path for number, path in enumerate(paths)}


def model_references(recipe: Recipe) -> dict[str, str]:
    """Names, packages and folders of models, by their keys in the recipe."""
    dense = recipe.retrieval.dense if recipe.retrieval else None
    models = {
        "teacher.model": recipe.teacher.model,
        "student.model": recipe.student.model,
        "retrieval.dense.model": dense and dense.model,
        "adaptation.objective.generator.model": _generator(recipe.adaptation),
    }
    for section, phase in recipe.injection_sections().items():
        models[f"{section}.objective.generator.model"] = _generator(phase)
        models[f"{section}.teacher_model"] = phase.teacher_model
    return {key: model for key, model in models.items() if model}


def _with_preset(values: dict[str, Any], source: str) -> dict[str, Any]:
    name, task = values.get("preset"), values.get("task")
    if not isinstance(name, str) or not isinstance(task, dict):
        return values
    try:
        preset = load_preset(name, str(task.get("name")))
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    whole = merged(preset, values)
    # A search is of one objective's keys, and of those alone that its author names.
    if "tune" in values or _objectives(whole) != _objectives(merged(values, preset)):
        whole["tune"] = values.get("tune")
    # A teacher that is known by its scores is not trained.
    teacher = values.get("teacher")
    if isinstance(teacher, dict) and (teacher.get("scores") or teacher.get("ensemble")):
        whole["teacher"] = teacher
    # The preset's first weights are for students without a model or layers of their own.
    student = values.get("student")
    if (
        isinstance(student, dict)
        and "inits" not in student
        and student.keys() & {"model", "layers"}
    ):
        whole["student"] = {k: item for k, item in whole["student"].items() if k != "inits"}
    # Settings for augmented rows after another injection are only for variants that have such a
    # step with the preset's objective.
    injections = [{"injection": tree.get("injection")} for tree in (whole, preset)]
    variants = whole.get("variants")
    is_used = isinstance(variants, list) and any(
        isinstance(variant, str) and (variant == "contextualized_task_da" or "+task_da" in variant)
        for variant in variants
    )
    is_used = is_used and _objectives(injections[0]) == _objectives(injections[1])
    if "task_da_injection" not in values and not is_used:
        whole.pop("task_da_injection", None)
    # So is the choice of augmented rows to those who have some.
    own = values.get("adaptation")
    if "task_da" not in values and not (isinstance(own, dict) and "rows" in own):
        adaptation = whole["adaptation"]
        if isinstance(adaptation, dict):  # else the recipe gave something else, and is refused
            whole["adaptation"] = {k: item for k, item in adaptation.items() if k != "rows"}
    return whole


def _objectives(values: Mapping[str, Any]) -> list[Any]:
    sections = (values.get(phase) for phase in ("injection", "adaptation"))
    objectives = (s.get("objective") for s in sections if isinstance(s, Mapping))
    return [objective.get("name") for objective in objectives if isinstance(objective, Mapping)]


def _absolute(folder: Path, reference: str) -> str:
    if reference.startswith(DOCSTRINGS_SCHEME):
        return reference
    return absolute_reference(folder, reference)


def _generator(phase: PhaseConfig) -> str | None:
    objective = phase.objective
    return objective.generator.model if isinstance(objective, GeneratorConfig) else None
