"""Recipes with class weights and label smoothing: what they accept, refuse and describe."""

import pytest

from raykd.errors import InputError
from raykd.training.phase.config import PhaseConfig
from raykd.workflow.checks.describe import describe_gold_labels
from raykd.workflow.checks.tune_checks import check_space
from raykd.workflow.recipe.recipe import Recipe

BALANCED = {"class_weights": "balanced"}


def values_with(**changes) -> dict:
    values = {
        "name": "weighted",
        "variants": ["alone", "direct"],
        "task": {
            "name": "mine",
            "train": "t.csv",
            "dev": "d.csv",
            "sentence_columns": ["text"],
            "labels": ["good", "bad"],
        },
        "teacher": {"model": "base"},
        "student": {"num_layers": 2},
        "adaptation": {"objective": {"name": "vanilla_kd"}},
    }
    return values | changes


def problem_of(**changes) -> str:
    with pytest.raises(InputError) as caught:
        Recipe.parse(values_with(**changes), "recipe")
    return str(caught.value)


def test_teacher_adaptation_and_alone_have_weights_and_smoothing_of_their_own():
    recipe = Recipe.parse(
        values_with(
            teacher={"model": "base", "class_weights": {"bad": 2, "good": 0.5}},
            adaptation={"class_weights": "balanced", "label_smoothing": 0.1},
            alone={"label_smoothing": 0.2},
        ),
        "recipe",
    )
    assert recipe.teacher.class_weights == {"bad": 2.0, "good": 0.5}
    assert recipe.adaptation.class_weights == "balanced"
    assert recipe.alone is not None
    assert recipe.alone.label_smoothing == 0.2


@pytest.mark.parametrize("section", ["teacher", "adaptation", "alone"])
def test_regression_refuses_both(section):
    task = {k: v for k, v in values_with()["task"].items() if k != "labels"} | {"regression": True}
    for key, value in (("class_weights", "balanced"), ("label_smoothing", 0.1)):
        sections = {"teacher": {"model": "base"}, "adaptation": {}, "alone": {}}
        sections[section][key] = value
        problem = problem_of(task=task, **sections)
        assert f"{section}.{key}: the task 'mine' is a regression" in problem
        assert "remove it" in problem


def test_trainings_without_gold_labels_refuse_both():
    objective = {"name": "vanilla_kd", "task_weight": 0}
    problem = problem_of(adaptation={"objective": objective, **BALANCED})
    assert "adaptation.class_weights: the objective 'vanilla_kd' gives the gold labels" in problem
    problem = problem_of(injection={"objective": objective, **BALANCED}, variants=["task"])
    assert "injection.class_weights: an injection runs on text without gold labels" in problem
    problem = problem_of(teacher={"model": "base", "fine_tuned": True, "label_smoothing": 0.1})
    assert "teacher.label_smoothing: the teacher is fine-tuned already" in problem
    scored = {"scores": "scores.csv", "label_smoothing": 0.1}
    problem = problem_of(teacher=scored, student={"model": "small"})
    assert "remove label_smoothing" in problem


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"good": 1, "worse": 2}, "'worse' is no class of the task, and the task's class 'bad'"),
        ({"good": 1}, "the task's class 'bad' has no weight"),
        ({}, "has no weight"),
        ({"good": 1, "bad": 0}, "greater than 0"),
        ({"good": 1, "bad": -1}, "greater than 0"),
        ({"good": 1, "bad": float("inf")}, "finite"),
        ("equal", "balanced"),
    ],
)
def test_weights_of_other_classes_and_without_a_positive_number_are_refused(weights, expected):
    problem = problem_of(adaptation={"class_weights": weights})
    assert "adaptation.class_weights" in problem
    assert expected in problem


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_is_a_share_below_one(smoothing):
    assert "adaptation.label_smoothing" in problem_of(adaptation={"label_smoothing": smoothing})


def test_settings_of_earlier_runs_are_unchanged_without_the_new_keys():
    config = PhaseConfig()
    assert not {"class_weights", "label_smoothing"} & config.determining().keys()
    smoothed = PhaseConfig(label_smoothing=0.1).determining()
    assert smoothed == config.determining() | {"label_smoothing": 0.1}


def test_the_plan_has_a_line_per_training_with_weights_or_smoothing():
    lines = describe_gold_labels(
        {
            "teacher": PhaseConfig(class_weights={"good": 1, "bad": 2.5}),
            "adaptation": PhaseConfig(class_weights="balanced", label_smoothing=0.1),
            "alone": PhaseConfig(),
        }
    )
    assert lines == [
        "gold labels   teacher: class weights good 1, bad 2.5",
        "gold labels   adaptation: class weights balanced; label smoothing 0.1",
    ]


def test_both_can_be_searched():
    space = {
        "adaptation.class_weights": {"choice": [None, "balanced", {"good": 1, "bad": 3}]},
        "adaptation.label_smoothing": {"float": [0.0, 0.2]},
    }
    recipe = Recipe.parse(values_with(tune={"space": space, "num_trials": 2}), "recipe")
    check_space(recipe)


def multi_label(**changes) -> dict:
    task = values_with()["task"] | {"multi_label": True}
    return {"task": task, **changes}


def test_a_multi_label_task_is_accepted_with_every_objective_on_logits_and_layers():
    for objective in ("vanilla_kd", "ad2", "rail_kd", "pkd", "fine_tune", "cilda", "mate_kd"):
        Recipe.parse(
            values_with(**multi_label(adaptation={"objective": {"name": objective}})), "recipe"
        )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"adaptation": {"objective": {"name": "codir"}}},
            "adaptation.objective 'codir': its bank has negatives of another class",
        ),
        (
            {
                "variants": ["task"],
                "injection": {
                    "objective": {"name": "codir", "task_weight": 0},
                    "class_weights": "balanced",
                },
            },
            "injection.class_weights: the task 'mine' is multi-label",
        ),
        ({"adaptation": BALANCED}, "adaptation.class_weights: the task 'mine' is multi-label"),
        ({"teacher": {"model": "base", "label_smoothing": 0.1}}, "teacher.label_smoothing: the"),
        (
            {"teacher": {"scores": "s.csv"}, "student": {"model": "small"}},
            "teacher.scores: its probabilities are of tasks with one class per row",
        ),
        (
            {
                "task_da": "rows",
                "variants": ["task_da"],
                "injection": {"objective": {"name": "vanilla_kd", "task_weight": 0}},
            },
            "task_da: raykd augment reads rows with one class",
        ),
        (
            {
                "evaluation": {
                    "sets": [
                        {
                            "name": "other",
                            "path": "o.csv",
                            "labels": ["x", "y"],
                            "label_map": {"good": "x", "bad": "y"},
                        }
                    ]
                }
            },
            "evaluation.sets.0 (other): the task 'mine' is multi-label: a probability of a merged",
        ),
    ],
)
def test_what_needs_one_class_per_row_is_refused(changes, expected):
    assert expected in problem_of(**multi_label(**changes))
