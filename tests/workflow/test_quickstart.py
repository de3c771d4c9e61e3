"""The README's quickstart, run as a user runs it."""

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from raykd.report.results import Results

QUICKSTART = Path(__file__).resolve().parents[2] / "experiments" / "recipes" / "quickstart.yaml"


def run(out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "raykd", "run", str(QUICKSTART), "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_quickstart_reports_all_models_and_a_second_run_changes_nothing(tmp_path):
    first = run(tmp_path)
    assert first.returncode == 0, first.stderr
    results = Results.model_validate_json((tmp_path / "results.json").read_text())
    accuracy = defaultdict(list)
    for score in results.scores:
        accuracy[score.variant, score.stage].append(score.metrics["accuracy"])
    for variant in ("task", "random", "contextualized"):
        assert len(accuracy[variant, "injected"]) == 3
        assert len(accuracy[variant, "adapted"]) == 3
    mean = {key: sum(values) / len(values) for key, values in accuracy.items()}
    assert mean["teacher", "teacher"] > mean["contextualized", "adapted"]
    assert mean["contextualized", "adapted"] > mean["alone", "adapted"]
    assert mean["alone", "adapted"] > 2 * mean["majority", "baseline"]

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert run(tmp_path).returncode == 0
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
