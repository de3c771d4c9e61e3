"""Commands with a URL as their output, against an S3 server: the bytes of a local output."""

import json

import pytest
import yaml
from pyarrow import fs
from tiny_models import save_tiny_classifier

from raykd.cli.app import _exit_code as raykd

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster", "environment", "store")]

RECIPE = {
    "name": "field",
    "task": {
        "name": "field",
        "train": "train.jsonl",
        "dev": "train.jsonl",
        "sentence_columns": ["text"],
    },
    "variants": ["direct"],
    "teacher": {"model": "nowhere", "epochs": 1, "learning_rate": 1e-4},
    "student": {"num_layers": 1},
    "adaptation": {"epochs": 1},
}
COMMANDS = {
    "search": ["search", "--corpus", "corpus.jsonl", "--queries", "queries.jsonl", "--top-k", "2"],
    "dedup": ["dedup", "corpus.jsonl"],
    "predict": ["predict", "model", "--data", "corpus.jsonl"],
    "task": ["task", "recipe.yaml"],
}
OUTPUTS = {
    "search": ["hits.parquet"],
    "dedup": ["removed.parquet", "units/units-00000.parquet"],
    "predict": ["part-00000.parquet"],
    "task": ["task/train.parquet", "task/dev.parquet"],
}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    texts = ["a river in flood", "a bank on a hill", "a river in flood", "the hill and the river"]
    write_rows(tmp_path / "corpus.jsonl", [{"text": text} for text in texts])
    write_rows(tmp_path / "queries.jsonl", [{"query_id": "q", "text": "river hill"}])
    labels = [{"text": text, "label": number % 2} for number, text in enumerate(texts[:2])]
    write_rows(tmp_path / "train.jsonl", labels)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    save_tiny_classifier(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYKD_CACHE", str(tmp_path / "cache"))


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_url_gets_the_bytes_that_a_folder_gets(store: fs.FileSystem, tmp_path, capsys, command):
    url = f"s3://bucket/commands/{command}"
    assert raykd([*COMMANDS[command], "--out", "local"]) == 0
    capsys.readouterr()
    assert raykd([*COMMANDS[command], "--out", url]) == 0
    output = capsys.readouterr()
    assert f"{url}: all outputs are in the store" in output.err
    assert str(tmp_path / "cache") not in output.out
    for name in [*OUTPUTS[command], "manifest.json" if command != "task" else "task/manifest.json"]:
        with store.open_input_stream(f"bucket/commands/{command}/{name}", compression=None) as file:
            content = file.read()
        if not name.endswith("manifest.json"):
            assert content == (tmp_path / "local" / name).read_bytes(), name
