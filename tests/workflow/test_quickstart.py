"""The README's quickstart, run as a user runs it."""

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from raykd.report.results import Results

QUICKSTART = Path(__file__).resolve().parents[2] / "experiments" / "recipes" / "quickstart.yaml"


def run(recipe: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "raykd", "run", str(recipe), "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


def accuracy_of(out: Path) -> dict[tuple[str, str], list[float]]:
    """Accuracy of each seed, by variant and stage."""
    results = Results.model_validate_json((out / "results.json").read_text())
    accuracy = defaultdict(list)
    for score in results.scores:
        accuracy[score.variant, score.stage].append(score.metrics["accuracy"])
    return accuracy


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_quickstart_with_one_seed_makes_a_student_of_use(tmp_path):
    text = QUICKSTART.read_text()
    text = text.replace("seeds: [1, 2, 3]", "seeds: [1]")
    text = text.replace("[tfidf, alone, task, random, contextualized]", "[alone, contextualized]")
    recipe = tmp_path / "quickstart.yaml"
    recipe.write_text(text)
    done = run(recipe, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    accuracy = accuracy_of(tmp_path / "out")
    [teacher] = accuracy["teacher", "teacher"]
    [contextualized] = accuracy["contextualized", "adapted"]
    [alone] = accuracy["alone", "adapted"]
    assert teacher > contextualized > alone > 0.2


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_the_quickstart_reports_all_models_and_a_second_run_changes_nothing(tmp_path):
    first = run(QUICKSTART, tmp_path)
    assert first.returncode == 0, first.stderr
    accuracy = accuracy_of(tmp_path)
    for variant in ("task", "random", "contextualized"):
        assert len(accuracy[variant, "injected"]) == 3
        assert len(accuracy[variant, "adapted"]) == 3
    mean = {key: sum(values) / len(values) for key, values in accuracy.items()}
    assert mean["teacher", "teacher"] > mean["contextualized", "adapted"]
    assert mean["contextualized", "adapted"] > mean["alone", "adapted"]
    assert mean["alone", "adapted"] > 2 * mean["majority", "baseline"]

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert run(QUICKSTART, tmp_path).returncode == 0
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
