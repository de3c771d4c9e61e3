"""Search spaces: conditions, grids, weights, and their values as Optuna sees them."""

import json
import random
import warnings

import numpy as np
import optuna
import pytest
from test_tuning import with_search

from raykd.errors import InputError
from raykd.workflow.checks.tune_checks import check_space
from raykd.workflow.recipe.tune_config import TuneConfig
from raykd.workflow.recipe.tune_points import grid, in_order, random_point
from raykd.workflow.recipe.tune_space import Parameter
from raykd.workflow.tune.sampling.space import own_values, params_of, sample

OBJECTIVE = "adaptation.objective"
RATE = "adaptation.learning_rate"
WEIGHTS = [f"{OBJECTIVE}.{key}_weight" for key in ("task", "logit", "layer")]


def space_of(**parameters) -> dict[str, Parameter]:
    space = {name.replace("__", "."): values for name, values in parameters.items()}
    return TuneConfig.parse({"space": space}, "test").space


def points_of(space: dict[str, Parameter]) -> list[dict]:
    return grid(space, 1000)


def test_a_parameter_is_searched_only_where_its_condition_holds():
    space = space_of(
        method={"choice": ["cilda", "rail_kd", {"name": "pkd", "normalize": True}]},
        steps={"int": [1, 2], "when": {"method": "cilda"}},
        map={"choice": ["skip", "last"], "when": {"method": ["pkd", "rail_kd"]}},
        deep={"choice": [7], "when": {"map": "skip", "method": "pkd"}},
    )
    pkd = {"name": "pkd", "normalize": True}
    assert points_of(space) == [
        {"method": "cilda", "steps": 1},
        {"method": "cilda", "steps": 2},
        {"method": "rail_kd", "map": "skip"},
        {"method": "rail_kd", "map": "last"},
        {"method": pkd, "map": "skip", "deep": 7},
        {"method": pkd, "map": "last"},
    ]


def test_a_condition_can_come_before_the_key_that_it_names():
    space = space_of(
        b={"choice": [1], "when": {"a": 2}}, c={"choice": [3], "when": {"b": 1}}, a={"int": [1, 2]}
    )
    assert in_order(space) == ["a", "b", "c"]
    assert points_of(space) == [{"a": 1}, {"a": 2, "b": 1, "c": 3}]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"absent": 1}, "'absent' is no other searched key; choose from a, r"),
        ({"b": 1}, "'b' is no other searched key"),
        ({"a": "third"}, "'a' is never 'third'; its values are first, second"),
        ({"a": ["first", "third"]}, "'a' is never 'third'"),
        ({"a": []}, "'a' has no values"),
        ({"r": 0.5}, "'r' is a range of any number"),
    ],
)
def test_a_condition_that_cannot_hold_is_refused(when, message):
    with pytest.raises(InputError, match=message):
        space_of(
            a={"choice": ["first", "second"]}, b={"choice": [1], "when": when}, r={"float": [0, 1]}
        )


def test_conditions_in_a_circle_are_refused():
    with pytest.raises(InputError, match="the conditions of a, b form a circle"):
        space_of(a={"choice": [1], "when": {"b": 1}}, b={"choice": [1], "when": {"a": 1}})


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ({"float": [0.0, 1.0], "step": 0.3}, "step 0.3: from 0 it does not reach 1"),
        ({"int": [1, 8], "step": 1.5}, "an int range needs a whole number"),
        ({"float": [0.1, 1.0], "step": 0.1, "log": True}, "step is for a float or int range"),
        ({"choice": [1], "step": 1}, "step is for a float or int range"),
        ({"float": [0.0, 1.0], "log": True}, "log needs a float or int range above 0"),
        ({"float": [1.0, 0.0]}, "low must be below high"),
        ({"float": [1.0, 1.0]}, "low must be below high"),
        ({"choice": []}, "at least 1"),
        ({"choice": [1, 1]}, "1: a value appears twice"),
        ({"choice": ["1", 1]}, "1: a value appears twice"),
        ({"choice": [[1.0, float("nan")]]}, "every number must be finite"),
        ({"choice": [1], "total": 1}, "total and low are keys of a simplex"),
        ({"simplex": ["a.b"]}, "two or more different keys"),
        ({"simplex": ["a.b", "a.b"]}, "two or more different keys"),
        ({"simplex": ["a.b", "a.c"], "low": 0.5}, "2 weights of at least 0.5 cannot sum to 1"),
        ({"simplex": ["a.b", "a.c"], "step": 0.3}, "weights 0.3, 0.6, ... cannot sum to 1"),
        ({"simplex": ["a.b", "a.c", "a.d"], "step": 0.005}, "weightings, the most is 2,000"),
    ],
)
def test_a_parameter_that_has_no_values_is_refused(parameter, message):
    with pytest.raises(InputError, match=message):
        space_of(weights=parameter)


def test_ranges_with_steps_have_exact_values():
    space = space_of(a={"float": [0.1, 0.7], "step": 0.2}, b={"int": [2, 8], "step": 3})
    assert space["a"].steps() == (0.1, 0.3, 0.5, 0.7)
    assert space["b"].steps() == (2, 5, 8)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = {sample(study.ask(), space)["a"] for _ in range(50)}
    assert drawn == {0.1, 0.3, 0.5, 0.7}


def test_sampled_weights_sum_to_their_total_and_are_uniform():
    space = space_of(weights={"simplex": WEIGHTS, "total": 3.0, "low": 0.3})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    values = [sample(study.ask(), space) for _ in range(2000)]
    weights = np.array([[point[key] for key in WEIGHTS] for point in values])
    assert np.allclose(weights.sum(axis=1), 3.0, atol=1e-9)
    assert weights.min() >= 0.3
    shares = (weights - 0.3) / 2.1
    # Of uniform weights of three keys, each has mean 1/3 and variance 1/18.
    assert shares.mean(axis=0) == pytest.approx([1 / 3] * 3, abs=0.02)
    assert shares.var(axis=0) == pytest.approx([1 / 18] * 3, abs=0.005)


def test_weights_with_a_step_are_all_ways_to_sum():
    space = space_of(weights={"simplex": WEIGHTS[:2], "step": 0.25, "low": 0})
    assert [tuple(point.values()) for point in points_of(space)] == [
        (0.0, 1.0),
        (0.25, 0.75),
        (0.5, 0.5),
        (0.75, 0.25),
        (1.0, 0.0),
    ]


def test_a_weight_is_at_least_a_step_or_a_hundredth_of_the_total():
    assert space_of(w={"simplex": WEIGHTS, "step": 0.25})["w"].lowest_weight == 0.25
    assert space_of(w={"simplex": WEIGHTS, "total": 2})["w"].lowest_weight == 0.02


def test_a_key_cannot_be_searched_twice_at_once():
    simplex = {"simplex": WEIGHTS}
    other = {"float": [0.1, 1.0]}
    with pytest.raises(InputError, match=f"'{WEIGHTS[0]}' is searched by 'weights' and by"):
        TuneConfig.parse({"space": {"weights": simplex, WEIGHTS[0]: other}}, "test")
    TuneConfig.parse(
        {
            "space": {
                OBJECTIVE: {"choice": ["rail_kd", "ad2"]},
                "weights": simplex | {"when": {OBJECTIVE: "rail_kd"}},
                WEIGHTS[0]: other | {"when": {OBJECTIVE: "ad2"}},
            }
        },
        "test",
    )


def test_a_simplex_needs_a_name_that_is_no_key():
    with pytest.raises(InputError, match=r"needs a name of its own, such as weights"):
        TuneConfig.parse({"space": {OBJECTIVE: {"simplex": WEIGHTS}}}, "test")


MIXED = {
    "map": {"choice": ["skip", {1: 2, 2: 4}, [1, 2], None, True, 3]},
    "rate": {"float": [1e-5, 1e-3], "log": True},
    "size": {"choice": [8, 16, 32]},
    "steps": {"int": [1, 9], "step": 2, "when": {"map": ["skip", [1, 2]]}},
    "weights": {"simplex": ["o.a", "o.b", "o.c"], "when": {"size": 8}},
    "few": {"simplex": ["p.a", "p.b"], "step": 0.5, "low": 0},
}


def test_values_of_any_kind_are_sampled_without_a_warning_and_found_again():
    space = space_of(**MIXED)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(60):
            trial = study.ask()
            values = sample(trial, space)
            assert params_of(json.loads(json.dumps(values)), space) == pytest.approx(
                trial.params, abs=1e-6
            )
            seen.append(values["map"])
    assert all(choice in seen for choice in ("skip", {"1": 2, "2": 4}, [1, 2], None, True, 3))


def test_values_outside_of_the_space_have_no_params():
    space = space_of(**MIXED)
    inside = {
        **{"map": None, "rate": 1e-4, "size": 8, "p.a": 0.5, "p.b": 0.5},
        **{"o.a": 0.2, "o.b": 0.3, "o.c": 0.5},
    }
    assert params_of(inside, space) is not None
    for key, value in (
        *(("map", "first"), ("rate", 1e-2), ("rate", None), ("size", 9)),
        *(("o.a", 0.4), ("o.a", None), ("p.a", 0.4)),
    ):
        assert params_of(inside | {key: value}, space) is None, key
    assert params_of(inside | {"map": "skip", "steps": 2}, space) is None
    assert params_of(inside | {"map": "skip", "steps": 3}, space) is not None


def test_a_random_point_keeps_the_conditions():
    space = space_of(**{key: MIXED[key] for key in ("map", "steps")})
    chance = random.Random(1)
    points = [
        random_point(space, lambda name: space[name].assignments(name), chance) for _ in range(100)
    ]
    assert {"steps" in point for point in points} == {True, False}
    assert all(("steps" in point) == (point["map"] in ("skip", [1, 2])) for point in points)


def test_a_recipe_takes_a_whole_objective_by_name_and_then_its_keys():
    recipe = with_search({RATE: {"choice": [1e-4]}})
    changed = recipe.with_values(
        {f"{OBJECTIVE}.layer_weight": 0.7, OBJECTIVE: "rail_kd", RATE: 1e-4}, "test"
    )
    assert changed.adaptation.objective.name == "rail_kd"
    assert changed.adaptation.objective.layer_weight == 0.7
    assert changed.adaptation.objective.projection_size == 128
    with pytest.raises(InputError, match=r"'rail' is no objective; choose ad2, alp_kd"):
        recipe.with_values({OBJECTIVE: "rail"}, "test")
    with pytest.raises(InputError, match="unknown key 'layers'"):
        recipe.with_values({OBJECTIVE: {"name": "rail_kd", "layers": 3}}, "test")


METHODS = {
    OBJECTIVE: {"choice": ["vanilla_kd", {"name": "rail_kd", "variant": "concatenated"}, "pkd"]},
    "weights": {"simplex": WEIGHTS, "when": {OBJECTIVE: ["rail_kd", "pkd"]}},
    f"{OBJECTIVE}.layer_map": {"choice": ["skip", {1: 2, 2: 3}], "when": {OBJECTIVE: "pkd"}},
    f"{OBJECTIVE}.temperature": {"choice": [1.0, 2.0], "when": {OBJECTIVE: "vanilla_kd"}},
}


def test_keys_of_a_searched_objective_are_checked_under_their_conditions():
    check_space(with_search(METHODS))
    unconditional = METHODS | {f"{OBJECTIVE}.layer_map": {"choice": ["skip"]}}
    # The key is known in some trials only; those of other objectives would all be refused.
    check_space(with_search(unconditional))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {f"{OBJECTIVE}.layer_map": {"choice": ["skip", "middle"], "when": {OBJECTIVE: "pkd"}}},
            "layer_map = 'middle'",
        ),
        ({OBJECTIVE: {"choice": ["vanilla_kd", "pkd", "rail_kd", "distil"]}}, "is no objective"),
        ({OBJECTIVE: {"choice": ["vanilla_kd", "pkd", "rail_kd", "minilmv2"]}}, "classifier"),
        (
            {f"{OBJECTIVE}.layer_maps": {"choice": ["skip"], "when": {OBJECTIVE: "pkd"}}},
            "no key 'adaptation.objective.layer_maps'",
        ),
    ],
)
def test_a_wrong_value_or_key_of_a_searched_objective_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        check_space(with_search(METHODS | changes))


def test_a_simplex_that_the_objective_refuses_is_refused():
    space = {"weights": {"simplex": WEIGHTS, "total": 2.0}}
    recipe = with_search(space, "rail_kd")
    check_space(recipe)
    with_total = recipe.with_values({OBJECTIVE: {"name": "rail_kd", "total_weight": 1.0}}, "test")
    with pytest.raises(InputError, match="sum to 2, but total_weight is 1"):
        check_space(with_total)


def test_the_recipes_own_values_are_found_in_the_space():
    recipe = with_search(METHODS | {RATE: {"float": [1e-5, 1e-3], "log": True}}, "rail_kd")
    assert recipe.tune is not None
    # The own objective has another variant than the choice.
    assert params_of(own_values(recipe), recipe.tune.space) is None
    own = {"name": "rail_kd", "variant": "concatenated", "task_weight": 0.5, "logit_weight": 0.3}
    recipe = recipe.with_values({OBJECTIVE: own | {"layer_weight": 0.2}, RATE: 1e-4}, "test")
    params = params_of(own_values(recipe), recipe.tune.space)
    assert params is not None
    study = optuna.create_study()
    study.enqueue_trial(params)
    values = sample(study.ask(), recipe.tune.space)
    assert values == {
        OBJECTIVE: {"name": "rail_kd", "variant": "concatenated"},
        WEIGHTS[0]: pytest.approx(0.5),
        WEIGHTS[1]: pytest.approx(0.3),
        WEIGHTS[2]: pytest.approx(0.2),
        RATE: 1e-4,
    }


def test_keys_that_change_together_are_one_parameter():
    keys = {"keys": WEIGHTS[:2], "choice": [[0.8, 0.1], [0.5, 0.25]]}
    space = space_of(alpha=keys)
    assert points_of(space) == [
        {WEIGHTS[0]: 0.8, WEIGHTS[1]: 0.1},
        {WEIGHTS[0]: 0.5, WEIGHTS[1]: 0.25},
    ]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    trial = study.ask()
    values = sample(trial, space)
    assert trial.params == {"alpha": f"[{values[WEIGHTS[0]]}, {values[WEIGHTS[1]]}]"}
    assert params_of(values, space) == trial.params
    for wrong in ({"choice": [[0.8]]}, {"choice": [0.8]}, {"keys": WEIGHTS[:1]}):
        with pytest.raises(InputError, match="one per key|two or more different keys"):
            space_of(alpha=keys | wrong)
    with pytest.raises(InputError, match="a choice of their values"):
        space_of(alpha={"keys": WEIGHTS[:2], "int": [1, 2]})


def test_optuna_knows_objectives_by_their_names_where_these_differ():
    named = {"name": "rail_kd", "variant": "concatenated"}
    space = space_of(objective={"choice": ["pkd", named]})
    assert params_of({"objective": named}, space) == {"objective": "rail_kd"}
    assert params_of({"objective": {"name": "rail_kd"}}, space) is None
    both = space_of(objective={"choice": ["rail_kd", named]})
    assert params_of({"objective": named}, both) == {
        "objective": "{name: rail_kd, variant: concatenated}"
    }
