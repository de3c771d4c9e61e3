"""Recipes whose teacher is known by its scores: short forms, and what they refuse."""

import pytest
import yaml

from raykd.config import dump_yaml
from raykd.errors import InputError
from raykd.operations.submitted_files import _References
from raykd.workflow.checks.describe import describe_scores
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.recipe.recipe_file import load_recipe


def values_with(**changes) -> dict:
    values = {
        "name": "scored",
        "variants": ["alone", "direct"],
        "task": {"name": "mine", "train": "t.csv", "dev": "d.csv", "sentence_columns": ["text"]},
        "teacher": {"scores": "scores.csv"},
        "student": {"model": "small"},
        "adaptation": {"objective": {"name": "vanilla_kd"}},
    }
    return values | changes


def problem_of(**changes) -> str:
    with pytest.raises(InputError) as caught:
        Recipe.parse(values_with(**changes), "recipe")
    return str(caught.value)


@pytest.mark.parametrize(
    ("scores", "paths"),
    [
        ("scores.csv", ("scores.csv",)),
        (["a.csv", "b.csv"], ("a.csv", "b.csv")),
        ({"paths": ["a.csv"], "kind": "logits"}, ("a.csv",)),
    ],
)
def test_short_forms_and_paths_relative_to_the_recipe(tmp_path, scores, paths):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values_with(teacher={"scores": scores})))
    recipe = load_recipe(path)
    assert recipe.teacher.scores.paths == tuple(str(tmp_path / name) for name in paths)
    assert recipe.teacher.model is None
    path.write_text(dump_yaml(recipe))
    assert load_recipe(path) == recipe


def test_files_of_scores_are_sent_with_a_job(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values_with(teacher={"scores": ["a.csv", "b.csv"]})))
    files = _References(path).tasks
    assert files["teacher.scores.paths.0"] == "a.csv"
    assert files["teacher.scores.paths.1"] == "b.csv"


def test_training_settings_of_a_preset_are_not_those_of_scores(tmp_path):
    path = tmp_path / "recipe.yaml"
    injection = {"objective": {"name": "annealing_kd"}}
    corpus = {"corpus": {"paths": ["corpus"]}, "retrieval": {"top_k": 3}}
    values = values_with(preset="contextualized", injection=injection, **corpus)
    path.write_text(yaml.safe_dump(values))
    recipe = load_recipe(path)
    assert (recipe.teacher.epochs, recipe.adaptation.epochs) == (3, 10)
    del values["injection"]
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match="injection.objective 'minilmv2' runs the teacher's model"):
        load_recipe(path)


def test_an_ensemble_has_members_with_weights(tmp_path):
    path = tmp_path / "recipe.yaml"
    ensemble = [
        {"scores": "a.csv", "weight": 2},
        {"scores": {"paths": ["b", "s3://bucket/c.csv"], "kind": "logits"}},
    ]
    path.write_text(yaml.safe_dump(values_with(teacher={"ensemble": ensemble})))
    recipe = load_recipe(path)
    assert [(one.scores.paths, one.weight) for one in recipe.teacher.members] == [
        ((str(tmp_path / "a.csv"),), 2.0),
        ((str(tmp_path / "b"), "s3://bucket/c.csv"), 1.0),
    ]
    assert describe_scores(recipe.teacher) == (
        "mean of scores of a.csv (weight 2) and scores of b, c.csv (weight 1)"
    )
    files = _References(path).tasks
    assert files["teacher.ensemble.0.scores.paths"] == "a.csv"
    assert files["teacher.ensemble.1.scores.paths.1"] == "s3://bucket/c.csv"
    path.write_text(dump_yaml(recipe))
    assert load_recipe(path) == recipe


@pytest.mark.parametrize("objective", ["annealing_kd", "ad2", "vanilla_kd", "fine_tune"])
def test_objectives_on_logits_are_accepted(objective):
    recipe = Recipe.parse(values_with(adaptation={"objective": {"name": objective}}), "recipe")
    assert recipe.adaptation.objective.name == objective


@pytest.mark.parametrize(
    "objective",
    [
        *({"name": name} for name in ("alp_kd", "cilda", "ckd", "codir", "mate_kd", "pkd")),
        *({"name": name} for name in ("rail_kd", "tinybert", "minilmv2", "codir_pretraining")),
        {"name": "pkd", "cached_teacher": True},
        {"name": "ad2", "feature_weight": 1.0},
    ],
    ids=str,
)
def test_objectives_that_run_the_teacher_are_refused(objective):
    assert problem_of(adaptation={"objective": objective}) == (
        f"recipe: adaptation.objective {objective['name']!r} runs the teacher's model for its "
        "layers, its gradients or its outputs on other text, and teacher.scores has its outputs on "
        "the training rows only; use vanilla_kd, annealing_kd or ad2 without deep KD, or name a "
        "model as teacher.model"
    )


def test_injection_is_on_the_tasks_rows_unless_it_reads_no_outputs():
    annealing = {"objective": {"name": "annealing_kd"}}
    values = {"injection": annealing, "corpus": {"paths": ["corpus"]}}
    recipe = Recipe.parse(values_with(variants=["task"], **values), "recipe")
    assert [step.name for step in recipe.steps_on_outputs()] == ["task"]
    for variant in ("fixed", "task+random"):
        steps = {"fixed": annealing | {"text": "random", "num_units": 9}}
        problem = problem_of(variants=[variant], injections=steps, retrieval={"top_k": 3}, **values)
        assert "trains on the text 'random" in problem
        assert problem.endswith(
            "of which teacher.scores has no outputs: it has those of the training rows; use the "
            "variants direct and task, or name a model as teacher.model"
        )
    own_labels = {"objective": {"name": "ad2", "task_weight": 0, "logit_weight": 1}}
    problem = problem_of(
        variants=["task_da"],
        task_da="augmented",
        injection=own_labels,
        adaptation={"objective": {"name": "vanilla_kd"}, "rows": "task_da"},
    )
    assert "the step task_da trains on the text 'task_da'" in problem


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": {"num_layers": 2}}, "teacher.scores: there is no teacher to make a student"),
        ({"teacher": {}}, "key 'teacher': give `model`, a pretrained or fine-tuned model, or `sco"),
        (
            {"teacher": {"scores": "a.csv", "model": "large"}},
            "key 'teacher': model and scores: the teacher is one of them; remove the other",
        ),
        (
            {"teacher": {"scores": "a.csv", "epochs": 5, "fine_tuned": True}},
            "key 'teacher': epochs: the teacher is known by its scores, so that no model is read "
            "or trained; remove epochs, fine_tuned",
        ),
        (
            {"teacher": {"ensemble": [{"scores": "a.csv"}, {"scores": "b.csv", "weight": 0}]}},
            "key 'teacher.ensemble.1.weight': Input should be greater than 0, not 0",
        ),
        ({"teacher": {"scores": 3}}, "key 'teacher.scores': expected a file of scores, a list of"),
        (
            {"teacher": {"scores": {"paths": ["a"], "id_column": "id", "text_columns": ["b"]}}},
            "key 'teacher.scores': text_columns and id_column: rows are matched by one of them",
        ),
        (
            {"teacher": {"scores": {"paths": ["a"], "text_columns": ["a", "b"]}}},
            "scores.text_columns [a, b]: a row of the task has one text; name as many",
        ),
        (
            {
                "teacher": {"scores": {"paths": ["a"], "id_column": "id"}},
                "task": {"name": "rte"},
            },
            "scores.id_column: ids are looked up in the task's training files, and its",
        ),
    ],
)
def test_what_scores_cannot_have_is_refused(changes, message):
    assert message in problem_of(**changes)
