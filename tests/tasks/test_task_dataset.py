"""Tasks whose splits are those of a dataset: of the Hugging Face hub, or of a folder."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hub import COMMIT, NAME, dataset_hub

from raykd.errors import InputError
from raykd.tasks.config import TaskConfig
from raykd.tasks.task import load_task
from raykd.workflow.recipe.corpora_recipe import load_corpora
from raykd.workflow.recipe.recipe_file import load_recipe

CARD = """---
dataset_info:
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': bad
          '1': good
---
"""
ROWS = {"text": ["dull", "a joy", "fine"], "label": [0, 1, 1]}


def parquet(rows: dict[str, list[object]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(rows), buffer)
    return buffer.getvalue()


FILES = {
    "README.md": CARD.encode(),
    "data/train-00000-of-00001.parquet": parquet(ROWS),
    "data/validation-00000-of-00001.parquet": parquet({"text": ["so so"], "label": [-1]}),
    "data/test-00000-of-00001.parquet": parquet({"text": ["good", "bad"], "label": [1, 0]}),
}


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "reviews" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "reviews"


@pytest.fixture
def hub() -> Iterator[str]:
    with dataset_hub(FILES) as address:
        yield address


def task(**values: object) -> TaskConfig:
    return TaskConfig.parse({"name": "reviews", "sentence_columns": ["text"], **values}, "recipe")


def test_class_numbers_of_a_dataset_become_its_names(folder):
    loaded = load_task(task(dataset={"path": str(folder), "dev": "test"}))
    assert loaded.labels == ("bad", "good")
    assert loaded.train["sentence1"].to_pylist() == ["dull", "a joy", "fine"]
    assert loaded.train["label"].to_pylist() == [0, 1, 1]
    assert loaded.dev["label"].to_pylist() == [1, 0]
    assert loaded.sources["dev"] == f"{folder} test"


def test_a_class_number_of_minus_one_is_a_row_without_a_label(folder):
    with pytest.raises(InputError, match="validation.*label"):
        load_task(task(dataset={"path": str(folder), "dev": "validation"}))


def test_a_class_number_of_no_class_is_one_clear_error(folder):
    rows = {"text": ["good", "odd"], "label": [1, 2]}
    (folder / "data" / "test-00000-of-00001.parquet").write_bytes(parquet(rows))
    with pytest.raises(InputError, match=r"test.*row 1, column 'label': the class 2, and .* 2"):
        load_task(task(dataset={"path": str(folder), "dev": "test"}))


def test_a_folder_is_relative_to_the_recipe_of_a_run_and_of_several_corpora(folder, tmp_path):
    values = {"name": "reviews", "sentence_columns": ["text"]}
    values["dataset"] = {"path": "reviews", "dev": "test"}
    corpora = {"name": "all", "tasks": [{"task": values}], "corpus": {"paths": ["c.txt"]}}
    corpora["retrieval"] = {"top_k": 2}
    (tmp_path / "corpora.yaml").write_text(yaml.safe_dump(corpora))
    [entry] = load_corpora(tmp_path / "corpora.yaml").tasks
    assert entry.task.dataset is not None
    assert entry.task.dataset.path == str(folder)
    phase = {"epochs": 1, "learning_rate": 1e-4}
    run = {"name": "run", "variants": ["direct"], "task": values, "student": {"num_layers": 1}}
    run["teacher"] = {"model": "bert-base-uncased", **phase}
    run["adaptation"] = {"objective": {"name": "vanilla_kd"}, **phase}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    recipe = load_recipe(tmp_path / "run.yaml")
    assert recipe.task.dataset is not None
    assert recipe.task.dataset.path == str(folder)


def test_splits_are_files_or_of_the_dataset(folder, tmp_path):
    pq.write_table(pa.table({"text": ["ok"], "label": ["good"]}), tmp_path / "dev.parquet")
    loaded = load_task(
        task(dataset={"path": str(folder), "test": "test"}, dev=str(tmp_path / "dev.parquet"))
    )
    assert (loaded.train.num_rows, loaded.dev.num_rows) == (3, 1)
    assert loaded.test is not None
    assert loaded.test.num_rows == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dataset": {"path": "a/b"}}, "no evaluation split; name it with the key 'dataset.dev'"),
        (
            {"dataset": {"path": "a/b", "dev": "test"}, "train": "a.csv"},
            "remove 'train', or set 'dataset.train: null'",
        ),
        (
            {"dataset": {"path": "a/b", "dev": "test"}, "dev_fraction": 0.1},
            "'dataset.dev' names the dev split",
        ),
        ({"dataset": {"path": "a/b", "train": None, "dev": "test"}}, "no training rows"),
    ],
)
def test_contradictory_splits_are_refused(values, words):
    with pytest.raises(InputError) as caught:
        task(**values)
    assert words in str(caught.value)


def test_a_dataset_of_the_hub_needs_a_revision():
    with pytest.raises(InputError, match="'a/b' .* needs a revision, a commit or tag"):
        load_task(task(dataset={"path": "a/b", "dev": "test"}))


def test_a_missing_split_is_one_clear_error(folder):
    with pytest.raises(InputError, match="the split 'dev' of .*reviews' cannot be read"):
        load_task(task(dataset={"path": str(folder), "dev": "dev"}))


def run_with_hub(code: str, address: str, home: Path) -> subprocess.CompletedProcess[str]:
    # The hub's client reads its settings only at import.
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
        timeout=120,
    )


LOAD = (
    "from raykd.tasks.config import TaskConfig\nfrom raykd.tasks.task import load_task\n"
    "t = load_task(TaskConfig.parse({{'name': 'reviews', 'sentence_columns': ['text'], "
    "'dataset': {{'path': '{name}', 'revision': '{revision}', 'dev': 'test'}}}}, 'recipe'))\n"
    "print(t.labels, t.train['label'].to_pylist(), t.dev.num_rows)"
)


def test_a_dataset_of_the_hub_is_read_at_its_revision(hub, tmp_path):
    done = run_with_hub(LOAD.format(name=NAME, revision=COMMIT), hub, tmp_path)
    assert done.stdout.splitlines()[-1:] == ["('bad', 'good') [0.0, 1.0, 1.0] 2"], done.stderr


def test_an_unknown_dataset_or_no_hub_is_one_clear_error_within_seconds(hub, tmp_path):
    for name, address in ((f"{NAME}2", hub), (NAME, "http://127.0.0.1:9")):
        done = run_with_hub(LOAD.format(name=name, revision=COMMIT), address, tmp_path)
        [error] = [
            line for line in done.stderr.splitlines() if line.startswith("raykd.errors.InputError")
        ]
        assert f"'{name}' was looked for at the hub ({address}) and could not be read" in error


URL = f"hf://datasets/{NAME}@{COMMIT}/data"
READ = (
    "from raykd.storage.directories import list_files\n"
    "from raykd.storage.locations import location_of\n"
    "from raykd.storage.tables import read_table\n"
    "files = list_files([location_of('{url}')]).files\n"
    "for file in files:\n"
    "    print(file, read_table(file, ['text', 'label']).num_rows)\n"
)


def test_files_of_a_dataset_are_read_by_url(hub, tmp_path):
    done = run_with_hub(READ.format(url=URL), hub, tmp_path)
    assert done.stdout.splitlines() == [
        f"{URL}/test-00000-of-00001.parquet 2",
        f"{URL}/train-00000-of-00001.parquet 3",
        f"{URL}/validation-00000-of-00001.parquet 1",
    ], done.stderr


def test_a_missing_file_and_no_hub_are_one_clear_error(hub, tmp_path):
    missing = run_with_hub(READ.format(url=f"{URL}/no.parquet"), hub, tmp_path)
    assert f"InputError: {URL}/no.parquet: no such file" in missing.stderr
    absent = run_with_hub(READ.format(url=URL), "http://127.0.0.1:9", tmp_path)
    [error] = [
        line for line in absent.stderr.splitlines() if line.startswith("raykd.errors.InputError")
    ]
    assert "was looked for at the hub (http://127.0.0.1:9) and could not be read" in error
