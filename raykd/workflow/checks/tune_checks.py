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
    assert recipe.tune is not None
    space = recipe.tune.space
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
        InputError: `tune.grace_epochs` is above the epochs of the longest trial.
    """
    assert recipe.tune is not None
    if recipe.tune.grace_epochs > num_epochs:
        raise InputError(
            f"tune.grace_epochs {recipe.tune.grace_epochs}: the longest trial has "
            f"{num_epochs} epochs, so that none could be stopped early; set it to at most "
            f"{num_epochs} ({num_epochs} stops none)"
        )


def most_epochs(recipe: Recipe, num_rows: int) -> int:
    """Epochs of the longest trial that the space allows, on `num_rows` training rows."""
    assert recipe.tune is not None
    space = recipe.tune.space
    keys = [f"adaptation.{key}" for key in ("epochs", "num_steps", "batch_size")]
    searched = [key for key in keys if key in space]
    return max(
        total_epochs(
            recipe.with_values(dict(zip(searched, values, strict=True)), "tune").adaptation,
            num_rows,
        )
        for values in product(*(space[key].values() for key in searched))
    )


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

    return max((variant for variant in recipe.variants if variant != "tfidf"), key=amount)


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
            f"tune.space: trials cannot change {path!r}, because they share corpus, task and "
            f"teacher; search keys of {', '.join(sections)}, written as "
            f"adaptation.learning_rate, other than {', '.join(_FIXED_KEYS)}"
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


def _check_value(recipe: Recipe, path: str, value: Any) -> None:
    """A value is right if some combination with the other keys' values is."""
    first: InputError | None = None
    for others in _combinations(recipe, path):
        try:
            recipe.with_values({**others, path: value}, f"tune.space: {path} = {value!r:.60}")
        except InputError as error:
            first = first or error
        else:
            return
    assert first is not None
    raise first


def _combinations(recipe: Recipe, path: str) -> Iterator[Mapping[str, Any]]:
    """The recipe's own values, then all combinations of the other keys' values or a sample."""
    assert recipe.tune is not None
    others = {key: one.values() for key, one in recipe.tune.space.items() if key != path}
    yield {}
    if math.prod(map(len, others.values())) <= _MAX_COMBINATIONS:
        for values in product(*others.values()):
            yield dict(zip(others, values, strict=True))
        return
    chance = random.Random(0)
    for _ in range(_MAX_COMBINATIONS):
        yield {key: chance.choice(values) for key, values in others.items()}
