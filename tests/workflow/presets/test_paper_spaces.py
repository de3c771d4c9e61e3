"""Search spaces of the papers, for `tune: {space: paper}`."""

import pytest
from test_presets import loaded, recipe_of

from raykd.errors import InputError
from raykd.workflow.checks.tune_checks import check_space
from raykd.workflow.presets import preset_names

PAPER = {"tune": {"space": "paper", "sampler": "grid"}}
METHODS = [name for name in preset_names() if name != "codir_pretraining"]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("task", ["mrpc", "mnli"])
def test_the_papers_space_of_every_preset_has_an_allowed_grid(name, task, tmp_path):
    recipe = loaded(tmp_path, recipe_of(name, task, **_paper(name)))
    assert recipe.tune is not None
    check_space(recipe)
    assert recipe.tune.most_trials > 1


def _paper(name: str) -> dict:
    # AD2's perturbation size is a range of any number.
    return {"tune": {"space": "paper", "sampler": "tpe" if name == "ad2" else "grid"}}


def test_the_space_follows_the_objective_without_a_preset(tmp_path):
    values = recipe_of("rail_kd", "mrpc", **PAPER)
    del values["preset"]
    values |= {
        "variants": ["direct"],
        "adaptation": {"objective": {"name": "rail_kd"}, "epochs": 3},
    }
    recipe = loaded(tmp_path, values)
    assert recipe.tune is not None
    assert list(recipe.tune.space) == ["adaptation.learning_rate", "adaptation.batch_size"]
    assert recipe.tune.space["adaptation.learning_rate"].choice == (1e-5, 2e-5, 5e-5, 4e-6)
    assert recipe.tune.most_trials == 12


def test_the_space_has_keys_of_both_phases_and_none_of_other_objectives(tmp_path):
    values = recipe_of("tinybert", "mrpc", **PAPER)
    both = loaded(tmp_path, values)
    assert both.tune is not None
    assert {name.partition(".")[0] for name in both.tune.space} == {"injection", "adaptation"}
    other = loaded(tmp_path, values | {"adaptation": {"objective": {"name": "rail_kd"}}})
    assert other.tune is not None
    assert other.tune.space["adaptation.batch_size"].choice == (8, 16, 32)
    assert "injection.learning_rate" in other.tune.space


def test_the_alphas_of_pkd_change_both_weights(tmp_path):
    recipe = loaded(tmp_path, recipe_of("pkd", "mrpc", **PAPER))
    assert recipe.tune is not None
    assert recipe.tune.space["alpha"].assignments("alpha")[2] == {
        "adaptation.objective.task_weight": 0.3,
        "adaptation.objective.logit_weight": 0.35,
    }
    assert recipe.tune.most_trials == 3 * 3 * 4 * 2 * 3
    three_classes = loaded(tmp_path, recipe_of("pkd", "mnli", **PAPER))
    assert three_classes.tune is not None
    assert three_classes.tune.space["alpha"].choice == (
        [0.8, pytest.approx(0.2 / 3)],
        [0.5, pytest.approx(0.5 / 3)],
        [0.3, pytest.approx(0.7 / 3)],
    )


def test_an_unknown_word_for_a_space_is_refused(tmp_path):
    with pytest.raises(InputError, match="space"):
        loaded(tmp_path, recipe_of("pkd", "mrpc", tune={"space": "papers"}))
