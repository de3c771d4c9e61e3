"""`raykd status` and `raykd check` of runs at URLs, against an S3 server."""

import json
from pathlib import Path

import pytest

from raykd.cli.app import _exit_code as raykd
from raykd.storage.manifest import write_once
from raykd.storage.remote.output import output_at

URL = "s3://bucket/inspected/run"
PLAN = {
    "name": "reviews",
    "stages": {"task": ["task"], "teacher": ["teacher"]},
    "models_at_once": 1,
    "num_trials": None,
    "prices": None,
}


@pytest.fixture
def run(environment, store, tmp_path, monkeypatch):
    """A run at a URL with one of two stages, seen from a machine without a copy of it."""
    monkeypatch.setenv("RAYKD_CACHE", str(tmp_path / "first machine"))
    with output_at(Path(URL)) as out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "plan.json").write_text(json.dumps(PLAN))
        write_once(out / "task", "task", {}, {}, write_rows)
    monkeypatch.setenv("RAYKD_CACHE", str(tmp_path / "second machine"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return store


def write_rows(draft):
    (draft.directory / "rows.txt").write_text("rows")


def test_the_status_of_a_url_names_its_stages(run, capsys):
    assert raykd(["status", URL]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"reviews: {URL}", "  done         task", "  left         teacher"]


def test_a_check_of_a_url_compares_every_object(run, capsys):
    assert raykd(["check", URL]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{URL}: 1 manifests, 1 files, 0.0 MB compared", "nothing is damaged"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"rowz", "task/rows.txt: its content has changed"),
        (b"row", "task/rows.txt: has 3 bytes instead of 4"),
        (None, "task/rows.txt: missing"),
    ],
)
def test_a_check_of_a_url_names_damaged_objects(run, capsys, content, problem):
    path = f"{URL.removeprefix('s3://')}/task/rows.txt"
    if content is None:
        run.delete_file(path)
    else:
        with run.open_output_stream(path, compression=None) as file:
            file.write(content)
    assert raykd(["check", URL]) == 1
    output = capsys.readouterr().out
    assert f"damaged: {problem}" in output
    assert "task (damaged): task" in output


@pytest.mark.parametrize("command", ["status", "check"])
def test_a_url_without_an_output_is_one_clear_error(run, capsys, command):
    assert raykd([command, "s3://bucket/nothing"]) == 2
    assert "s3://bucket/nothing: no output of raykd there" in capsys.readouterr().err
