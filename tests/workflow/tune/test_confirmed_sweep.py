"""A sweep on Ray whose best trials are repeated, and whose winner is made again."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from tiny_models import save_tiny_model

from raykd.cli.best import best
from raykd.config import dump_yaml
from raykd.errors import InputError
from raykd.storage.manifest import Draft, read_manifest, write_once
from raykd.storage.working_files import discard
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.run import open_run
from raykd.workflow.tune.choice import repetition
from raykd.workflow.tune.study_result import TRIALS_FILE, read_result
from raykd.workflow.tune.tuning import tune

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def sentences(num_rows: int, seed: int) -> list[tuple[str, str]]:
    chance = random.Random(seed)
    words = {"praise": ("good", "fine", "great"), "blame": ("bad", "poor", "awful")}
    rows = []
    for _ in range(num_rows):
        label = chance.choice(["praise", "blame"])
        things = " and ".join(chance.sample(["film", "book", "plot", "actor", "scene"], 3))
        rows.append((f"the {things} was very {chance.choice(words[label])}", label))
    return rows


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("confirmed")
    save_tiny_model(folder / "teacher")
    for split, num_rows, seed in (("train", 48, 1), ("dev", 60, 2), ("test", 30, 4)):
        rows = [{"sentence": text, "label": label} for text, label in sentences(num_rows, seed)]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "dev", "test")}
    values = {
        "name": "tiny",
        "variants": ["direct"],
        "task": {"name": "reviews", **files, "sentence_columns": ["sentence"]},
        "teacher": {
            "model": str(folder / "teacher"),
            "epochs": 2,
            "learning_rate": 5e-3,
            "max_length": 24,
        },
        "student": {"num_layers": 1},
        "adaptation": {"epochs": 2, "max_length": 24},
        "tune": {
            "num_trials": 3,
            "scheduler": "none",
            "space": {"adaptation.learning_rate": {"float": [1e-4, 1e-2], "log": True}},
            "confirm": {"top": 2, "seeds": 2, "held_out": 0.4},
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(dump_yaml(Recipe.parse(values, "test")))
    return path


@pytest.fixture(scope="module")
def completed(recipe, tmp_path_factory) -> tuple[Path, dict[str, int]]:
    """Run directory of a sweep interrupted after the repetitions; and their manifests' inodes."""
    out = tmp_path_factory.mktemp("confirmed_out") / "run"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    whole = repetition.choose
    repetition.choose = interrupt
    try:
        with pytest.raises(KeyboardInterrupt):
            tune(open_run(recipe, out))
    finally:
        repetition.choose = whole
    assert "The sweep was interrupted" in (out / "tune.html").read_text()
    assert not (out / "tune" / "result").exists()
    folder = out / "tune" / "confirm"
    before = inodes(folder)
    assert len(before) == 4

    after: dict[str, int] = {}

    def choose(*arguments: object) -> object:
        after.update(inodes(folder))
        return whole(*arguments)

    repetition.choose = choose
    try:
        tune(open_run(recipe, out))
    finally:
        repetition.choose = whole
    assert after == before
    return out, before


def inodes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_ino
        for path in folder.glob("*/*/adapted/manifest.json")
    }


def test_an_interrupted_confirmation_resumes_and_names_the_winner(completed):
    out, _ = completed
    result = read_result(out / "tune" / "result", str(out))
    confirmation = result.confirmation
    assert confirmation["seeds"] == [2, 3]
    assert len(confirmation["repeated"]) == 2
    assert all(len(one["scores"]) == 2 for one in confirmation["repeated"])
    assert len(confirmation["held_out_scores"]) == 2
    assert result.winner.number == confirmation["winner"]
    assert len(result.trials) == 3
    assert "<h2>Confirmation</h2>" in (out / "tune.html").read_text()
    assert not (out / "tune" / "confirm").exists()


def test_the_winner_made_again_has_the_same_score_and_weights(completed, tmp_path, capsys):
    out, _ = completed
    assert best(out, rerun=True) == 0
    assert ": the same; " in capsys.readouterr().err
    result = read_result(out / "tune" / "result", str(out))
    folder = out / "tune" / "rerun" / f"trial-{result.winner.number}"
    assert (folder / "best.yaml").is_file()
    kept = out / "tune" / "best" / str(result.winner.number) / "model"
    if kept.is_dir():
        made = load_file(folder / "adapted" / "model" / "model.safetensors")
        first = load_file(kept / "model.safetensors")
        assert all((made[name] == first[name]).all() for name in first)
    assert best(out, export=tmp_path / "student") == 0
    assert (tmp_path / "student" / "model.safetensors").is_file()


def test_another_score_ends_with_another_exit_code(completed, capsys):
    out, _ = completed
    folder = out / "tune" / "result"
    result, manifest = read_result(folder, str(out)), read_manifest(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    winner = replace(result.winner, score=result.winner.score + 0.05)
    trials = [winner if trial.number == winner.number else trial for trial in result.trials]

    def write(draft: Draft) -> None:
        for name, content in files.items():
            (draft.directory / name).write_bytes(content)
        (draft.directory / TRIALS_FILE).write_text(replace(result, trials=trials).to_json())

    discard(folder)
    write_once(folder, "tune", manifest.config, manifest.inputs, write)
    assert best(out, rerun=True) == 1
    assert ": not the same; " in capsys.readouterr().err


def test_changed_rows_are_refused(completed):
    out, _ = completed
    dev = out / "task" / "dev.parquet"
    dev.write_bytes((out / "task" / "test.parquet").read_bytes())
    with pytest.raises(InputError, match="changed since the study: validation"):
        best(out, rerun=True)
