"""Checks of a recipe's search space, made before anything is trained."""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any

from raykd.errors import InputError
from raykd.evaluation.baselines import BASELINES
from raykd.training.phase.injection_config import TEXT_KINDS
from raykd.training.settings import total_epochs, total_steps
from raykd.workflow.checks.corpus_keys import CORPUS_KEYS, check_corpus_key, check_ranker
from raykd.workflow.recipe.changed_values import INITS_KEY, inits_of
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.recipe.tune_points import combinations, random_point

_INJECTIONS = ("injection", "task_da_injection")
# These decide what is cached for all trials, or which other keys there are.
_FIXED_KEYS = (
    *("max_length", "model", "name", "cached_teacher"),
    *("teacher", "teacher_model", "text", "corpus", "num_units"),
)
# Of the other keys' values, how many combinations a value is tried with before it is refused.
_MAX_COMBINATIONS = 256


def check_space(recipe: Recipe) -> None:
    """Refuse keys that trials cannot change, and values that no trial could take.

    Raises:
        InputError: names the key, and the value where one is wrong.
    """
    assert recipe.tune is not None
    space = recipe.tune.space
    for name, parameter in space.items():
        for path in parameter.keys_of(name):
            _check_path(recipe, path)
    for name, parameter in space.items():
        for assignment in parameter.assignments(name):
            _check_inits(assignment.get(INITS_KEY))
            next(recipes_with(recipe, assignment, name))
    check_ranker(recipe)
    counts_steps = recipe.tune.stop_unit == "step"
    has_steps = recipe.adaptation.num_steps is not None
    if (counts_steps and has_steps) or not (
        counts_steps or has_steps or "adaptation.num_steps" in space
    ):
        # The length does not depend on the number of rows.
        check_grace(recipe, longest_trial(recipe, num_rows=1))


def check_augmented(recipe: Recipe) -> None:
    """Refuse injections on augmented rows where validation rows are held out from train.

    Raises:
        InputError: the task has no test split, and the tuned variant a step on the text of task_da.
    """
    variant = tuned_variant(recipe)
    chain = recipe.chain_of(variant)
    is_augmented = chain is not None and any(step.text.kind == "task_da" for step in chain.steps)
    if is_augmented and not recipe.task.has("test"):
        raise InputError(
            "tune: without a test split, trials are scored on rows held out from train, and the "
            f"text of task_da, which the variant {variant!r} learns from, has variants of these "
            "rows; give the task a test split (task.test), so that trials are scored on dev, or "
            "set tune.variant to a variant without a step on it"
        )


def _check_inits(value: Any) -> None:
    inits = inits_of(value)
    if isinstance(inits, list) and len(inits) != 1:
        raise InputError(
            f"tune.space: {INITS_KEY} = {inits}: a trial trains one student; give one init per "
            "choice, as in choice: [skip, top, random]"
        )


def check_grace(recipe: Recipe, longest: int) -> None:
    """Refuse an early stop that could come only after the end.

    Args:
        recipe: has the section `tune`.
        longest: as `longest_trial`.

    Raises:
        InputError: `tune.grace_epochs` or `tune.grace_steps` is above the longest trial's.
    """
    assert recipe.tune is not None
    if recipe.tune.grace > longest:
        unit = recipe.tune.stop_unit
        raise InputError(
            f"tune.grace_{unit}s {recipe.tune.grace}: the longest trial has {longest} {unit}s, so "
            f"that none could be stopped early; set it to at most {longest} ({longest} stops none)"
        )


def longest_trial(recipe: Recipe, num_rows: int) -> int:
    """Length of the longest trial that the space allows, in the unit of early stopping.

    Args:
        recipe: has the section `tune`.
        num_rows: training rows.
    """
    assert recipe.tune is not None
    length = total_epochs if recipe.tune.stop_unit == "epoch" else total_steps
    space = recipe.tune.space
    keys = [f"adaptation.{key}" for key in ("epochs", "num_steps", "batch_size")]
    options: list[list[dict[str, Any]]] = []
    for key in keys:
        if key in space:
            # Where a condition does not hold, the recipe's own value applies.
            options.append([{}] if space[key].when else [])
            options[-1] += space[key].assignments(key)
    longest = 0
    for assignments in product(*options):
        values = {key: value for one in assignments for key, value in one.items()}
        longest = max(longest, length(recipe.with_values(values, "tune").adaptation, num_rows))
    return longest


def tuned_variant(recipe: Recipe) -> str:
    """The variant to tune: `tune.variant`, else that with the most injections.

    Of variants with equally many, that which learns from more text.
    """
    if recipe.tune is not None and recipe.tune.variant is not None:
        return recipe.tune.variant

    def amount(variant: str) -> tuple[int, int]:
        chain = recipe.chain_of(variant)
        if chain is None:
            return 0, ("alone", "direct").index(variant)
        return len(chain.steps), max(TEXT_KINDS.index(step.text.kind) for step in chain.steps)

    return max((variant for variant in recipe.variants if variant not in BASELINES), key=amount)


def section_of(path: str) -> str:
    """The section of a searched key: `injection`, `injections.NAME`, `adaptation`."""
    parts = path.split(".")
    return ".".join(parts[: 2 if parts[0] == "injections" else 1])


def _check_path(recipe: Recipe, path: str) -> None:
    if path in CORPUS_KEYS:
        check_corpus_key(recipe, path, tuned_variant(recipe))
        return
    section = section_of(path)
    key = path.removeprefix(section).rpartition(".")[2]
    given = recipe.injection_sections()
    sections = dict.fromkeys(("student", *_INJECTIONS, *given, "adaptation"))
    if section not in sections or not key or key in _FIXED_KEYS:
        raise InputError(
            f"tune.space: trials cannot change {path!r}, because they share corpus, task and "
            f"teacher; search keys of {', '.join(sections)}, written as "
            f"adaptation.learning_rate, other than {', '.join(_FIXED_KEYS)}; or "
            f"{' or '.join(CORPUS_KEYS)}"
        )
    if "generator" in path.split("."):
        raise InputError(
            f"tune.space: trials cannot change {path!r}, because they share the generator that "
            "the run checks or trains before them; search other keys of the objective"
        )
    if section in _INJECTIONS and section not in given:
        raise InputError(
            f"tune.space: {path!r} is searched, but the recipe has no section {section!r}; add "
            "the section, or remove the key"
        )
    _check_is_read(recipe, path, section)
    phase = recipe.adaptation if section == "adaptation" else given.get(section)
    if key == "teacher_layer" and phase and getattr(phase.objective, "cached_teacher", False):
        raise InputError(
            f"tune.space: trials cannot change {path!r}, because they share the cached teacher "
            f"outputs of one layer; set {section}.objective.cached_teacher: false"
        )


def _check_is_read(recipe: Recipe, path: str, section: str) -> None:
    """Refuse a key that changes nothing in the student that is searched."""
    variant = tuned_variant(recipe)
    chain = recipe.chain_of(variant)
    read = {step.section for step in chain.steps} if chain else set()
    if section not in {"student", "adaptation", *read}:
        raise InputError(
            f"tune.space: {path!r} changes nothing in the tuned variant {variant!r}; remove it, or "
            f"set tune.variant to a variant with a step of the section {section}"
        )


def recipes_with(
    recipe: Recipe, fixed: Mapping[str, Any], name: str | None = None
) -> Iterator[Recipe]:
    """Recipes of points of the space with fixed values of some keys, the simplest first.

    Args:
        recipe: has the space.
        fixed: values by key.
        name: parameter whose values they are, where it is a simplex.

    Raises:
        InputError: no point with these values is a recipe.
    """
    shown = ", ".join(f"{key} = {value!r:.60}" for key, value in fixed.items())
    first: InputError | None = None
    found = False
    for point in _points(recipe, fixed, name):
        try:
            changed = recipe.with_values(point, f"tune.space: {shown}")
        except InputError as error:
            first = first or error
        else:
            found = True
            yield changed
    if not found:
        never = InputError(f"tune.space: {shown}: its conditions (when) never hold together")
        raise first or never


def _points(
    recipe: Recipe, fixed: Mapping[str, Any], name: str | None
) -> Iterator[Mapping[str, Any]]:
    """Points with fixed values: of as few parameters as possible, then all or a sample of all."""
    assert recipe.tune is not None
    space = recipe.tune.space

    def options(other: str) -> Sequence[Mapping[str, Any]]:
        if other == name:
            return [fixed]
        return [{other: fixed[other]}] if other in fixed else space[other].assignments(other)

    needed = {other for other in space if other == name or other in fixed}
    while more := {key for other in needed for key in space[other].when} - needed:
        needed |= more
    for part in ({key: space[key] for key in space if key in needed}, space):
        found = list(islice(combinations(part, options), _MAX_COMBINATIONS + 1))
        if len(found) > _MAX_COMBINATIONS:
            chance = random.Random(0)
            found = [random_point(part, options, chance) for _ in range(_MAX_COMBINATIONS)]
        yield from (point for point in found if fixed.keys() <= point.keys())
