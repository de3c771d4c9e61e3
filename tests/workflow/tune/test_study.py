"""Optuna studies of sweeps: samplers, grids, stopped and failed trials, the file."""

import io
import json
import warnings
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from raykd.errors import InputError
from raykd.workflow.recipe.tune_config import TuneConfig
from raykd.workflow.tune.sampling import samplers
from raykd.workflow.tune.sampling.samplers import check_sampler
from raykd.workflow.tune.sampling.study import Study

RATE = {"float": [1e-5, 1e-1], "log": True}
MAP = {"choice": ["skip", {"1": 2}, [1, 2]]}
CONDITIONAL = {
    "rate": RATE,
    "size": {"float": [0.0, 4.0], "step": 0.5},
    "map": MAP,
    "layers": {"int": [1, 4], "when": {"map": "skip"}},
}


def config_of(space: dict, **keys) -> TuneConfig:
    return TuneConfig.parse({"space": space, **keys}, "test")


def study_of(folder: Path, space: dict, *, ended=(), first=None, is_valid=None, **keys) -> Study:
    options = {} if is_valid is None else {"is_valid": is_valid}
    return Study(
        "tiny",
        folder / "study.journal",
        config_of(space, **keys),
        first=first,
        ended=ended,
        **options,
    )


def in_file(folder: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    return optuna.load_study(study_name="tiny", storage=storage)


def run(study: Study, num_trials: int) -> list[dict]:
    """Run trials whose score is best at a rate of 1e-3."""
    found = []
    for _ in range(num_trials):
        asked = study.ask()
        if asked is None:
            break
        number, values = asked
        score = -abs(values.get("rate", 1e-3) - 1e-3)
        study.report(number, 1, score)
        study.end(number, "whole", [score])
        found.append(values)
    return found


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "cmaes", "nsga2"])
def test_every_sampler_proposes_allowed_values_without_a_warning(tmp_path, sampler):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study = study_of(tmp_path, CONDITIONAL, sampler=sampler)
        points = run(study, 14)
    assert len(points) == 14
    for point in points:
        assert 1e-5 <= point["rate"] <= 1e-1
        assert point["size"] in (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4)
        assert point["map"] in ("skip", {"1": 2}, [1, 2])
        assert ("layers" in point) == (point["map"] == "skip")


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "cmaes", "nsga2", "grid"])
def test_the_same_seed_proposes_the_same_values(tmp_path, sampler):
    space = CONDITIONAL | {"rate": {"choice": [1e-4, 1e-3]}, "half": {"float": [0, 1], "step": 0.5}}
    found = []
    for place, seed in (("a", 5), ("b", 5), ("c", 6)):
        (tmp_path / place).mkdir()
        found.append(run(study_of(tmp_path / place, space, sampler=sampler, seed=seed), 12))
    assert found[0] == found[1] != found[2]


def test_tpe_finds_a_better_rate_than_the_first_ten_random_trials(tmp_path):
    points = run(study_of(tmp_path, {"rate": RATE}), 40)
    distances = [abs(point["rate"] - 1e-3) for point in points]
    assert min(distances[10:]) < min(distances[:10])


GRID = {
    "map": MAP,
    "layers": {"int": [1, 3], "when": {"map": "skip"}},
    "size": {"float": [0.0, 1.0], "step": 0.5},
}


def test_a_grid_has_every_point_once_and_then_ends(tmp_path):
    points = run(study_of(tmp_path, GRID, sampler="grid"), 100)
    assert len(points) == config_of(GRID, sampler="grid").most_trials == (3 + 1 + 1) * 3
    assert len({json.dumps(point) for point in points}) == 15


def test_a_resumed_grid_repeats_no_ended_trial_and_runs_interrupted_ones_again(tmp_path):
    study = study_of(tmp_path, GRID, sampler="grid")
    ended = run(study, 6)
    interrupted = study.ask()
    assert interrupted is not None
    again = run(study_of(tmp_path, GRID, sampler="grid", ended=ended), 100)
    assert len(again) == 9
    assert interrupted[1] in again
    assert not [point for point in again if point in ended]


def test_points_of_a_grid_that_the_recipe_refuses_are_left_out(tmp_path):
    study = study_of(tmp_path, GRID, sampler="grid", is_valid=lambda v: v.get("layers") != 2)
    assert len(run(study, 100)) == 12


def test_refused_combinations_are_proposed_again_with_other_values(tmp_path):
    study = study_of(tmp_path, {"size": GRID["size"]}, is_valid=lambda v: v["size"] == 0.5)
    assert run(study, 5) == [{"size": 0.5}]
    refused = [trial for trial in in_file(tmp_path).trials if "refused" in trial.user_attrs]
    assert len(refused) >= 2
    assert all(trial.state.name == "FAIL" for trial in refused)


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "nsga2"])
def test_no_point_of_a_small_space_is_tried_twice_also_after_a_resume(tmp_path, sampler):
    study = study_of(tmp_path, GRID, sampler=sampler)
    first = run(study, 9)
    resumed = study_of(tmp_path, GRID, sampler=sampler, ended=first)
    points = first + run(resumed, 100)
    assert len(points) == len({json.dumps(point) for point in points}) == 15
    assert config_of(GRID, sampler=sampler, num_trials=40).most_trials == 15


def test_a_space_without_an_allowed_combination_is_refused(tmp_path):
    study = study_of(tmp_path, GRID, is_valid=lambda v: False)
    with pytest.raises(InputError, match="refused the last 15 proposed combinations"):
        study.ask()


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_the_first_trial_has_the_recipes_own_values(tmp_path, sampler):
    first = {"map": [1, 2], "size": 0.5}
    points = run(study_of(tmp_path, GRID, sampler=sampler, first=first), 100)
    assert points[0] == first
    assert len(points) == 15
    (tmp_path / "resumed").mkdir()
    resumed = study_of(tmp_path / "resumed", GRID, sampler=sampler, first=first, ended=points[:1])
    assert first not in run(resumed, 100)


def test_stopped_trials_are_pruned_with_their_scores_in_the_file(tmp_path):
    study = study_of(tmp_path, {"rate": RATE})
    for number, (how, epochs) in enumerate((("whole", 3), ("stopped", 2), ("failed", 1))):
        asked = study.ask()
        assert asked is not None
        for epoch in range(1, epochs + 1):
            study.report(number, epoch, epoch / 10)
            study.report(number, epoch, 0.9)  # after a restart from a checkpoint
        values = [0.3] if how == "whole" else None
        study.end(number, how, values, {"error": "loss nan"} if how == "failed" else None)
    assert study.ask() is not None
    read = in_file(tmp_path)
    assert [trial.state.name for trial in read.trials] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    assert [trial.intermediate_values for trial in read.trials[:3]] == [
        {1: 0.1, 2: 0.2, 3: 0.3},
        {1: 0.1, 2: 0.2},
        {1: 0.1},
    ]
    assert read.trials[2].user_attrs == {"error": "loss nan"}
    assert read.best_trial.number == 0
    study_of(tmp_path, {"rate": RATE})
    assert [trial.state.name for trial in in_file(tmp_path).trials][3] == "FAIL"


SHOWN = CONDITIONAL | {"weights": {"simplex": ["o.a", "o.b", "o.c"]}}


def test_a_study_with_lists_and_layer_maps_has_importances_and_a_table(tmp_path):
    run(study_of(tmp_path, SHOWN, sampler="random"), 30)
    study = in_file(tmp_path)
    importances = optuna.importance.get_param_importances(study)
    assert set(importances) == {"rate", "size", "map", "layers", "weights: a", "weights: b"}
    assert max(importances, key=lambda name: importances[name]) == "rate"
    table = study.trials_dataframe()
    assert set(table["params_map"]) == {"skip", "{1: 2}", "[1, 2]"}
    weights = table[[f"user_attrs_o.{key}" for key in "abc"]]
    assert weights.sum(axis=1).tolist() == pytest.approx([1.0] * 30)


def test_optunas_dashboard_shows_a_study_with_lists_and_layer_maps(tmp_path):
    optuna_dashboard = pytest.importorskip("optuna_dashboard")
    run(study_of(tmp_path, SHOWN, sampler="random"), 20)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    app = optuna_dashboard.wsgi(storage)

    def get(path: str) -> dict:
        status = []
        environment = {
            **{"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": ""},
            **{"SERVER_NAME": "test", "SERVER_PORT": "80", "wsgi.url_scheme": "http"},
            **{"wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO()},
        }
        body = b"".join(app(environment, lambda code, *_: status.append(code)))
        assert status == ["200 OK"], (path, status, body[:500])
        return json.loads(body)

    [summary] = get("/api/studies")["study_summaries"]
    study = get(f"/api/studies/{summary['study_id']}")
    assert len(study["trials"]) == 20
    [importances] = get(f"/api/studies/{summary['study_id']}/param_importances")[
        "param_importances"
    ]
    assert {row["name"] for row in importances} >= {"map", "rate", "weights: a"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"sampler": "grid"}, "sampler grid: rate has no steps; give it a step or choices"),
        ({"sampler": "annealing"}, "tpe"),
        ({"scheduler": "hyperband"}, "asha"),
    ],
)
def test_a_sampler_that_cannot_search_the_space_is_refused(keys, message):
    with pytest.raises(InputError, match=message):
        config_of(CONDITIONAL, **keys)


def test_cmaes_needs_two_ranges(tmp_path):
    config_of({"rate": RATE, "size": CONDITIONAL["size"]}, sampler="cmaes")
    with pytest.raises(InputError, match="sampler cmaes: it needs two or more ranges"):
        config_of({"rate": RATE, "map": MAP}, sampler="cmaes")


def test_a_grid_without_end_is_refused_unless_the_trials_are_counted():
    space = {str(number): {"int": [1, 10]} for number in range(6)}
    with pytest.raises(InputError, match="more than 100,000 points"):
        config_of(space, sampler="grid")
    assert config_of(space, sampler="grid", num_trials=20).most_trials == 20


def test_a_missing_package_of_a_sampler_is_named_with_its_command(monkeypatch):
    ranges = {"rate": RATE, "size": CONDITIONAL["size"]}
    monkeypatch.setattr(samplers.importlib.util, "find_spec", lambda name: None)
    check_sampler(config_of(ranges))
    with pytest.raises(InputError, match=r"pip install 'raykd\[cmaes\]'"):
        check_sampler(config_of(ranges, sampler="cmaes"))
