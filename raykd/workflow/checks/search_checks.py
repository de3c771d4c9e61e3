"""Checks of a recipe's search space, made before anything is trained."""

import math
import random
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from raykd.errors import InputError
from raykd.training.injection_config import TEXT_KINDS
from raykd.training.settings import total_epochs
from raykd.workflow.recipe.recipe import Recipe

_INJECTIONS = ("injection", "task_da_injection")
# These decide what is cached for all trials, or which other keys there are.
_FIXED_KEYS = (
    *("max_length", "inits", "model", "name", "cached_teacher"),
    *("teacher", "teacher_model", "text", "corpus", "num_units"),
)
# Of the other keys' values, how many combinations a value is tried with before it is refused.
_MAX_COMBINATIONS = 256


def check_space(recipe: Recipe) -> None:
    """Refuse keys that trials cannot change, and values that no trial could take.

    Raises:
        InputError: names the key, and the value where one is wrong.
    """
    assert recipe.search is not None
    space = recipe.search.space
    for path in space:
        _check_path(recipe, path)
    for path, parameter in space.items():
        for value in parameter.values():
            _check_value(recipe, path, value)
    if recipe.adaptation.num_steps is None and "adaptation.num_steps" not in space:
        check_grace(recipe, most_epochs(recipe, num_rows=1))


def check_grace(recipe: Recipe, num_epochs: int) -> None:
    """Refuse an early stop that could come only after the last epoch.

    Raises:
        InputError: `search.grace_epochs` is above the epochs of the longest trial.
    """
    assert recipe.search is not None
    if recipe.search.grace_epochs > num_epochs:
        raise InputError(
            f"search.grace_epochs {recipe.search.grace_epochs}: the longest trial has "
            f"{num_epochs} epochs, so that none could be stopped early; set it to at most "
            f"{num_epochs} ({num_epochs} stops none)"
        )


def most_epochs(recipe: Recipe, num_rows: int) -> int:
    """Epochs of the longest trial that the space allows, on `num_rows` training rows."""
    assert recipe.search is not None
    space = recipe.search.space
    keys = [f"adaptation.{key}" for key in ("epochs", "num_steps", "batch_size")]
    searched = [key for key in keys if key in space]
    return max(
        total_epochs(
            recipe.with_values(dict(zip(searched, values, strict=True)), "search").adaptation,
            num_rows,
        )
        for values in product(*(space[key].values() for key in searched))
    )


def searched_arm(recipe: Recipe) -> str:
    """The arm whose settings are searched: `search.arm`, else that with the most injections.

    Of arms with equally many, that which learns from more text.
    """
    if recipe.search is not None and recipe.search.arm is not None:
        return recipe.search.arm

    def amount(arm: str) -> tuple[int, int]:
        chain = recipe.chain_of(arm)
        if chain is None:
            return 0, ("alone", "direct").index(arm)
        return len(chain.steps), max(TEXT_KINDS.index(step.text.kind) for step in chain.steps)

    return max((arm for arm in recipe.arms if arm != "tfidf"), key=amount)


def section_of(path: str) -> str:
    """The section of a searched key: `injection`, `injections.NAME`, `adaptation`."""
    parts = path.split(".")
    return ".".join(parts[: 2 if parts[0] == "injections" else 1])


def _check_path(recipe: Recipe, path: str) -> None:
    section = section_of(path)
    key = path.removeprefix(section).rpartition(".")[2]
    given = recipe.injection_sections()
    sections = dict.fromkeys(("student", *_INJECTIONS, *given, "adaptation"))
    if section not in sections or not key or key in _FIXED_KEYS:
        raise InputError(
            f"search.space: trials cannot change {path!r}, because they share corpus, task and "
            f"teacher; search keys of {', '.join(sections)}, written as "
            f"adaptation.learning_rate, other than {', '.join(_FIXED_KEYS)}"
        )
    if "generator" in path.split("."):
        raise InputError(
            f"search.space: trials cannot change {path!r}, because they share the generator that "
            "the run checks or trains before them; search other keys of the objective"
        )
    if section in _INJECTIONS and section not in given:
        raise InputError(
            f"search.space: {path!r} is searched, but the recipe has no section {section!r}; add "
            "the section, or remove the key"
        )
    _check_is_read(recipe, path, section)
    phase = recipe.adaptation if section == "adaptation" else given.get(section)
    if key == "teacher_layer" and phase and getattr(phase.objective, "cached_teacher", False):
        raise InputError(
            f"search.space: trials cannot change {path!r}, because they share the cached teacher "
            f"outputs of one layer; set {section}.objective.cached_teacher: false"
        )


def _check_is_read(recipe: Recipe, path: str, section: str) -> None:
    """Refuse a key that changes nothing in the student that is searched."""
    arm = searched_arm(recipe)
    chain = recipe.chain_of(arm)
    read = {step.section for step in chain.steps} if chain else set()
    if section not in {"student", "adaptation", *read}:
        raise InputError(
            f"search.space: {path!r} changes nothing in the searched arm {arm!r}; remove it, or "
            f"set search.arm to an arm with a step of the section {section}"
        )


def _check_value(recipe: Recipe, path: str, value: Any) -> None:
    """A value is right if some combination with the other keys' values is."""
    first: InputError | None = None
    for others in _combinations(recipe, path):
        try:
            recipe.with_values({**others, path: value}, f"search.space: {path} = {value!r:.60}")
        except InputError as error:
            first = first or error
        else:
            return
    assert first is not None
    raise first


def _combinations(recipe: Recipe, path: str) -> Iterator[Mapping[str, Any]]:
    """The recipe's own values, then all combinations of the other keys' values or a sample."""
    assert recipe.search is not None
    others = {key: one.values() for key, one in recipe.search.space.items() if key != path}
    yield {}
    if math.prod(map(len, others.values())) <= _MAX_COMBINATIONS:
        for values in product(*others.values()):
            yield dict(zip(others, values, strict=True))
        return
    chance = random.Random(0)
    for _ in range(_MAX_COMBINATIONS):
        yield {key: chance.choice(values) for key, values in others.items()}
