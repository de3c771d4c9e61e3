"""Runs whose students are left as their injection makes them (`adapt: false`), with tiny models."""

import json
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from tiny_models import save_tiny_model

from raykd.cli.app import _exit_code as raykd
from raykd.report.results import Results

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

THINGS = ("film", "book", "plot", "actor", "scene", "story", "ending", "music")
GOOD, BAD = ("good", "fine", "great", "bright"), ("bad", "poor", "awful", "dull")


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    save_tiny_model(folder / "teacher")
    words = [(word, "praise") for word in GOOD] + [(word, "blame") for word in BAD]
    for split, things in (("train", THINGS[:4]), ("dev", THINGS[4:6])):
        rows = [{"text": f"the {t} was {w}", "label": label} for t in things for w, label in words]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    texts = [{"text": f"a {t} is very {w}"} for t in THINGS for w, _ in words]
    (folder / "web.jsonl").write_text("\n".join(map(json.dumps, texts)))
    phase = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "max_length": 20}
    answers = {"name": "vanilla_kd", "task_weight": 0, "logit_weight": 1}
    return {
        "name": "kept",
        "seeds": [1, 2],
        "variants": ["direct", "kept", "adapted"],
        "task": {
            "name": "reviews",
            "train": str(folder / "train.jsonl"),
            "dev": str(folder / "dev.jsonl"),
            "sentence_columns": ["text"],
        },
        "corpora": {
            "web": {
                "paths": [str(folder / "web.jsonl")],
                "units": {"policy": "line", "min_words": 1},
            }
        },
        "teacher": {
            "model": str(folder / "teacher"),
            **phase,
            "epochs": 10,
            "learning_rate": 5e-3,
        },
        "student": {"num_layers": 1},
        "injection": {"objective": answers, **phase, "epochs": 2},
        "injections": {
            "kept": {"text": "random", "corpus": "web", "num_units": 60, "adapt": False},
            "adapted": {"text": "random", "corpus": "web", "num_units": 40},
        },
        "adaptation": {"objective": {"name": "vanilla_kd"}, **phase},
    }


def recipe_of(values, folder: Path) -> str:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return str(folder / "recipe.yaml")


def weights(folder: Path):
    return load_file(folder / "model" / "model.safetensors")


def test_a_student_that_is_not_adapted_is_as_its_injection_made_it(values, tmp_path, capsys):
    recipe, out = recipe_of(values, tmp_path), tmp_path / "out"

    assert raykd(["run", recipe, "--out", str(out)]) == 0

    for seed in (1, 2):
        folder = out / "students" / f"kept-random-seed{seed}"
        before, after = weights(folder / "injected"), weights(folder / "adapted")
        assert before.keys() == after.keys()
        assert all(before[name].equal(after[name]) for name in before)
        other = out / "students" / f"adapted-random-seed{seed}"
        before, after = weights(other / "injected"), weights(other / "adapted")
        assert not all(before[name].equal(after[name]) for name in before)
    results = Results.model_validate_json((out / "results.json").read_text())
    stages = {(score.variant, score.stage) for score in results.scores if score.init}
    assert stages == {
        *(("direct", "adapted"), ("kept", "adapted")),
        *(("adapted", "injected"), ("adapted", "adapted")),
    }
    assert [(one.variant, one.adapted) for one in results.variants] == [
        ("kept", False),
        ("adapted", True),
    ]
    phases = {(curve.variant, curve.phase) for curve in results.curves}
    assert ("kept", "injection") in phases
    assert ("kept", "adaptation") not in phases
    compared = {(one.variant, one.other) for one in results.differences if one.other_is_injected}
    assert compared == {("adapted", "adapted")}
    page = (out / "report.html").read_text()
    assert "Not adapted (adapt: false): kept" in page
    # On dev, as the learning curve of an adaptation would show it.
    (record,) = map(json.loads, (folder / "adapted" / "metrics.jsonl").read_text().splitlines())
    (score,) = (s for s in results.scores if (s.variant, s.seed) == ("kept", 2))
    assert (record["step"], record["scores"]) == (0, score.metrics)

    # Once it is adapted, only its adaptation is made again.
    injected = folder / "injected" / "manifest.json"
    before_ns = injected.stat().st_mtime_ns
    changed = json.loads(json.dumps(values))
    changed["injections"]["kept"]["adapt"] = True
    capsys.readouterr()
    assert raykd(["run", recipe_of(changed, tmp_path), "--out", str(out)]) == 0
    assert injected.stat().st_mtime_ns == before_ns
    before, after = weights(folder / "injected"), weights(folder / "adapted")
    assert not all(before[name].equal(after[name]) for name in before)


@pytest.mark.slow
def test_trials_can_search_whether_to_adapt(values, tmp_path):
    space = {"injections.kept.adapt": {"choice": [True, False]}}
    tuned = {**values, "variants": ["kept"], "seeds": [1]}
    tuned["tune"] = {"num_trials": 2, "variant": "kept", "sampler": "grid", "space": space}
    recipe, out = recipe_of(tuned, tmp_path), tmp_path / "out"

    assert raykd(["tune", recipe, "--out", str(out)]) == 0

    study = json.loads((out / "tune" / "result" / "trials.json").read_text())
    found = {trial["values"]["injections.kept.adapt"]: trial for trial in study["trials"]}
    assert {adapts: (one["whole"], one["epochs"]) for adapts, one in found.items()} == {
        True: (True, 1),
        False: (True, 0),
    }
    assert all(trial["error"] is None for trial in found.values())


@pytest.mark.slow
def test_cross_validation_leaves_students_as_they_are(values, tmp_path):
    task = {key: value for key, value in values["task"].items() if key != "dev"}
    folds = {**values, "variants": ["kept", "adapted"], "seeds": [1]}
    folds |= {"task": {**task, "folds": 2}, "adaptation": {**values["adaptation"], "keep": "best"}}
    recipe, out = recipe_of(folds, tmp_path), tmp_path / "out"

    assert raykd(["crossval", recipe, "--out", str(out)]) == 0

    results = Results.model_validate_json((out / "results.json").read_text())
    assert {score.stage for score in results.scores if score.variant == "kept"} == {"adapted"}
    assert results.crossval is not None
    chosen = {choice.variant: choice.num_epochs for choice in results.crossval.epochs}
    assert "kept" not in chosen
    assert chosen["adapted"] == 1
