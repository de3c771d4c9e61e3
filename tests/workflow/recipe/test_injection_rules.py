"""Rules on injections whose students are left as they are (`adapt: false`)."""

import pytest

from raykd.errors import InputError
from raykd.workflow.generators import generating_phases
from raykd.workflow.recipe.recipe import Recipe

ANSWERS = {"name": "vanilla_kd", "task_weight": 0, "logit_weight": 1}
HIDDEN = {"name": "minilmv2", "relation_heads": 12}


def recipe_with(variants: list[str], **injections) -> Recipe:
    values = {
        "name": "mine",
        "variants": variants,
        "task": {"name": "mine", "train": "a", "dev": "b", "sentence_columns": ["text"]},
        "teacher": {"model": "teacher"},
        "student": {"num_layers": 1},
        "injections": {name: {"text": "task", **one} for name, one in injections.items()},
        "adaptation": {},
    }
    return Recipe.parse(values, "recipe.yaml")


def test_only_the_last_injection_of_a_variant_decides_whether_it_is_adapted():
    recipe = recipe_with(
        ["alone", "first", "first+last"],
        first={"objective": ANSWERS, "adapt": False},
        last={"objective": ANSWERS, "learning_rate": 1e-3},
    )
    assert [recipe.adapts(name) for name in recipe.variants] == [True, False, True]


def test_a_student_without_a_trained_classifier_has_to_be_adapted():
    with pytest.raises(InputError, match=r"injections\.hidden\.adapt: false .* 'minilmv2' does no"):
        recipe_with(["hidden"], hidden={"objective": HIDDEN, "adapt": False})
    # Before another injection, it is not the one that is left.
    recipe = recipe_with(
        ["hidden+answers"],
        hidden={"objective": HIDDEN, "adapt": False},
        answers={"objective": ANSWERS, "adapt": False},
    )
    assert not recipe.adapts("hidden+answers")


def test_a_generator_of_an_adaptation_that_is_left_out_is_not_needed():
    step = {"objective": ANSWERS, "adapt": False}
    recipe = recipe_with(["kept"], kept=step)
    assert generating_phases(with_mate_kd(recipe)) == {}
    adapted = recipe_with(["kept", "direct"], kept=step)
    assert list(generating_phases(with_mate_kd(adapted))) == ["adaptation"]


def with_mate_kd(recipe: Recipe) -> Recipe:
    return recipe.with_values({"adaptation.objective": {"name": "mate_kd"}}, "recipe.yaml")
