"""Checks of manifests and digests, and what rerunning would write again."""

import json
from pathlib import Path

import pytest

from raykd.cli.app import _exit_code as raykd
from raykd.errors import InputError
from raykd.operations.integrity import Damage, Redone, check_integrity
from raykd.storage.checked_json import from_checked_json, to_checked_json
from raykd.storage.manifest import write_manifest


@pytest.fixture
def run(tmp_path) -> Path:
    """Run of two stages; the first has two shards, which have manifests of their own."""
    for name in ("units/shard-0", "units/shard-1", "teacher"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "data.bin").write_text(f"content of {name}")
    for name in ("units/shard-0", "units/shard-1", "units", "teacher"):
        write_manifest(tmp_path / name, "stage", {}, {}, {}, duration_s=1.0)
    plan = {
        "name": "r",
        "stages": {"ingest": ["units"], "teacher": ["teacher"]},
        "models_at_once": 1,
        "num_trials": None,
        "prices": None,
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    return tmp_path


def test_an_undamaged_run_is_reported_as_such(run, capsys):
    report = check_integrity(run)
    assert (report.num_manifests, report.num_files) == (4, 3)
    assert (report.damages, report.redone, report.remarks) == ((), (), ())
    assert raykd(["check", str(run)]) == 0
    assert "nothing is damaged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "missing"),
        ("content", "has 7 bytes instead of 24"),
        ("Content of units/shard-1", "its content has changed"),
    ],
)
def test_damage_and_its_consequence_are_reported_once(run, content, problem, capsys):
    path = run / "units/shard-1/data.bin"
    path.unlink() if content is None else path.write_text(content)
    report = check_integrity(run)
    # Two manifests name the file.
    assert report.damages == (Damage("units/shard-1/data.bin", problem),)
    assert report.redone == (Redone("ingest", ("units",), "damaged"),)
    assert raykd(["check", str(run)]) == 1
    assert f"damaged: units/shard-1/data.bin: {problem}" in capsys.readouterr().out


def test_damaged_manifests_are_found(run):
    path = run / "teacher/manifest.json"
    path.write_text(path.read_text().replace('"stage"', '"stage" '))
    assert check_integrity(run).damages == ()  # white space has no meaning
    path.write_text(path.read_text().replace("1.0", "2.0"))
    report = check_integrity(run)
    assert report.damages == (Damage("teacher/manifest.json", "damaged, or of an older version"),)
    assert report.redone == (Redone("teacher", ("teacher",), "damaged"),)


def test_outputs_of_another_version_are_written_again(run):
    path = run / "teacher/manifest.json"
    values = from_checked_json(path.read_bytes())
    path.write_text(to_checked_json(values | {"raykd_version": "0.0.1"}))
    report = check_integrity(run)
    assert report.damages == ()
    assert report.redone == (Redone("teacher", ("teacher",), "written by another version"),)


def test_outputs_outside_of_the_plan_are_written_again_too(run):
    (run / "predictions" / "teacher").mkdir(parents=True)
    path = run / "predictions" / "teacher" / "data.bin"
    path.write_text("content")
    write_manifest(path.parent, "predict", {}, {}, {}, duration_s=1.0)
    path.write_text("Content")
    assert check_integrity(run).redone == (Redone("predict", ("predictions/teacher",), "damaged"),)
    (run / "plan.json").unlink()
    assert check_integrity(run).redone == (Redone("predict", ("predictions/teacher",), "damaged"),)


def test_partial_outputs_and_damaged_times_are_remarks(run):
    (run / ".teacher.partial-host-1-00000000").mkdir()
    (run / ".teacher.partial-host-1-00000000" / "manifest.json").write_text("{")
    (run / "times.json").write_text("{")
    report = check_integrity(run)
    assert report.damages == ()
    assert report.remarks[0] == "times.json: damaged; no result depends on it"
    assert report.remarks[1].startswith("1 partial outputs of running or killed processes")


def test_a_folder_without_manifests_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no manifest.json below it"):
        check_integrity(tmp_path)
    with pytest.raises(InputError, match="no such directory"):
        check_integrity(tmp_path / "absent")
