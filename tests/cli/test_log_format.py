"""JSON lines on standard error, for log collectors."""

import json
import subprocess
import sys

import pytest
from crash_sweep import write_inputs

from raykd import progress
from raykd.cli.app import _exit_code as raykd

KEYS = ["time", "level", "run", "stage", "shard", "message"]


@pytest.fixture(autouse=True)
def text_afterwards(monkeypatch):
    monkeypatch.setenv(progress.LOG_VARIABLE, "text")


def lines_of(error: str) -> list[dict]:
    lines = [json.loads(line) for line in error.splitlines()]
    assert all(list(line) == KEYS for line in lines)
    return lines


def test_lines_of_a_stage_name_the_run_and_the_stage(tmp_path, capsys):
    write_inputs(tmp_path)
    arguments = ["task", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]
    assert raykd([*arguments, "--log-format", "json"]) == 0
    lines = lines_of(capsys.readouterr().err)
    assert {(line["run"], line["stage"], line["level"]) for line in lines} == {
        ("tiny", "task", "info")
    }
    assert lines[0]["message"].startswith("train  8 rows")
    assert lines[0]["time"].endswith("+00:00")


def test_an_error_is_one_line_of_level_error():
    command = [sys.executable, "-m", "raykd", "run", "nowhere.yaml", "--log-format=json"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    [line] = lines_of(ended.stderr)
    assert line["level"] == "error"
    assert "nowhere.yaml: no such file" in line["message"]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_each_completed_shard_is_a_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(progress.LOG_VARIABLE, "json")
    rows = "".join(json.dumps({"text": f"a row {number}"}) + "\n" for number in range(20))
    (tmp_path / "corpus.jsonl").write_text(rows)
    assert raykd(["dedup", str(tmp_path / "corpus.jsonl"), "--out", str(tmp_path / "out")]) == 0
    lines = lines_of(capsys.readouterr().err)
    shards = [line for line in lines if line["shard"] is not None]
    assert len(shards) >= 3
    assert {line["shard"] for line in shards} == {0}


def test_an_unknown_format_is_refused(capsys):
    assert raykd(["schema", "--log-format", "yaml"]) == 2
    assert "--log-format yaml: unknown; use text or json" in capsys.readouterr().err


def test_the_option_of_a_submitted_command_is_left_to_it():
    assert raykd(["submit", "--", "run", "nowhere.yaml", "--log-format", "json"]) == 2
    assert not progress.logs_json()
