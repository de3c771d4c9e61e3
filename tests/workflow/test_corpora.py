"""`raykd corpus`: the contextualized corpora of several tasks from one general corpus."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray
import yaml
from test_flow import recipe_values as run_recipe_values
from test_flow import sentences

from raykd.cli.app import _exit_code as raykd
from raykd.cluster import datasets
from raykd.config import dump_yaml
from raykd.contextualize.card import read_card
from raykd.contextualize.select import contextualize
from raykd.errors import InputError
from raykd.retrieval.queries import make_queries
from raykd.storage import schemas
from raykd.storage.manifest import read_manifest
from raykd.workflow import corpora
from raykd.workflow.recipe.corpora_recipe import CorporaRecipe, load_corpora

SHIPPED = Path(__file__).resolve().parents[2] / "experiments" / "recipes" / "corpora.yaml"
WORDS = ["iron", "copper", "silver", "gold", "tin", "lead", "zinc", "nickel", "cobalt", "chrome"]


def write_rows(path: Path, rows: list[tuple[str, str]]) -> None:
    lines = [json.dumps({"sentence": text, "label": label}) for text, label in rows]
    path.write_text("\n".join(lines))


def recipe_values() -> dict:
    tasks = [
        {
            "task": {
                "name": name,
                "train": f"{name}_train.jsonl",
                "dev": f"{name}_dev.jsonl",
                "sentence_columns": ["sentence"],
            }
        }
        for name in ("reviews", "metals")
    ]
    return {
        "name": "two",
        "tasks": [tasks[0] | {"top_k": 4}, tasks[1] | {"target_bytes": 400}],
        "corpus": {"paths": ["corpus.jsonl"], "units": {"policy": "line"}},
        "retrieval": {"top_k": 6},
        "contextualize": {"max_units": 60},
    }


@pytest.fixture
def folder(tmp_path) -> Path:
    write_inputs(tmp_path)
    write_recipe(tmp_path)
    return tmp_path


def write_inputs(folder: Path) -> None:
    for split, num_rows, seed in (("train", 48, 1), ("dev", 30, 2)):
        write_rows(folder / f"reviews_{split}.jsonl", sentences(num_rows, seed))
        metals = [
            (f"they smelted {first} near much {second}", "ab"[number % 2])
            for number, first in enumerate(WORDS[seed:])
            for second in WORDS[:seed]
        ]
        write_rows(folder / f"metals_{split}.jsonl", metals)
    corpus = [text for text, _ in sentences(300, 3)]
    corpus += [
        f"most {one} holds some {two} and {three}"
        for one in WORDS
        for two in WORDS
        for three in WORDS[::3]
    ]
    lines = [json.dumps({"text": text}) for text in corpus]
    (folder / "corpus.jsonl").write_text("\n".join(lines))


def write_recipe(folder: Path, **changes) -> Path:
    path = folder / "corpora.yaml"
    path.write_text(yaml.safe_dump(recipe_values() | changes))
    return path


def written_at(out: Path) -> dict[str, int]:
    return {
        str(path.relative_to(out)): path.stat().st_mtime_ns
        for path in out.rglob("*")
        if path.is_file()
    }


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    """Return the folders with changed files, as TASK/FOLDER if they are a task's."""
    names = {name for name in after if before.get(name) != after[name]}
    return {str(Path(name).parent) for name in names}


def contents_of(out: Path) -> dict[str, bytes]:
    """Return the contents of the corpora and hits by file path."""
    paths = [*out.glob("*/contextualized/*"), *out.glob("*/hits/*")]
    # Manifests contain durations.
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in paths
        if path.name != "manifest.json"
    }


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_corpora_of_two_tasks_are_built_from_one_corpus(folder, capsys):
    out = folder / "out"
    command = ["corpus", str(folder / "corpora.yaml"), "--out", str(out)]
    assert raykd(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["task", "queries", "k", "hits"]
    assert [line.split()[0] for line in lines[1:3]] == ["reviews", "metals"]

    facts = json.loads((out / "corpora.json").read_text())
    assert [entry["task"] for entry in facts] == ["reviews", "metals"]
    for entry in facts:
        corpus = out / entry["folder"]
        card = read_card(corpus)
        assert card.model_dump(mode="json") == entry["card"]
        table = pq.read_table(corpus / "text.parquet")
        assert table.schema == schemas.TRAINING_TEXT
        assert table.num_rows == card.num_units > 0
        assert card.general.num_units == 300 + 400
    reviews, metals = (read_card(out / entry["folder"]) for entry in facts)
    assert (reviews.max_units, reviews.target_bytes, reviews.k) == (60, None, 4)
    assert (metals.max_units, metals.target_bytes) == (None, 400)
    assert metals.num_bytes >= 400
    assert metals.search.top_k == 6
    texts = pq.read_table(out / "metals" / "contextualized" / "text.parquet")["text"]
    assert all("holds some" in text for text in texts.to_pylist())

    # A second call writes nothing; another limit of one task searches nothing.
    before = written_at(out)
    assert raykd(command) == 0
    assert written_at(out) == before
    values = recipe_values()
    values["tasks"][1] = {"task": values["tasks"][1]["task"], "top_percent": 50}
    write_recipe(folder, tasks=values["tasks"])
    assert raykd(command) == 0
    assert changed(before, written_at(out)) == {".", "metals/contextualized"}
    assert read_card(out / "metals" / "contextualized").k == 3

    # Another train split of one task does not change the other task's corpus.
    before = written_at(out)
    write_rows(folder / "reviews_train.jsonl", sentences(20, 5))
    assert raykd(command) == 0
    parts = ("task", "queries", "hits", "contextualized")
    folders = changed(before, written_at(out))
    # The kept statistics are those of the words of all queries.
    assert {folder for folder in folders if not folder.startswith("kept/")} == {
        ".",
        *(f"reviews/{part}" for part in parts),
    }
    assert read_manifest(out / "units").stage == "ingest"


# Prints the searched tasks and kills the process at a given moment: before the second task reads
# its hits, or when one file of the joint search is removed.
_KILLED = """
import os, shutil, signal, sys
from raykd.workflow import corpora
from raykd.cli.app import _exit_code as raykd
from raykd.storage.manifest import read_manifest

moment, *command = sys.argv[1:]
search = corpora.retrieval_pipeline.search_corpus
write_once, rmtree = corpora.write_once, shutil.rmtree


def printed_search(shards, query_sets, *others):
    print(*(query_set.name for query_set in query_sets), flush=True)
    return search(shards, query_sets, *others)


def killed_write(directory, *others):
    if moment == "taking" and directory.parts[-2:] == ("metals", "hits"):
        os.kill(os.getpid(), signal.SIGKILL)
    return write_once(directory, *others)


def killed_rmtree(path, **named):
    manifest = read_manifest(path)
    if moment == "removing" and manifest and manifest.stage == "search":
        (path / "manifest.json").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    rmtree(path, **named)


corpora.retrieval_pipeline.search_corpus, corpora.write_once = printed_search, killed_write
shutil.rmtree = killed_rmtree
sys.exit(raykd(command))
"""


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_kill_after_the_joint_search_repeats_no_search(folder):
    recipe, out = folder / "corpora.yaml", folder / "out"

    def run_killed(moment: str) -> str:
        command = [sys.executable, "-c", _KILLED, moment, "corpus", str(recipe), "--out", str(out)]
        address = ray.get_runtime_context().gcs_address
        environment = {**os.environ, "RAY_ADDRESS": address}
        ended = subprocess.run(
            command, check=False, env=environment, capture_output=True, text=True
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        return ended.stdout

    assert run_killed("taking") == "reviews metals\n"
    assert (out / "reviews" / "hits").is_dir()
    assert not (out / "metals" / "hits").exists()
    # A kill a little earlier leaves these as well.
    (out / ".search.parts").mkdir()
    assert run_killed("removing") == ""
    assert raykd(["corpus", str(recipe), "--out", str(out)]) == 0
    assert [path.name for path in out.iterdir() if "search" in path.name] == []
    uninterrupted = folder / "whole"
    assert raykd(["corpus", str(recipe), "--out", str(uninterrupted)]) == 0
    assert contents_of(out) == contents_of(uninterrupted)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_each_unit_file_is_read_once_for_all_tasks(folder, monkeypatch):
    out, for_each = folder / "out", datasets.for_each
    gathered = []

    def noted(function, items, *, label, **others):
        if label == "gather":
            gathered.extend(item[0] for item in items if item[0].is_relative_to(out / "units"))
        return for_each(function, items, label=label, **others)

    monkeypatch.setattr(datasets, "for_each", noted)
    command = ["corpus", str(folder / "corpora.yaml"), "--out", str(out)]
    assert raykd(command) == 0
    assert len(gathered) == len(set(gathered)) > 0
    assert list(out.glob(".*")) == []

    # Collected units are kept after an interruption between two tasks.
    gathered.clear()
    uninterrupted = contents_of(out)
    for name in ("reviews", "metals"):
        shutil.rmtree(out / name / "contextualized")
    monkeypatch.setattr(corpora, "contextualize", interrupted_at("metals"))
    assert raykd(command) == 130
    assert (out / "reviews" / "contextualized").is_dir()
    assert not (out / "metals" / "contextualized").exists()
    monkeypatch.setattr(corpora, "contextualize", contextualize)
    assert raykd(command) == 0
    assert len(gathered) == len(set(gathered)) > 0
    assert contents_of(out) == uninterrupted


def interrupted_at(name):
    """Return a `contextualize` that is interrupted at the given task."""

    def contextualize_others(hits, *others, **named):
        if name in hits.parts:
            raise KeyboardInterrupt
        return contextualize(hits, *others, **named)

    return contextualize_others


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_raykd_corpus_accepts_the_recipe_of_a_run(folder, capsys):
    task = recipe_values()["tasks"][0]["task"]
    recipe = folder / "run.yaml"
    recipe.write_text(yaml.safe_dump(run_recipe_values() | {"task": task}))
    assert raykd(["corpus", str(recipe), "--out", str(folder / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["task", "reviews"]
    assert not (folder / "run" / "teacher").exists()
    recipe.write_text(yaml.safe_dump(run_recipe_values() | {"task": task, "variants": ["alone"]}))
    assert raykd(["corpus", str(recipe), "--out", str(folder / "run")]) == 2
    assert "no variant uses a contextualized corpus" in capsys.readouterr().err


def test_the_help_lists_every_job(capsys):
    assert raykd(["--help"]) == 0
    words = capsys.readouterr().out.split()
    assert {"run", "tune", "best", "search", "corpus", "dedup"} <= set(words)


def test_the_shipped_recipe_loads_and_is_unchanged_by_a_round_trip(tmp_path):
    recipe = load_corpora(SHIPPED)
    assert [entry.task.name for entry in recipe.tasks] == ["rte", "mrpc", "cola", "sst2", "stsb"]
    copy = tmp_path / "resolved.yaml"
    copy.write_text(dump_yaml(recipe), encoding="utf-8")
    assert load_corpora(copy) == recipe


def test_a_tasks_size_limit_replaces_the_common_one():
    values = recipe_values()
    values["contextualize"]["leak_ngram"] = 13
    recipe = CorporaRecipe.parse(values, "two.yaml")
    reviews, metals = (recipe.contextualize_for(entry) for entry in recipe.tasks)
    assert (reviews.max_units, reviews.target_bytes, reviews.leak_ngram) == (60, None, 13)
    assert (metals.max_units, metals.target_bytes, metals.leak_ngram) == (None, 400, 13)
    assert [recipe.top_k(entry) for entry in recipe.tasks] == [4, 6]


def without_dev(values):
    del values["tasks"][1]["task"]["dev"]


def named(name):
    def change(values):
        values["tasks"][1]["task"]["name"] = name

    return change


def with_value(*path_and_value):
    *path, key, value = path_and_value

    def change(values):
        for part in path:
            values = values[part]
        values[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (named("reviews"), "tasks: the name 'reviews' appears twice"),
        (named("Reviews"), "tasks: the name 'Reviews' appears twice"),
        (named("units"), "tasks: 'units' cannot be a folder's name here"),
        (named("../up"), "cannot be a folder's name here; take letters"),
        (without_dev, "task 'metals' has no evaluation split; name a file with the key 'dev'"),
        (with_value("tasks", 0, "topk", 3), "unknown key 'tasks.0.topk' (did you mean 'top_k'?)"),
        (with_value("tasks", 1, "task", "trian", "x"), "unknown key 'tasks.1.task.trian'"),
        (with_value("corpora", 3), "unknown key 'corpora'"),
        (with_value("tasks", []), "tasks"),
        (with_value("tasks", 1, "max_units", 3), "give one of max_units and target_bytes"),
        (with_value("tasks", 0, "top_percent", 0), "tasks.0.top_percent"),
        (with_value("tasks", 0, "top_k", 2_147_483_648), "tasks.0.top_k"),
    ],
)
def test_mistakes_are_reported_with_their_path(change, says):
    values = recipe_values()
    change(values)
    with pytest.raises(InputError) as caught:
        CorporaRecipe.parse(values, "two.yaml")
    assert str(caught.value).startswith("two.yaml: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_mistakes_end_with_one_line_and_exit_code_2(folder, capsys):
    (folder / "metals_dev.jsonl").unlink()
    assert raykd(["corpus", str(folder / "corpora.yaml"), "--out", str(folder / "out")]) == 2
    message = capsys.readouterr().err
    assert "metals_dev.jsonl: no such file" in message
    assert "Traceback" not in message
    (folder / "corpora.yaml").write_text("tasks: [")
    assert raykd(["corpus", str(folder / "corpora.yaml")]) == 2
    assert "not valid YAML" in capsys.readouterr().err


def test_a_corpus_recipe_is_read_without_importing_torch():
    script = (
        "import sys, raykd.workflow.corpora; "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_many_sentences_give_the_same_queries_in_parts():
    sentences = [f"the film number {number} was good" for number in range(20_001)]
    sizes = []

    def for_each(function, parts, *, shared, **_):
        sizes.extend(len(part) for part in parts)
        return [function(part, **shared) for part in parts]

    assert make_queries(sentences, "rake", for_each).equals(make_queries(sentences, "rake"))
    assert sizes == [20_000, 1]
