"""Searched keys of the contextualized corpus and of the student's first weights."""

import pytest

from raykd.errors import InputError
from raykd.workflow.checks.corpus_keys import largest_values
from raykd.workflow.checks.tune_checks import check_space
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.tune.sampling.space import own_values, params_of

TOP_K, PERCENT, INITS = "retrieval.top_k", "contextualize.top_percent", "student.inits"
LENGTH = "injection.epochs"


def recipe_with(space: dict, *variants: str, **changed) -> Recipe:
    values = {
        "name": "mine",
        "variants": variants or ["contextualized"],
        "task": {"name": "mine", "train": "a", "dev": "b", "sentence_columns": ["text"]},
        "corpus": {"paths": ["corpus"]},
        "retrieval": {"top_k": 5},
        "teacher": {"model": "teacher"},
        "student": {"num_layers": 1, "inits": ["skip", "top"]},
        "injection": {"objective": {"name": "tinybert"}},
        "adaptation": {},
        "tune": {"space": space},
    }
    return Recipe.parse(values | changed, "test")


@pytest.mark.parametrize(
    ("space", "largest"),
    [
        ({TOP_K: {"choice": [2, 10, 3]}}, {TOP_K: 10}),
        ({TOP_K: {"int": [1, 400]}, PERCENT: {"float": [10, 60]}}, {TOP_K: 400, PERCENT: 60}),
        ({PERCENT: {"choice": [10, None]}}, {PERCENT: None}),
        (
            {LENGTH: {"choice": [1, 2]}, TOP_K: {"choice": [2, 3], "when": {LENGTH: 1}}},
            {TOP_K: 5},
        ),
        ({"both": {"keys": [TOP_K, LENGTH], "choice": [[7, 2], [30, 1]]}}, {TOP_K: 30}),
    ],
)
def test_the_search_has_the_largest_value_that_a_trial_can_have(space, largest):
    recipe = recipe_with(space)
    check_space(recipe)
    assert largest_values(recipe) == largest


DENSE = {"top_k": 5, "ranker": "dense", "dense": {"model": "m", "index": {"name": "hnsw"}}}
HYBRID = {"top_k": 5, "ranker": "hybrid", "dense": {"model": "m"}, "fusion": {"candidates": 9}}
CHOICE = {TOP_K: {"choice": [2, 10]}}


@pytest.mark.parametrize(
    ("space", "changed", "problem"),
    [
        (CHOICE, {"variants": ["direct"]}, "changes nothing in the tuned variant 'direct'"),
        (CHOICE, {"variants": ["random"]}, "changes nothing in the tuned variant 'random'"),
        (CHOICE, {"variants": ["random+contextualized"]}, "give the random step num_units"),
        (CHOICE, {"variants": ["dsir+contextualized"]}, "give the dsir step num_units"),
        (CHOICE, {"retrieval": DENSE}, "approximate index 'hnsw'"),
        (CHOICE, {"retrieval": HYBRID}, "fusion.candidates to 10 or more"),
        ({TOP_K: {"choice": [0, 1]}}, {}, "top_k = 0"),
        ({TOP_K: {"choice": ["many"]}}, {}, "top_k = 'many'"),
        ({PERCENT: {"float": [0, 50]}}, {}, "top_percent = 0"),
        (
            {PERCENT: {"choice": [50]}},
            {"contextualize": {"max_units": 9}},
            "max_units and top_percent",
        ),
        ({"retrieval.ranker": {"choice": ["bm25"]}}, {}, "trials cannot change 'retrieval.ranker'"),
        ({INITS: {"choice": [["skip", "top"]]}}, {}, "give one init per choice"),
        ({INITS: {"choice": ["skip", "some"]}}, {}, "inits = 'some'"),
        ({INITS: {"choice": ["layers"]}}, {}, "inits = 'layers'"),
    ],
)
def test_what_no_trial_could_take_is_refused(space, changed, problem):
    with pytest.raises(InputError, match=problem.replace("(", r"\(")):
        check_space(recipe_with(space, **changed))


def test_hits_that_are_fused_from_enough_candidates_can_be_cut():
    hybrid = HYBRID | {"fusion": {"candidates": 10}}
    check_space(recipe_with(CHOICE, retrieval=hybrid))
    check_space(recipe_with({PERCENT: {"choice": [20, 50]}}, retrieval=DENSE))


@pytest.mark.parametrize("choices", [["top", "skip", "random"], [["top"], ["skip"], ["random"]]])
def test_an_init_is_given_by_its_name_or_as_a_list(choices):
    recipe = recipe_with({INITS: {"choice": choices}})
    check_space(recipe)
    assert recipe.with_values({INITS: choices[2]}, "trial").student.inits == ("random",)
    # The recipe's own value is the first of its inits.
    own = own_values(recipe)
    assert own == {INITS: choices[1]}
    assert params_of(own, recipe.tune.space) is not None


def test_inits_can_change_together_with_other_keys():
    together = {"keys": [INITS, LENGTH], "choice": [["random", 9], ["skip", 3]]}
    recipe = recipe_with({"start": together})
    check_space(recipe)
    assert own_values(recipe) == {INITS: "skip", LENGTH: 3}
    assert params_of(own_values(recipe), recipe.tune.space) is not None
