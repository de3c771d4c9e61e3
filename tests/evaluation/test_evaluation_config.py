"""Settings of evaluation sets that are refused before a file is read."""

from pathlib import Path

import pytest
import yaml

from raykd.errors import InputError
from raykd.evaluation.config import EvaluationSetConfig
from raykd.workflow.recipe.recipe import Recipe

PHASE = {"epochs": 1, "learning_rate": 1e-4}
TO_TWO = {"entailment": "yes", "neutral": "no", "contradiction": "no"}
OWN = {"name": "reviews", "train": "t", "dev": "d", "sentence_columns": ["text"]}


def parse(*sets, task="mnli"):
    values = {
        "name": "nli",
        "variants": ["alone"],
        "task": task if isinstance(task, dict) else {"name": task},
        "teacher": {"model": "bert-base-uncased", **PHASE},
        "student": {"num_layers": 1},
        "adaptation": {"objective": {"name": "vanilla_kd"}, **PHASE},
        "evaluation": {"sets": [{"name": "hans", "path": "hans.tsv", **one} for one in sets]},
    }
    return Recipe.parse(values, "recipe")


@pytest.mark.parametrize(
    ("one", "task", "problem"),
    [
        ({"name": "dev"}, "mnli", "evaluation.sets.0.name': 'dev' is a split of the task; choose"),
        ({"name": "a/b"}, "mnli", "evaluation.sets.0.name"),
        ({"label": "x"}, "mnli", "unknown key 'evaluation.sets.0.label'"),
        ({"label_map": TO_TWO}, "mnli", "'label_map' needs the set's classes, in order, as"),
        ({"labels": ["no", "no"]}, "mnli", "'labels' holds a label twice: 'no'"),
        (
            {"labels": ["yes", "no"], "label_map": TO_TWO | {"entailed": "yes"}},
            "mnli",
            r"evaluation.sets.0 \(hans\): 'label_map' maps 'entailed', no class of the task; its "
            "classes are 'entailment', 'neutral', 'contradiction'",
        ),
        (
            {"labels": ["yes", "no"], "label_map": {"entailment": "yes", "neutral": "no"}},
            "mnli",
            "'label_map' lacks the task's class 'contradiction'; map every class of the task to",
        ),
        (
            {"labels": ["yes", "other"], "label_map": TO_TWO},
            "mnli",
            "'label_map' maps to 'no', none of the set's 'labels': 'yes', 'other'",
        ),
        (
            {"labels": ["yes", "no", "other"], "label_map": TO_TWO},
            "mnli",
            "'label_map' maps no class of the task to 'other', so no model can answer it",
        ),
        ({"labels": ["yes", "no"]}, "mnli", "'labels' are 'yes', 'no', and the task's classes"),
        (
            {"sentence_columns": ["a", "b"]},
            "sst2",
            "'sentence_columns' names a, b; a model of the task 'sst2' reads one text",
        ),
        ({"sentence_columns": ["a"]}, "mnli", "reads two texts, as a row of the task is a pair"),
        ({"metrics": ["pearson"]}, "mnli", "unknown metric 'pearson' for classification; known"),
        ({"metrics": ["f1"]}, "mnli", "metric 'f1' is that of .* has 3: entailment, neutral"),
        ({"metrics": ["accuracy"]}, "stsb", "unknown metric 'accuracy' for regression; known: pea"),
        ({"labels": ["1", "2"]}, "stsb", "is a regression, whose sets have scores; remove"),
    ],
)
def test_settings_that_do_not_fit_the_task_are_refused_with_the_remedy(one, task, problem):
    with pytest.raises(InputError, match=problem):
        parse(one, task=task)


def test_two_sets_of_one_name_are_refused():
    with pytest.raises(InputError, match="two sets have the name 'hans'; rename one of them"):
        parse({}, {"path": "other.tsv"})


def test_metrics_are_the_tasks_unless_they_are_given():
    merged = {"labels": ["no", "yes"], "label_map": TO_TWO, "metrics": ["f1", "matthews"]}
    recipe = parse({}, {"name": "two", **merged})
    hans, two = recipe.evaluation.sets
    assert hans.reported_metrics(recipe.task) == ("accuracy",)
    assert two.reported_metrics(recipe.task) == ("f1", "matthews")
    assert two.classes(("entailment", "neutral", "contradiction")) == (("no", "yes"), (1, 0, 0))


def test_the_tasks_classes_in_another_order_need_no_map():
    one = EvaluationSetConfig.parse(
        {"name": "rte", "path": "rte.csv", "labels": ["not_entailment", "entailment"]}, "recipe"
    )
    assert one.classes(("entailment", "not_entailment")).targets == (1, 0)


def test_labels_and_map_may_be_numbers_and_booleans_of_yaml():
    values = {"labels": [0, 1], "label_map": {False: 0, "true": 1}}
    one = parse(values, task={**OWN, "labels": [False, True]}).evaluation.sets[0]
    assert one.classes(("False", "True")) == (("0", "1"), (0, 1))


def test_the_sets_of_the_documentation_fit_their_tasks():
    page = Path(__file__).resolve().parents[2] / "docs" / "evaluation_sets.md"
    blocks = [block.partition("```")[0] for block in page.read_text().split("```yaml\n")[1:]]
    found = {}
    for block, task in zip(blocks, ("mnli", "mnli", "qqp", "sst2"), strict=True):
        recipe = parse(*yaml.safe_load(block)["evaluation"]["sets"], task=task)
        for one in recipe.evaluation.sets:
            found[one.name] = one.classes(recipe.task.known_labels).targets
    assert found == {
        "hans": (0, 1, 1),
        "scitail": (0, 1, 1),
        "mnli-mm": (0, 1, 2),
        "paws": (0, 1),
        "imdb": (0, 1),
        "imdb-hub": (0, 1),
    }


def test_a_recipe_without_sets_has_none():
    assert parse().evaluation.sets == ()
