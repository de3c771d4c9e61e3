"""Recipes with `tune.folds`: what is refused before any training, and the rows of the folds."""

import json
from pathlib import Path

import pytest
import yaml

from raykd.cli.app import _exit_code as raykd
from raykd.errors import InputError
from raykd.tasks.config import TaskConfig
from raykd.tasks.store import read_task, write_folds, write_task
from raykd.tasks.task import load_task
from raykd.workflow.checks.tune_folds import check_folds
from raykd.workflow.recipe.recipe import Recipe

RATE = {"adaptation.learning_rate": {"float": [1e-5, 1e-3]}}


def recipe_with(tune: dict, **changes) -> Recipe:
    values = {
        "name": "few",
        "variants": ["contextualized"],
        "task": {"name": "mine", "train": "a", "folds": 3, "sentence_columns": ["text"]},
        "corpus": {"paths": ["corpus"]},
        "retrieval": {"top_k": 1},
        "teacher": {"model": "teacher"},
        "student": {"num_layers": 1},
        "injection": {"objective": {"name": "tinybert"}},
        "adaptation": {"keep": "best"},
        "tune": {"space": RATE, **tune},
    }
    for section, keys in changes.items():
        values[section] = values[section] | keys if isinstance(keys, dict) else keys
    return Recipe.parse(values, "few.yaml")


def test_no_trial_is_stopped_early_by_default():
    assert recipe_with({"folds": 3}).tune.scheduler == "none"
    assert recipe_with({}).tune.scheduler == "asha"
    check_folds(recipe_with({"folds": 3}))


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ({"folds": 1}, "tune.folds"),
        ({"folds": 3, "scheduler": "asha"}, "scheduler asha: with folds no trial is stopped early"),
        ({"folds": 3, "scheduler": "median"}, "set scheduler: none, or remove the key"),
        ({"folds": 3, "workers_per_trial": 2}, "workers_per_trial: with folds, one process"),
        ({"folds": 3, "confirm": {"held_out": 0.3}}, "confirm.held_out: with folds"),
    ],
)
def test_keys_that_folds_exclude_are_refused_with_the_reason(tune, message):
    with pytest.raises(InputError, match=message):
        recipe_with(tune)


@pytest.mark.parametrize(
    ("tune", "changes", "message"),
    [
        ({}, {}, "no dev rows to score trials on .task.folds.; set tune.folds: 3"),
        (
            {"folds": 3},
            {"task": {"folds": None, "dev_fraction": 0.2, "multi_label": True}},
            "with task.multi_label a row has several",
        ),
        (
            {"folds": 3},
            {
                "task": {"folds": None, "dev": "b"},
                "task_da": "augmented",
                "variants": ["contextualized", "task_da"],
            },
            "text of task_da has variants",
        ),
        (
            {"folds": 3, "space": {"retrieval.top_k": {"int": [1, 9]}}},
            {},
            "'retrieval.top_k' cannot be searched with tune.folds",
        ),
        ({"folds": 3}, {"adaptation": {"keep": "best", "num_steps": 9}}, "adaptation.num_steps"),
        (
            {"folds": 3, "space": RATE | {"adaptation.num_steps": {"int": [5, 9]}}},
            {},
            "adaptation.num_steps",
        ),
        (
            {"folds": 3, "space": RATE | {"adaptation.keep": {"choice": ["last", "best"]}}},
            {"adaptation": {"keep": "last", "num_steps": 9}},
            "adaptation.num_steps",
        ),
        ({"folds": 3}, {"teacher": {"keep": "best", "num_steps": 9}}, "teacher.num_steps"),
    ],
)
def test_what_folds_do_not_support_is_refused_with_the_reason(tune, changes, message):
    with pytest.raises(InputError, match=message):
        check_folds(recipe_with(tune, **changes))


def test_steps_are_possible_where_the_last_state_is_kept():
    check_folds(recipe_with({"folds": 3}, adaptation={"keep": "last", "num_steps": 9}))


def write_rows(path: Path, num_rows: int) -> None:
    rows = [{"text": f"row {n // 2 * 2}", "label": "ab"[n % 2]} for n in range(num_rows)]
    path.write_text("\n".join(map(json.dumps, rows)))


def test_the_folds_are_those_of_a_cross_validation(tmp_path):
    write_rows(tmp_path / "train.jsonl", 24)
    values = {"name": "few", "train": "train.jsonl", "sentence_columns": ["text"], "dev_seed": 5}
    whole = TaskConfig.parse({**values, "folds": 3}, "test")
    write_task(whole, tmp_path.joinpath, tmp_path / "task")
    outs = [tmp_path / f"fold-{number}" for number in (1, 2, 3)]
    write_folds(tmp_path / "task", 5, outs)
    for number, out in enumerate(outs, 1):
        fold = TaskConfig.parse({**values, "folds": 3, "fold": number}, "test")
        expected, found = load_task(fold, tmp_path.joinpath), read_task(out)
        assert found.train.equals(expected.train)
        assert found.dev.equals(expected.dev)
        assert found.report_split == "dev"


def test_a_class_with_fewer_rows_than_folds_is_refused_before_any_work(tmp_path, capsys):
    rows = [{"text": f"the film {n}", "label": "ab"[n % 2 if n < 8 else 0]} for n in range(20)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    values = {
        "name": "few",
        "variants": ["direct"],
        "task": {"name": "few", "train": "train.jsonl", "folds": 4, "sentence_columns": ["text"]},
        "teacher": {"model": "teacher", "max_length": 16},
        "student": {"num_layers": 1},
        "adaptation": {"max_length": 16},
        "tune": {"folds": 5, "space": RATE},
    }
    recipe, out = tmp_path / "few.yaml", tmp_path / "out"
    recipe.write_text(yaml.safe_dump(values))

    assert raykd(["tune", str(recipe), "--out", str(out)]) == 2

    message = "class 'b' has 4 rows, which cannot be divided into 5 folds; use at most 4 folds"
    assert message in capsys.readouterr().err
    assert not out.exists()
