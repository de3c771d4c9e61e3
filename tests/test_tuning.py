"""Which student a search is about."""

from typing import get_args

import pytest

from raykd.arms import TASK_DA_ARMS, Arm
from raykd.errors import InputError
from raykd.recipe import Recipe
from raykd.tuning import better, check_space, searched_arm


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
    return Recipe.parse(
        values | ({"task_da": "augmented"} if {*arms} & {*TASK_DA_ARMS} else {}), "test"
    )


@pytest.mark.parametrize("arm", sorted(set(get_args(Arm)) - {"tfidf"}))
def test_the_only_student_of_a_recipe_is_searched_whichever_it_is(arm):
    assert searched_arm(recipe_with("tfidf", arm)) == arm


def test_of_several_students_that_is_searched_which_learns_from_most_text():
    assert searched_arm(recipe_with("alone", "direct", "task", "task_da")) == "task_da"
    assert searched_arm(recipe_with("alone", "random", "contextualized")) == "contextualized"
    both = recipe_with("contextualized", "contextualized_task_da")
    assert searched_arm(both) == "contextualized_task_da"


def test_a_trial_that_keeps_its_best_state_is_judged_by_that_states_scores():
    first = {"epoch": 1.0, "whole": 0, "f1": 0.8, "accuracy": 0.5}
    assert better({}, {"f1": 0.1, "accuracy": 0.2}, "f1") == {"f1": 0.1, "accuracy": 0.2}
    assert better(first, {"f1": 0.7, "accuracy": 0.9}, "f1") == {"f1": 0.8, "accuracy": 0.5}
    assert better(first, {"f1": 0.9, "accuracy": 0.4}, "f1") == {"f1": 0.9, "accuracy": 0.4}


def searching(path: str, *, cached: bool) -> Recipe:
    values = recipe_with("contextualized").model_dump(mode="json")
    values["injection"] = {"objective": {"name": "minilmv2", "cached_teacher": cached}}
    values["search"] = {"space": {path: {"choice": [1, 2]}}}
    return Recipe.parse(values, "test")


def test_trials_do_not_search_the_layer_that_they_share_from_a_cache():
    path = "injection.objective.teacher_layer"
    check_space(searching(path, cached=False))
    with pytest.raises(InputError, match=f"cannot change '{path}'.*cached_teacher: false"):
        check_space(searching(path, cached=True))
