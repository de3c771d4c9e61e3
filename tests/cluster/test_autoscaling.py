"""A cluster that starts nodes when there is work, and ends them afterwards."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from autoscaling_head import autoscaling_head

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("environment", "store"),
]

NODE = {"min_workers": 0, "resources": {"CPU": 1, "object_store_memory": 100_000_000}}
GPU_NODE = {"min_workers": 0, "resources": {"CPU": 1, "GPU": 1}}
# Prints what raykd knows of the cluster, then the number of nodes until there is no input.
_WATCH = """
import sys, threading, time
from raykd.cluster import capacity
print(capacity.can_start_nodes(), capacity.can_start_gpus(), flush=True)
reader = threading.Thread(target=sys.stdin.read)
reader.start()
while reader.is_alive():
    print(capacity.num_nodes(), flush=True)
    time.sleep(0.2)
"""


class Watch:
    """Process that watches the nodes of a cluster."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WATCH],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.known = self._process.stdout.readline().split()
        self.numbers: list[int] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        self.numbers += [1]
        for line in self._process.stdout:
            self.numbers.append(int(line))

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._thread.join()


@pytest.fixture
def project(tmp_path) -> Path:
    words = ("river", "bank", "hill", "flood", "road", "town", "mill", "field")
    rows = [
        {"text": f"the {words[i % 8]} and the {words[i % 7]} by {words[i % 5]} {i}"}
        for i in range(4000)
    ]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [{"query_id": word, "text": f"the {word} {i}"} for i, word in enumerate(words)]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    return tmp_path


def search(project: Path, out: str, environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "raykd", "search", "--corpus", "corpus.jsonl"]
    command += ["--queries", "queries.jsonl", "--shard-bytes", "20000", "--out", out]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_search_starts_nodes_that_end_afterwards(project, store):
    local = os.environ | {"RAYKD_CACHE": str(project / "cache"), "RAY_ADDRESS": "local"}
    search(project, "hits", local)
    types = {"cpu": NODE | {"max_workers": 2}, "gpu": GPU_NODE | {"max_workers": 1}}
    with autoscaling_head(project, types, is_second_version=True) as address:
        there = local | {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled"}
        watch = Watch(there)
        assert watch.known == ["True", "True"], "the nodes that may be started"
        search(project, "s3://bucket/grown", there)
        most = max(watch.numbers)
        deadline = time.monotonic() + 120
        while watch.numbers[-1] > 1 and time.monotonic() < deadline:
            time.sleep(1)
        watch.end()
    assert watch.numbers[0] == watch.numbers[-1] == 1
    assert most >= 2
    with store.open_input_stream("bucket/grown/hits.parquet", compression=None) as file:
        assert file.read() == (project / "hits" / "hits.parquet").read_bytes()
