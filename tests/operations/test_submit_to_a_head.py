"""Jobs on a real head node: submitted, followed, interrupted, listed and stopped."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ray_head import ray_head

TOKEN = "0123456789abcdef" * 4

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    with ray_head(tmp_path_factory.mktemp("head"), TOKEN) as head:
        yield head.url


@pytest.fixture
def project(tmp_path) -> Path:
    """Recipe of the corpora of one task, whose training rows are next to it."""
    rows = ["text,label"] + [f"sentence {n} about trees and lakes,{n % 2}" for n in range(8)]
    for name in ("train.csv", "dev.csv"):
        (tmp_path / name).write_text("\n".join(rows))
    (tmp_path / "corpus.txt").write_text("\n".join(f"trees at lake number {n}" for n in range(99)))
    task = {"name": "lakes", "train": "train.csv", "dev": "dev.csv", "sentence_columns": ["text"]}
    values = {
        "name": "lakes",
        "tasks": [{"task": task}],
        "corpus": {"paths": [str(tmp_path / "corpus.txt")], "units": {"policy": "line"}},
        "retrieval": {"top_k": 2},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def command_of(url: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "raykd", "submit", "--address", url, *words]


def environment(token: str | None = TOKEN) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**clean, "HOME": "/nonexistent", **({"RAY_AUTH_TOKEN": token} if token else {})}


def submit(
    url: str, *words: str, token: str | None = TOKEN, folder: Path | None = None
) -> subprocess.CompletedProcess:
    return subprocess.run(
        command_of(url, *words), env=environment(token), capture_output=True, text=True, cwd=folder
    )


def job(project: Path, out: Path) -> list[str]:
    return ["--", "corpus", str(project / "recipe.yaml"), "--out", str(out)]


def test_a_job_is_followed_to_its_end_and_its_output_is_written(url, project, tmp_path):
    out = tmp_path / "out"
    done = submit(url, "--raykd", "image", "--submission-id", "whole", *job(project, out))
    assert done.returncode == 0, done.stderr
    assert "working directory: 3 files, " in done.stderr
    assert "job whole: succeeded" in done.stderr
    assert (out / "lakes" / "contextualized" / "manifest.json").is_file()
    assert str(out / "lakes" / "contextualized") in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    listed = submit(url, "--list").stdout
    assert listed.startswith("SUCCEEDED")
    assert " whole  python -m raykd corpus recipe.yaml --out " in listed
    assert submit(url, "--logs", "whole").stdout == done.stdout
    assert submit(url, "--stop", "whole").stdout == "job whole: succeeded\n"


def test_a_command_without_a_recipe_is_passed_on_and_reads_what_is_sent(url, project, tmp_path):
    (project / "queries.csv").write_text("query_id,text\nq1,lake number 7\n")
    words = f"search --corpus {project}/corpus.txt --queries queries.csv --top-k 2 --out".split()
    done = submit(
        *(url, "--raykd", "image", "--include", "queries.csv", "--"),
        *(*words, str(tmp_path / "hits")),
        folder=project,
    )
    assert done.returncode == 0, done.stderr
    assert "working directory: 1 files, " in done.stderr
    assert (tmp_path / "hits" / "hits.parquet").is_file()


@pytest.mark.exhaustive
def test_rays_own_command_does_the_same(url, project, tmp_path):
    out = tmp_path / "out"
    made = submit(url, "--raykd", "image", "--dry-run", *job(project, out))
    line = next(line for line in made.stderr.splitlines() if "ray job submit" in line)
    words = [sys.executable, "-m", "ray.scripts.scripts", *shlex.split(line)[1:]]
    done = subprocess.run(
        words,
        env={**environment(), "RAY_AUTH_MODE": "token"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert (out / "lakes" / "contextualized" / "manifest.json").is_file()


def test_the_users_mistake_on_the_cluster_ends_with_its_exit_code(url, project, tmp_path):
    (project / "corpus.txt").unlink()
    done = submit(url, "--raykd", "image", *job(project, tmp_path / "out"))
    assert done.returncode == 2
    assert "corpus.txt: no such file" in done.stdout
    assert ": failed" in done.stderr


def test_ctrl_c_leaves_the_job_running_and_stop_ends_it(url, project, tmp_path):
    recipe = yaml.safe_load((project / "recipe.yaml").read_text())
    # Many shards: minutes of work.
    (project / "corpus.txt").write_text("\n".join(f"trees at lake {n}" for n in range(200_000)))
    recipe["corpus"]["shard_bytes"] = 4000
    (project / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    words = ["--raykd", "image", "--submission-id", "long", *job(project, tmp_path / "out")]
    following = subprocess.Popen(
        command_of(url, *words), env=environment(), stderr=subprocess.PIPE, text=True
    )
    assert following.stderr is not None
    for line in following.stderr:
        if "is submitted" in line:
            break
    deadline = time.monotonic() + 120
    while "RUNNING" not in submit(url, "--list").stdout:
        assert time.monotonic() < deadline
    following.send_signal(signal.SIGINT)
    rest = following.stderr.read()
    assert following.wait(timeout=60) == 130
    assert "job long continues on the cluster" in rest
    assert f"raykd submit --address {url} --logs long" in rest
    assert "RUNNING" in submit(url, "--list").stdout
    assert submit(url, "--stop", "long").stdout == "job long: stopping\n"
    ended = submit(url, "--logs", "long")
    assert ended.returncode != 0
    assert "job long: stopped" in ended.stderr


def test_tokens_and_unknown_jobs_are_refused(url, project, tmp_path):
    words = ["--raykd", "image", *job(project, tmp_path / "out")]
    for token, problem in ((None, "requires a token"), ("wrong" * 12, "refuses the token")):
        refused = submit(url, *words, token=token)
        assert refused.returncode == 2
        assert problem in refused.stderr
        assert "wrong" * 12 not in refused.stderr + refused.stdout
    absent = submit(url, "--logs", "absent")
    assert absent.returncode == 2
    assert "job absent: not on" in absent.stderr


def test_a_head_without_a_token_on_another_interface_gets_no_job(project, tmp_path):
    with ray_head(tmp_path, None) as head:
        words = ["--raykd", "image", *job(project, tmp_path / "out")]
        # A name of this machine that is no loopback address represents another machine.
        code = (
            "import sys; from raykd.cluster.dashboard import Head; "
            "Head.is_loopback = property(lambda head: False); "
            "from raykd.cli.app import main; main()"
        )
        refused = subprocess.run(
            [sys.executable, "-c", code, "submit", "--address", head.url, *words],
            env=environment(None),
            capture_output=True,
            text=True,
        )
        assert refused.returncode == 2
        assert "accepts jobs without a token from everyone" in refused.stderr
        assert submit(head.url, "--list", token=None).stdout == f"{head.url}: no submitted jobs\n"


def test_doctor_reports_the_head_and_its_nodes(url, project, tmp_path):
    words = ["doctor", str(project / "recipe.yaml"), "--address", url, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "raykd", *words, "--out", str(tmp_path / "run")],
        env=environment(),
        capture_output=True,
        text=True,
    )
    findings = {one["subject"]: one for one in json.loads(done.stdout)}
    assert findings[f"dashboard {url}"]["text"] == "answers, and requires the token"
    assert findings["head: clock"]["level"] == "ok"
    nodes = [subject for subject in findings if subject.endswith(": raykd")]
    assert len(nodes) == 2
    [storage] = [one for one in findings if one.endswith(": storage")]
    assert findings[storage]["level"] == "ok"
    recipe = findings[f"recipe {project / 'recipe.yaml'}"]
    assert recipe["text"].startswith("3 files, ")
    assert done.returncode == any(one["level"] == "fault" for one in findings.values())
    assert TOKEN not in done.stdout + done.stderr
