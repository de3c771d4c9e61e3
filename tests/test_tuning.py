"""Which student a search is about."""

from typing import get_args

import pytest

from raykd.recipe import Arm, Recipe
from raykd.tuning import searched_arm


def recipe_with(*arms: str) -> Recipe:
    values = {
        "name": "mine",
        "arms": arms,
        "task": {"name": "mine", "train": "a", "dev": "b", "sentence_columns": ["text"]},
        "corpus": {"paths": ["corpus"]},
        "retrieval": {"top_k": 1},
        "teacher": {"model": "teacher"},
        "student": {"num_layers": 1},
        "injection": {"objective": {"name": "tinybert"}},
        "adaptation": {},
    }
    return Recipe.parse(values | ({"task_da": "augmented"} if "task_da" in arms else {}), "test")


@pytest.mark.parametrize("arm", sorted(set(get_args(Arm)) - {"tfidf"}))
def test_the_only_student_of_a_recipe_is_searched_whichever_it_is(arm):
    assert searched_arm(recipe_with("tfidf", arm)) == arm


def test_of_several_students_that_is_searched_which_learns_from_most_text():
    assert searched_arm(recipe_with("alone", "direct", "task", "task_da")) == "task_da"
    assert searched_arm(recipe_with("alone", "random", "contextualized")) == "contextualized"
