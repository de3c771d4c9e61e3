"""Searches with several targets: refusals, Optuna study, costs, kept students, outcome."""

import json
import random
import warnings
from dataclasses import replace
from pathlib import Path

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from safetensors.numpy import load_file, save_file
from test_best import result_of, write_study
from test_tuning import with_search
from tiny_models import save_tiny_model
from tune_studies import trials_of, with_costs

from raykd.cli.best import best
from raykd.errors import InputError
from raykd.evaluation.cost import cost_of
from raykd.models.threads import one_thread
from raykd.report.tune.targets import front
from raykd.report.tune.trials import Trial
from raykd.storage.manifest import Draft, write_once
from raykd.storage.remote.output import output_at
from raykd.storage.schemas import EXAMPLES
from raykd.workflow.checks.tune_targets import check_targets
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.recipe.tune_config import TuneConfig
from raykd.workflow.tune.choice.students import KeptStudents, kept_student
from raykd.workflow.tune.sampling.study import Study
from raykd.workflow.tune.study_result import FRONT_FOLDER, read_result
from raykd.workflow.tune.trial.costs import StudentCosts

RATE = "adaptation.learning_rate"
TARGETS = ("accuracy", "latency_ms")
SPACE = {"rate": {"float": [1e-5, 1e-1], "log": True}, "layers": {"int": [1, 6]}}
SMALL = {"layers": {"int": [1, 6]}, "size": {"float": [0, 1], "step": 0.5}}


def config_of(space: dict = SPACE, **keys) -> TuneConfig:
    return TuneConfig.parse({"space": space, **keys}, "test")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"targets": ["accuracy", "accuracy"]}, "'accuracy' is named twice"),
        ({"targets": []}, "targets"),
        ({"targets": ["latency_ms", "accuracy"]}, "name a metric of the task first, the score"),
        ({"targets": TARGETS, "scheduler": "asha"}, "scheduler asha: with several targets no"),
        ({"targets": TARGETS, "scheduler": "median"}, "set scheduler: none, or remove the key"),
        ({"targets": TARGETS, "sampler": "cmaes"}, "with several targets use tpe, nsga2, gp"),
        ({"targets": TARGETS, "confirm": {}}, "confirm: it chooses by the score alone"),
        ({"pick": "accuracy within 1%", "confirm": {}}, "pick: with confirm, the winner is"),
        ({"pick": "fast"}, "'fast' is no condition; write conditions"),
    ],
)
def test_what_several_targets_do_not_support_is_refused(keys, message):
    with pytest.raises(InputError, match=message):
        config_of(**keys)


def test_several_targets_stop_no_trial_early_and_one_target_does_by_default():
    assert config_of(targets=TARGETS).scheduler == "none"
    assert config_of(targets=["f1"]).scheduler == config_of().scheduler == "asha"


def test_a_recipe_with_all_defaults_written_out_is_read_again():
    recipe = with_search({RATE: {"float": [1e-5, 1e-3]}}, targets=TARGETS)
    assert Recipe.parse(recipe.model_dump(mode="json", by_alias=True), "again") == recipe


def recipe_of(**keys) -> Recipe:
    return with_search({RATE: {"float": [1e-5, 1e-3]}}, **keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"targets": ["accuracy", "speed"]},
            "tune.targets: 'speed' is no metric of the task and no cost of a student; choose from "
            r"accuracy, num_parameters, latency_ms, flops \(task.metrics adds metrics\)",
        ),
        ({"targets": ["f1"]}, "tune.targets: 'f1' is no metric of the task"),
        ({"pick": "latency_ms <= 5"}, "tune.pick: .*add latency_ms to tune.targets"),
        ({"pick": "f1 >= 0.5"}, "tune.pick: f1 >= 0.5: trials have no 'f1'; choose from accuracy"),
        (
            {"targets": TARGETS, "pick": "latency_ms within 1%"},
            "only the first target, accuracy, can be within",
        ),
    ],
)
def test_unknown_targets_and_conditions_are_refused_with_the_choices(keys, message):
    with pytest.raises(InputError, match=message):
        check_targets(recipe_of(**keys))


def test_metrics_of_the_task_and_costs_are_targets():
    check_targets(recipe_of(targets=["accuracy", "num_parameters", "latency_ms", "flops"]))
    check_targets(recipe_of(targets=TARGETS, pick="accuracy within 1%, latency_ms <= 5"))
    check_targets(recipe_of(pick="num_parameters <= 1e6"))


def study_at(folder: Path, space: dict = SPACE, *, ended=(), targets=TARGETS, **keys) -> Study:
    config = config_of(space, targets=targets, **keys)
    return Study("tiny", folder / "study.journal", config, targets=targets, ended=ended)


def in_file(folder: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    return optuna.load_study(study_name="tiny", storage=storage)


def values_for(point: dict) -> list[float]:
    """Accuracy and latency: both grow with the layers, and a rate of 1e-3 is the best."""
    loss = abs(point.get("rate", 1e-3) - 1e-3) + point.get("size", 0.0)
    return [point["layers"] / 10 - loss, 2.0 * point["layers"]]


def search(study: Study, num_trials: int) -> list[dict]:
    found = []
    while len(found) < num_trials and (asked := study.ask()) is not None:
        number, point = asked
        study.report(number, 1, 0.5)
        study.end(number, "whole", values_for(point))
        found.append(point)
    return found


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "nsga2"])
def test_every_sampler_searches_for_two_targets_reproducibly(tmp_path, sampler):
    found = []
    for place, seed in (("a", 5), ("b", 5), ("c", 6)):
        (tmp_path / place).mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            study = study_at(tmp_path / place, sampler=sampler, seed=seed)
            found.append(search(study, 14))
    assert len(found[0]) == 14
    assert found[0] == found[1] != found[2]


def test_the_study_in_the_file_has_names_directions_and_the_front(tmp_path):
    points = search(study_at(tmp_path, sampler="random"), 12)
    study = in_file(tmp_path)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == list(TARGETS)
    trials = [
        Trial(
            number,
            point,
            1,
            values_for(point)[0],
            True,
            costs={"latency_ms": values_for(point)[1]},
        )
        for number, point in enumerate(points)
    ]
    by_optuna = {tuple(trial.values) for trial in study.best_trials}
    ours = {(t.score, t.costs["latency_ms"]) for t in front(trials, TARGETS)}
    assert ours == by_optuna


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp", "random", "grid"])
def test_a_resumed_search_has_the_earlier_values_and_tries_no_point_twice(tmp_path, sampler):
    first = search(study_at(tmp_path, SMALL, sampler=sampler), 7)
    study = study_at(tmp_path, SMALL, sampler=sampler)
    interrupted = study.ask()
    assert interrupted is not None
    resumed = study_at(tmp_path, SMALL, sampler=sampler, ended=first)
    known = [trial.values for trial in in_file(tmp_path).trials if trial.state.name == "COMPLETE"]
    assert known == [values_for(point) for point in first]
    points = first + search(resumed, 100)
    assert len(points) == len({json.dumps(point) for point in points}) == 18
    assert len(in_file(tmp_path).get_trials(states=[optuna.trial.TrialState.COMPLETE])) == 18


def test_optunas_sampler_finds_a_larger_front_than_one_point(tmp_path):
    search(study_at(tmp_path, sampler="tpe"), 40)
    layers = {trial.params["layers"] for trial in in_file(tmp_path).best_trials}
    assert layers == {1, 2, 3, 4, 5, 6}


@pytest.fixture
def rows(tmp_path) -> Path:
    values = {
        "row_id": list(range(40)),
        "sentence1": [" ".join(["good", "film"] * (1 + row % 4)) for row in range(40)],
        "sentence2": [None] * 40,
        "label": [float(row % 2) for row in range(40)],
    }
    table = pa.table(values, schema=EXAMPLES)
    pq.write_table(table, tmp_path / "dev.parquet")
    return tmp_path / "dev.parquet"


def test_a_students_cost_is_that_of_the_report_and_is_measured_once_per_shape(tmp_path, rows):
    one = save_tiny_model(tmp_path / "one")
    costs = StudentCosts(tmp_path / "costs.json", rows, 24, TARGETS)
    assert costs.devices() == []
    first = costs.of(one)
    assert first.keys() == {"latency_ms", "flops"}
    with one_thread():
        measured = cost_of(one, 24, pq.read_table(rows))
    assert first["flops"] == measured.flops
    assert first["latency_ms"] == pytest.approx(measured.latency_ms, rel=0.8)
    other = save_tiny_model(tmp_path / "other")
    weights = {name: 0 * one for name, one in load_file(other / "model.safetensors").items()}
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert costs.of(other) == first
    assert StudentCosts(tmp_path / "costs.json", rows, 24, TARGETS).of(one) == first
    larger = costs.of(save_tiny_model(tmp_path / "larger", num_layers=4))
    assert larger["flops"] > 1.5 * first["flops"]
    assert costs.of(one) == first
    assert len(costs.devices()) == 1


def test_nothing_is_measured_without_a_measured_target(tmp_path, rows):
    costs = StudentCosts(tmp_path / "costs.json", rows, 24, ["accuracy", "num_parameters"])
    assert costs.of(tmp_path / "no-such-model") == {}
    assert not (tmp_path / "costs.json").exists()


def end(folder: Path, watcher: KeptStudents, number: int, score: float, latency: float) -> None:
    trained = folder / "trials" / f"id{number}"
    trained.mkdir(parents=True)
    (trained / "model").write_text(str(number))
    trial = Trial(number, {}, 1, score, True, costs={"latency_ms": latency})
    watcher.on_end(trial, f"id{number}")


def test_the_students_of_the_front_are_kept_also_after_a_resume(tmp_path):
    watcher = KeptStudents(tmp_path, [], TARGETS)
    end(tmp_path, watcher, 0, 0.5, 3.0)
    end(tmp_path, watcher, 1, 0.8, 9.0)
    end(tmp_path, watcher, 2, 0.4, 4.0)
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == ["0", "1"]
    known = [
        Trial(0, {}, 1, 0.5, True, costs={"latency_ms": 3.0}),
        Trial(1, {}, 1, 0.8, True, costs={"latency_ms": 9.0}),
    ]
    resumed = KeptStudents(tmp_path, known, TARGETS)
    end(tmp_path, resumed, 3, 0.6, 3.0)
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == ["1", "3"]
    assert kept_student(tmp_path, 3) is not None
    assert list((tmp_path / "trials").iterdir()) == []


def write_whole_study(run: Path) -> None:
    """Write a completed study to a run directory; students of the front are kept."""
    trials = with_costs(trials_of(40))
    on_front = front(trials, TARGETS)
    result = result_of(
        trials,
        targets=list(TARGETS),
        front=[trial.number for trial in on_front],
        devices=["A processor"],
    )
    recipes = {f"{FRONT_FOLDER}/{one.number}.yaml": f"name: t{one.number}\n" for one in on_front}
    write_study(run, result, files=recipes)
    for trial in on_front:

        def write(draft: Draft, number: int = trial.number) -> None:
            (draft.directory / "model").mkdir()
            (draft.directory / "model" / "config.json").write_text(str(number))

        write_once(run / "tune" / "best" / str(trial.number), "adapt", {}, {}, write)


@pytest.fixture
def run(tmp_path) -> Path:
    write_whole_study(tmp_path / "run")
    return tmp_path / "run"


def test_the_outcome_has_the_front_as_a_table_and_as_json(run, capsys):
    trials = with_costs(trials_of(40))
    on_front = front(trials, TARGETS)
    assert 3 <= len(on_front) <= 5
    assert best(run) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "targets: accuracy (more is better), latency_ms (less is better)"
    assert lines[2].startswith(f"winner: {on_front[0].score:.4f}  trial {on_front[0].number}, ")
    assert lines[3] == f"Pareto front, {len(on_front)} trials, best accuracy first:"
    assert lines[4].split() == ["trial", "accuracy", "latency_ms", "values"]
    for line, trial in zip(lines[5:], on_front, strict=False):
        cells = line.removeprefix("*").split()
        assert cells[0] == str(trial.number)
        assert cells[1] == f"{trial.score:.4f}"
        assert float(cells[2]) == pytest.approx(trial.costs["latency_ms"], rel=0.01)
    assert lines[5].startswith("*")
    assert not lines[6].startswith("*")
    assert any("measured on A processor" in line for line in lines)
    assert best(run, as_json=True) == 0
    values = json.loads(capsys.readouterr().out)
    assert [one["number"] for one in values["front"]] == [one.number for one in on_front]
    assert values["targets"][1] == {"name": "latency_ms", "direction": "minimize"}


def test_a_picked_trial_has_its_recipe_and_its_student(run, tmp_path, capsys):
    trials = with_costs(trials_of(40))
    fast = [one for one in trials if one.costs.get("latency_ms", 9) <= 4]
    expected = max(fast, key=lambda one: one.score or 0)
    assert expected.number != read_result(run / "tune" / "result", "run").winner.number
    assert best(run, pick="latency_ms <= 4", export=tmp_path / "student") == 0
    printed = capsys.readouterr().out
    assert f"winner (latency_ms <= 4): {expected.score:.4f}  trial {expected.number}," in printed
    assert (run / "best.yaml").read_text() == f"name: t{expected.number}\n"
    assert (tmp_path / "student" / "config.json").read_text() == str(expected.number)


def test_a_trial_is_picked_from_a_study_at_a_url(environment, store, tmp_path, monkeypatch):
    url = Path("s3://bucket/picked/run")
    monkeypatch.setenv("RAYKD_CACHE", str(tmp_path / "first machine"))
    with output_at(url) as out:
        write_whole_study(out)
    monkeypatch.setenv("RAYKD_CACHE", str(tmp_path / "second machine"))
    assert best(url, pick="latency_ms <= 4", export=tmp_path / "student") == 0
    number = (tmp_path / "student" / "config.json").read_text()
    with store.open_input_stream("bucket/picked/run/best.yaml") as file:
        assert file.read().decode() == f"name: t{number}\n"
    fast = [one for one in with_costs(trials_of(40)) if one.costs.get("latency_ms", 9) <= 4]
    assert number == str(max(fast, key=lambda one: one.score or 0).number)


def test_a_damaged_student_of_the_front_is_not_exported(run, tmp_path):
    number = next(
        one for one in front(with_costs(trials_of(40)), TARGETS) if one.costs["latency_ms"] <= 4
    ).number
    model = run / "tune" / "best" / str(number) / "model" / "config.json"
    model.write_text("changed")
    with pytest.raises(InputError, match=r"config.json: not as raykd wrote it"):
        best(run, pick="latency_ms <= 4", export=tmp_path / "student")


@pytest.mark.parametrize(
    ("pick", "message"),
    [
        ("latency_ms <= 0.1", "no trial meets 'latency_ms <= 0.1'; the nearest is trial .* --pick"),
        ("speed <= 1", "--pick: speed <= 1: trials have no 'speed'; choose from accuracy, f1"),
        ("fast", "--pick: 'fast' is no condition"),
    ],
)
def test_a_pick_that_no_trial_meets_or_nobody_understands_changes_nothing(run, pick, message):
    (run / "best.yaml").write_text("before")
    with pytest.raises(InputError, match=message):
        best(run, pick=pick)
    assert (run / "best.yaml").read_text() == "before"


def test_a_study_whose_own_conditions_no_trial_meets_can_be_picked_from(tmp_path, capsys):
    trials = with_costs(trials_of(40))
    result = replace(
        result_of(trials, targets=list(TARGETS), pick="latency_ms <= 0.1"),
        front=[trial.number for trial in front(trials, TARGETS)],
    )
    files = {f"{FRONT_FOLDER}/{number}.yaml": f"name: t{number}\n" for number in result.front}
    write_study(tmp_path, result, student=False, files=files)
    with pytest.raises(InputError, match="no trial meets 'latency_ms <= 0.1'"):
        best(tmp_path)
    assert best(tmp_path, pick="accuracy within 0%") == 0
    assert (tmp_path / "best.yaml").read_text() == f"name: t{result.front[0]}\n"


def test_a_pick_by_size_needs_no_targets(tmp_path, capsys):
    chance = random.Random(1)
    trials = [
        Trial(k, {}, 1, chance.random(), True, scores={"accuracy": 0.5}, num_parameters=k)
        for k in range(20)
    ]
    write_study(tmp_path, result_of(trials))
    small = max(trials[:6], key=lambda one: one.score or 0)
    best(tmp_path, pick="num_parameters <= 5")
    assert f"trial {small.number}," in capsys.readouterr().out
