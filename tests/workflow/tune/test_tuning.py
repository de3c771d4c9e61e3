"""Hyper-parameter search: tuned variant, search spaces, results."""

import contextlib
import json
import math
import re
import signal
from dataclasses import asdict
from pathlib import Path

import pytest

from raykd.config import dump_yaml
from raykd.errors import InputError
from raykd.evaluation.baselines import BASELINES
from raykd.report.tune.trials import Trial, rank
from raykd.storage.manifest import Draft, write_once
from raykd.workflow.checks.tune_checks import (
    check_augmented,
    check_grace,
    check_space,
    longest_trial,
    tuned_variant,
)
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.recipe.recipe_file import load_recipe
from raykd.workflow.recipe.variants import PREDEFINED_VARIANTS
from raykd.workflow.run import Run
from raykd.workflow.tune.best import show_best
from raykd.workflow.tune.interrupts import Interrupts
from raykd.workflow.tune.study_result import RECIPE_FILE, TRIALS_FILE
from raykd.workflow.tune.sweep import Sweep, with_trials
from raykd.workflow.tune.trial.events import better
from raykd.workflow.tune.tuning import tune


def recipe_with(*variants: str) -> Recipe:
    values = {
        "name": "mine",
        "variants": variants,
        "task": {"name": "mine", "train": "a", "dev": "b", "sentence_columns": ["text"]},
        "corpus": {"paths": ["corpus"]},
        "retrieval": {"top_k": 1},
        "teacher": {"model": "teacher"},
        "student": {"num_layers": 1},
        "injection": {"objective": {"name": "tinybert"}},
        "adaptation": {},
    }
    return Recipe.parse(
        values | ({"task_da": "augmented"} if "task_da" in "".join(variants) else {}), "test"
    )


@pytest.mark.parametrize("variant", sorted(set(PREDEFINED_VARIANTS) - set(BASELINES)))
def test_the_only_variant_of_a_recipe_is_tuned(variant):
    assert tuned_variant(recipe_with("tfidf", variant)) == variant


def test_the_variant_with_the_most_text_is_tuned():
    assert tuned_variant(recipe_with("alone", "direct", "task", "task_da")) == "task_da"
    assert tuned_variant(recipe_with("alone", "random", "contextualized")) == "contextualized"
    both = recipe_with("contextualized", "contextualized_task_da")
    assert tuned_variant(both) == "contextualized_task_da"


def test_a_trial_with_keep_best_has_the_scores_of_its_best_state():
    first = {"epoch": 1.0, "whole": 0, "f1": 0.8, "accuracy": 0.5}
    assert better({}, {"f1": 0.1, "accuracy": 0.2}, "f1") == {"f1": 0.1, "accuracy": 0.2}
    assert better(first, {"f1": 0.7, "accuracy": 0.9}, "f1") == {"f1": 0.8, "accuracy": 0.5}
    assert better(first, {"f1": 0.9, "accuracy": 0.4}, "f1") == {"f1": 0.9, "accuracy": 0.4}


def test_of_equal_scores_a_trial_has_those_of_the_first_state_which_training_keeps():
    first, later = {"accuracy": 0.8, "f1": 0.7}, {"accuracy": 0.8, "f1": 0.9}
    assert better(first, later, "accuracy") == {"accuracy": 0.8, "f1": 0.7}


def augmented_recipe(task: dict, **search) -> Recipe:
    values = recipe_with("contextualized", "contextualized_task_da").model_dump(mode="json")
    values["task"] |= task
    space = {"adaptation.learning_rate": {"float": [1e-5, 1e-3]}}
    return Recipe.parse(values | {"tune": {"space": space, **search}}, "test")


def test_variants_of_the_rows_that_trials_are_scored_on_are_not_trained_on():
    message = (
        "text of task_da, which the variant 'contextualized_task_da' learns from, has variants of "
        r"these rows; give the task a test split \(task.test\).*or set tune.variant"
    )
    with pytest.raises(InputError, match=message):
        check_augmented(augmented_recipe({}))
    check_augmented(augmented_recipe({"test": "c"}))
    check_augmented(augmented_recipe({}, variant="contextualized"))


def test_augmented_variants_are_refused_before_any_work(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match="without a test split, trials are scored on rows held"):
        tune(Run(augmented_recipe({}), out, out / "units"))
    assert not out.exists()


def recipe_with_layer_search(path: str, *, cached: bool) -> Recipe:
    values = recipe_with("contextualized").model_dump(mode="json")
    values["injection"] = {"objective": {"name": "minilmv2", "cached_teacher": cached}}
    values["tune"] = {"space": {path: {"choice": [1, 2]}}}
    return Recipe.parse(values, "test")


def test_a_cached_teacher_layer_cannot_be_tuned():
    path = "injection.objective.teacher_layer"
    check_space(recipe_with_layer_search(path, cached=False))
    with pytest.raises(InputError, match=f"cannot change '{path}'.*cached_teacher: false"):
        check_space(recipe_with_layer_search(path, cached=True))


def with_search(space: dict, objective: str = "vanilla_kd", **search) -> Recipe:
    values = recipe_with("contextualized").model_dump(mode="json")
    values["adaptation"] = {"objective": {"name": objective}, "epochs": 2}
    return Recipe.parse(values | {"tune": {"space": space, **search}}, "test")


@pytest.mark.parametrize(
    "path", ["epsilon", "seeds", "adaptation", "task.name", "corpus.paths", ""]
)
def test_shared_and_unknown_keys_in_a_search_space_are_refused(path):
    with pytest.raises(InputError, match="trials cannot change"):
        check_space(with_search({path: {"choice": [1, 2]}}))


def test_a_key_of_a_missing_section_is_refused():
    with pytest.raises(InputError, match="no section 'task_da_injection'"):
        check_space(with_search({"task_da_injection.epochs": {"int": [1, 2]}}))


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_an_invalid_choice_is_refused_at_any_position(place):
    choices: list = [1.0, 2.0, 3.0]
    choices.insert(place, "warm")
    space = {"adaptation.objective.temperature": {"choice": choices}}
    with pytest.raises(InputError, match="temperature = 'warm'"):
        check_space(with_search(space))


def test_ranges_with_incompatible_low_ends_are_accepted():
    weight = {"float": [0.0, 1.0]}
    keys = ("task_weight", "logit_weight")
    recipe = with_search({f"adaptation.objective.{key}": weight for key in keys}, "ad2")
    with pytest.raises(InputError):
        recipe.with_values({f"adaptation.objective.{key}": 0.0 for key in keys}, "test")
    check_space(recipe)


def test_grace_epochs_beyond_the_longest_trial_are_refused():
    space = {"adaptation.learning_rate": {"float": [1e-5, 1e-3]}}
    check_space(with_search(space, grace_epochs=2))
    with pytest.raises(InputError, match="grace_epochs 3: the longest trial has 2 epochs"):
        check_space(with_search(space, grace_epochs=3))
    longer = space | {"adaptation.epochs": {"int": [1, 3]}}
    check_space(with_search(longer, grace_epochs=3))


def test_grace_steps_beyond_the_longest_trial_are_refused():
    space = {"adaptation.batch_size": {"choice": [16, 40]}}
    recipe = with_search(space, grace_steps=11)
    # 2 epochs of 5 batches of 16 rows, known once the rows are.
    check_space(recipe)
    assert longest_trial(recipe, num_rows=80) == 10
    with pytest.raises(InputError, match="grace_steps 11: the longest trial has 10 steps"):
        check_grace(recipe, longest_trial(recipe, num_rows=80))
    check_grace(recipe, longest_trial(recipe, num_rows=96))


def test_grace_steps_beyond_a_given_number_of_steps_are_refused_before_rows_are_read():
    space = {"adaptation.learning_rate": {"float": [1e-5, 1e-3]}}
    values = with_search(space, grace_steps=21).model_dump(mode="json", by_alias=True)
    values["adaptation"]["num_steps"] = 20
    with pytest.raises(InputError, match="grace_steps 21: the longest trial has 20 steps"):
        check_space(Recipe.parse(values, "test"))


@pytest.mark.parametrize(
    ("search", "problem"),
    [
        ({"grace_steps": 5, "grace_epochs": 1}, "give one"),
        ({"grace_steps": 5, "scheduler": "none"}, "scheduler none stops no trial early"),
        ({"grace_steps": 0}, "grace_steps"),
    ],
)
def test_grace_steps_exclude_what_contradicts_them(search, problem):
    with pytest.raises(InputError, match=problem):
        with_search({"adaptation.learning_rate": {"float": [1e-5, 1e-3]}}, **search)


def test_a_sweep_is_extended_by_trials_or_to_a_number_of_trials(tmp_path):
    space = {"adaptation.learning_rate": {"float": [1e-5, 1e-3]}}
    recipe = recipe_with("alone").with_values({"tune": {"space": space, "num_trials": 5}}, "test")
    run = Run(recipe, tmp_path, tmp_path / "units")
    sweep = Sweep(tmp_path / "tune", "a" * 64)
    sweep.open()
    for number in range(3):
        sweep.append(Trial(number, {}, 1, 0.5, True))
    numbers = {}
    for trials in ("+20", "2", "40"):
        config = with_trials(run, trials).recipe.tune
        assert config is not None
        numbers[trials] = config.most_trials
    assert numbers == {"+20": 23, "2": 2, "40": 40}
    for trials in ("0", "-1", "+", "many", "1e3", "200000"):
        with pytest.raises(InputError, match=f"--trials {re.escape(trials)}: expected a number"):
            with_trials(run, trials)
    with pytest.raises(InputError, match="recipe mine has no section 'tune'"):
        with_trials(Run(recipe_with("alone"), tmp_path, tmp_path / "units"), "+20")


def test_the_longest_trial_has_the_most_steps_and_the_largest_batches():
    space = {
        "adaptation.num_steps": {"int": [5, 20]},
        "adaptation.batch_size": {"choice": [16, 8]},
    }
    # 5 batches of 16 rows per epoch; with batches of 8 the same steps are fewer epochs.
    assert longest_trial(with_search(space), num_rows=80) == 4
    assert longest_trial(with_search(space), num_rows=32) == 10


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_range_or_choice_that_is_not_finite_is_refused(bad):
    for parameter in ({"float": [1e-5, bad]}, {"choice": [1.0, bad]}):
        with pytest.raises(InputError, match="finite"):
            with_search({"adaptation.learning_rate": parameter})


def write_search(out: Path, trials: list[Trial]) -> Path:
    """Write the result of a study to the run directory `out`; return its folder."""
    study = {"metric": "accuracy", "validation": "dev", "seed": 1}
    study["trials"] = [asdict(trial) for trial in trials]

    def write(draft: Draft) -> None:
        (draft.directory / TRIALS_FILE).write_text(json.dumps(study, allow_nan=False))
        (draft.directory / RECIPE_FILE).write_text(dump_yaml(recipe_with("alone")))

    write_once(out / "tune" / "result", "tune", {}, {}, write)
    return out / "tune" / "result"


@pytest.mark.parametrize("name", [TRIALS_FILE, RECIPE_FILE, "manifest.json"])
def test_best_refuses_a_study_with_a_changed_or_missing_file(tmp_path, name):
    result = write_search(tmp_path, [Trial(0, {"adaptation.learning_rate": 1e-3}, 2, 0.5, True)])
    path = result / name
    content = path.read_bytes()

    path.write_bytes(content.replace(b"0.5", b"0.9").replace(b"alone", b"alonf"))
    if path.read_bytes() == content:
        path.write_bytes(content[:-9])
    with pytest.raises(InputError, match=rf"{name}: (not as raykd wrote it|damaged).* again"):
        show_best(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="no completed study; run raykd tune"):
        show_best(tmp_path)
    assert not (tmp_path / "best.yaml").exists()
    with pytest.raises(InputError, match="absent: no such directory; give the run directory"):
        show_best(tmp_path / "absent")


def test_failed_trials_are_listed_with_their_reason_and_never_win(tmp_path, capsys):
    trials = [
        Trial(0, {"adaptation.learning_rate": 1e30}, 0, None, False, "loss nan"),
        Trial(1, {"adaptation.learning_rate": 1e-3}, 2, 0.5, True),
        Trial(2, {"adaptation.learning_rate": 1e-2}, 2, None, True),
        Trial(3, {"adaptation.learning_rate": 1e-4}, 2, 0.0, True),
    ]
    assert [trial.number for trial in rank(trials)] == [1, 3]
    write_search(tmp_path, trials)
    show_best(tmp_path)
    shown = capsys.readouterr().out
    assert "2 of 4 trials ended without a score" in shown
    assert "trial 0: adaptation.learning_rate=1e+30: loss nan" in shown
    assert "trial 2: adaptation.learning_rate=0.01: its score is not a finite number" in shown
    assert load_recipe(tmp_path / "best.yaml").adaptation.learning_rate == 1e-3


def test_a_ctrl_c_that_a_library_loses_is_raised_again():
    interrupts = Interrupts()
    with pytest.raises(KeyboardInterrupt), interrupts:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_ctrl_c_nothing_is_raised():
    with Interrupts() as nothing:
        assert nothing is None
