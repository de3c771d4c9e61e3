"""Outputs at URLs of clusters whose nodes share no disk: the bytes of a run on one machine."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from private_disks import Nodes, has_namespaces, nodes_with_private_disks
from pyarrow import fs
from tiny_models import save_tiny_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("environment", "store"),
    pytest.mark.skipif(not has_namespaces(), reason="mount namespaces are not allowed here"),
]

WORDS = "good bad film book plot actor scene story ending music voice sound river hill"
PHASE = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3, "max_length": 24}
RECIPE = {
    "name": "tiny",
    "variants": ["tfidf", "alone", "task", "random", "contextualized"],
    "task": {
        "name": "reviews",
        "train": "train.jsonl",
        "dev": "dev.jsonl",
        "sentence_columns": ["sentence"],
    },
    "corpus": {
        "paths": ["corpus.jsonl"],
        "units": {"policy": "line"},
        "shard_bytes": 4000,
    },
    "retrieval": {"top_k": 4},
    "contextualize": {"max_units": 60},
    "teacher": {"model": "teacher", **PHASE},
    "student": {"num_layers": 1},
    "injection": {"objective": {"name": "vanilla_kd", "task_weight": 0}, **PHASE},
    "adaptation": {"objective": {"name": "vanilla_kd"}, **PHASE},
    "tune": {
        "num_trials": 3,
        "space": {
            "injection.learning_rate": {"choice": [1e-3, 1e-4]},
            "retrieval.top_k": {"choice": [2, 4]},
        },
        "variant": "contextualized",
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    chance = random.Random(1)

    def write(name: str, column: str, number: int) -> None:
        rows = []
        for _ in range(number):
            text = " ".join(chance.choices(WORDS.split(), k=8))
            rows.append({column: text, "label": "praise" if "good" in text else "blame"})
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    save_tiny_model(folder / "teacher")
    write("train.jsonl", "sentence", 48)
    write("dev.jsonl", "sentence", 30)
    write("corpus.jsonl", "text", 600)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    in_groups = RECIPE | {"workers": {"num_workers": 2}, "variants": ["contextualized"]}
    (folder / "groups.yaml").write_text(yaml.safe_dump(in_groups))
    return folder


def environment_of(cache: Path, address: str) -> dict[str, str]:
    return os.environ | {
        "RAYKD_CACHE": str(cache),
        "RAY_ADDRESS": address,
        "RAY_AUTH_MODE": "disabled",
    }


def raykd(*arguments: str, project: Path, cache: Path, address: str = "local") -> str:
    answer = subprocess.run(
        [sys.executable, "-m", "raykd", "--debug", *arguments],
        cwd=project,
        env=environment_of(cache, address),
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stderr


def digests_at(store: fs.FileSystem, url: str) -> dict[str, dict]:
    """Digests of all outputs by the names of their manifests, except of measured times."""
    root = url.removeprefix("s3://")
    found = {}
    for info in store.get_file_info(fs.FileSelector(root, recursive=True)):
        name = info.path.removeprefix(f"{root}/")
        if info.base_name == "manifest.json" and not name.startswith(("_raykd", "costs", "report")):
            with store.open_input_stream(info.path, compression=None) as file:
                outputs = json.loads(file.read())["outputs"]
            found[name] = {
                path: record["digest"]
                for path, record in outputs.items()
                if not path.endswith(("README.md", "curve.json", "steps.jsonl", "trials.json"))
            }
    return found


COMMANDS = {
    "groups": ("run", "groups.yaml"),
    "dedup": ("dedup", "corpus.jsonl", "--near"),
    "tune": ("tune", "recipe.yaml"),
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[tuple[Nodes, Path]]:
    """Two nodes, and the folder that they do not share."""
    folder = tmp_path_factory.mktemp("nodes")
    with nodes_with_private_disks(folder, folder / "cache", 2) as nodes:
        yield nodes, folder / "cache"


@pytest.mark.parametrize(
    "name",
    [
        "dedup",
        pytest.param("tune", marks=pytest.mark.exhaustive),
        pytest.param("groups", marks=pytest.mark.exhaustive),
    ],
)
def test_nodes_without_a_shared_disk_write_the_bytes_of_one_machine(
    name, project, cluster, tmp_path, store
):
    nodes, cache = cluster
    alone, together = f"s3://bucket/alone/{name}", f"s3://bucket/together/{name}"
    raykd(*COMMANDS[name], "--out", alone, project=project, cache=tmp_path)
    given = {"project": project, "cache": cache, "address": nodes.address}
    raykd(*COMMANDS[name], "--out", together, **given)
    for number in (1, 2):
        assert any(nodes.disk(number).rglob("manifest.json")), "both nodes had work"
    expected = digests_at(store, alone)
    assert expected
    assert digests_at(store, together) == expected


def has_begun_to_train(disk: Path) -> bool:
    # Not `rglob`, which fails when a folder is removed while it looks.
    return any(name.endswith(".unfinished") for _, folders, _ in os.walk(disk) for name in folders)


@pytest.mark.exhaustive
def test_a_lost_node_with_its_disk_changes_nothing(project, tmp_path, store):
    cache, url = tmp_path / "cache", "s3://bucket/lost/run"
    raykd("run", "recipe.yaml", "--out", "s3://bucket/lost/alone", project=project, cache=cache)
    with nodes_with_private_disks(tmp_path, cache, 2) as nodes:
        with subprocess.Popen(
            [sys.executable, "-m", "raykd", "run", "recipe.yaml", "--out", url],
            cwd=project,
            env=environment_of(cache, nodes.address),
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while not has_begun_to_train(nodes.disk(2)):
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.05)
            nodes.kill(2)
            nodes.add()
            _, printed = process.communicate()
        assert process.returncode == 0, printed
    assert digests_at(store, url) == digests_at(store, "s3://bucket/lost/alone")
