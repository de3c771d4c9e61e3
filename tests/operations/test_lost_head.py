"""A job whose head node is lost with all processes, submitted again to a new head."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from ray_head import end_processes, ray_head

from raykd.storage.manifest import digest_of_file

TOKEN = "0123456789abcdef" * 4

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]


def project_in(folder: Path) -> Path:
    folder.mkdir()
    rows = ["text,label"] + [f"sentence {n} about trees and lakes,{n % 2}" for n in range(8)]
    for name in ("train.csv", "dev.csv"):
        (folder / name).write_text("\n".join(rows))
    (folder / "corpus.txt").write_text("\n".join(f"trees at lake {n}" for n in range(6000)))
    task = {"name": "lakes", "train": "train.csv", "dev": "dev.csv", "sentence_columns": ["text"]}
    values = {
        "name": "lakes",
        "tasks": [{"task": task}],
        "corpus": {
            "paths": [str(folder / "corpus.txt")],
            "units": {"policy": "line"},
            "shard_bytes": 4000,
        },
        "retrieval": {"top_k": 5},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return folder


def submit(url: str, folder: Path, out: Path) -> subprocess.Popen[str]:
    words = ["submit", "--address", url, "--raykd", "image", "--"]
    words += ["corpus", str(folder / "recipe.yaml"), "--out", str(out)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "-m", "raykd", *words],
        env={**clean, "HOME": "/nonexistent", "RAY_AUTH_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results_in(out: Path) -> dict[str, str]:
    folder = out / "lakes" / "contextualized"
    return {path.name: digest_of_file(path) for path in folder.glob("*.parquet")}


def test_a_job_whose_head_was_lost_is_completed_by_a_new_one(tmp_path):
    project, out = project_in(tmp_path / "project"), tmp_path / "out"
    units = out / "units"
    with ray_head(tmp_path, TOKEN) as head:
        first = submit(head.url, project, out)
        deadline = time.monotonic() + 300
        # In the middle of ingest: some shards are complete, the stage is not.
        while len(list(units.glob("shard-*/manifest.json"))) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        end_processes(head.session)
        _, error = first.communicate(timeout=120)
        assert first.returncode not in (0, None)
        assert "Traceback" not in error, error
        assert not (units / "manifest.json").exists()
        kept = {
            path.parent.name: path.stat().st_mtime_ns
            for path in units.glob("shard-*/manifest.json")
        }
        assert len(kept) >= 3
    with ray_head(tmp_path, TOKEN) as head:
        again = submit(head.url, project, out)
        assert again.wait(timeout=300) == 0, again.stderr and again.stderr.read()
        undisturbed = submit(head.url, project, tmp_path / "undisturbed")
        assert undisturbed.wait(timeout=300) == 0
    assert results_in(out) == results_in(tmp_path / "undisturbed") != {}
    # What was complete before is not made again.
    assert kept == {name: (units / name / "manifest.json").stat().st_mtime_ns for name in kept}
