"""Script that trains one job on its own cluster while nodes are lost, added or drained.

`python changing_cluster.py FOLDER EVENT MIN_WORKERS MAX_WORKERS EVERY_S` prints one JSON object.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from killed_training import job_in
from ray.cluster_utils import Cluster

from raykd.cluster.progress_actor import start_progress_actor
from raykd.training import pipeline
from raykd.training.distributed.config import WorkersConfig
from raykd.training.logging.metrics_writer import STEPS_FILE
from raykd.training.phase.job import PhaseJob
from raykd.training.pipeline import train_phases

EVENT_AT = 15


def slow_score(places: Path, *, grows: bool) -> Callable[..., dict[str, float]]:
    """Return a function that slows each step down and logs the number of workers and the node.

    A group that is to grow is slower while it has one worker, so that its training cannot end
    before Ray has started the new node.
    """

    # Ray's workers can import raykd, but not this module; a nested function is pickled by value.
    def score(*_: object) -> dict[str, float]:
        import ray
        from torch import distributed

        size = distributed.get_world_size() if distributed.is_initialized() else 1
        with places.open("a") as file:
            file.write(f"{size} {ray.get_runtime_context().get_node_id()}\n")
        is_waiting = grows and size == 1 and places.read_text().count("\n") >= EVENT_AT
        time.sleep(5 if is_waiting else 0.4)
        return {"accuracy": 0.5}

    return score


def slow_job(folder: Path, name: str) -> PhaseJob:
    job = job_in(folder, "vanilla_kd")
    config = job.config.model_copy(update={"score_every": 1})
    score = slow_score(folder / f"{name}.txt", grows=name == "grow")
    return replace(job, out=folder / name, config=config, score=score)


class Watch(threading.Thread):
    """Thread that records the steps and checkpoints of a running job with their times."""

    def __init__(self, job: PhaseJob) -> None:
        super().__init__(daemon=True)
        self.job = job
        self.started_s = time.monotonic()
        self.num_steps: list[tuple[float, int]] = []
        self.checkpoints: dict[str, float] = {}

    def run(self) -> None:
        while True:
            now = time.monotonic() - self.started_s
            path = self.job.unfinished / STEPS_FILE
            number = path.read_bytes().count(b"\n") if path.exists() else 0
            if not self.num_steps or self.num_steps[-1][1] != number:
                self.num_steps.append((now, number))
            for checkpoint in self.job.unfinished.glob("step-*"):
                self.checkpoints.setdefault(checkpoint.name, now)
            time.sleep(0.02)

    def wait_for_step(self, step: int) -> None:
        while not self.num_steps or self.num_steps[-1][1] < step:
            time.sleep(0.02)


def drain(cluster: Cluster, node_ids: list[str]) -> None:
    """Drain nodes as `ray drain-node` does."""
    client = ray._raylet.GcsClient(address=cluster.address)
    deadline = time.time_ns() // 1_000_000 + 600_000
    preemption = 2
    for node_id in node_ids:
        assert client.drain_node(node_id, preemption, "a test", deadline)[0]


def nodes_of_progress_actors(number: int) -> list[str]:
    """Return the nodes of `number` progress actors; Ray places actors without CPUs at random."""

    def node(_: object) -> str:
        node_id: str = ray.get_runtime_context().get_node_id()
        return node_id

    actors = [start_progress_actor() for _ in range(number)]
    return ray.get([actor.__ray_call__.remote(node) for actor in actors])


def last_line(path: Path) -> str:
    return path.read_text().splitlines()[-1]


def main() -> None:
    folder, event = Path(sys.argv[1]), sys.argv[2]
    min_workers, max_workers, every_s = int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(1 if event == "grow" else 2)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    pipeline._RESIZE_EVERY_S = 5.0
    answer: dict[str, Any] = {"nodes_of_progress_actors": nodes_of_progress_actors(10)}
    answer["node_of_driver"] = ray.get_runtime_context().get_node_id()
    job = slow_job(folder, event)
    watch = Watch(job)
    watch.start()
    failed: list[BaseException] = []

    def train() -> None:
        workers = WorkersConfig(num_workers=(min_workers, max_workers), checkpoint_every_s=every_s)
        try:
            train_phases([job], workers, label="train", storage=folder / "ray_train")
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    watch.wait_for_step(EVENT_AT)
    answer |= {"event_s": time.monotonic() - watch.started_s}
    answer["checkpoints_before"] = sorted(watch.checkpoints)
    if event == "lose":
        cluster.remove_node(nodes[1], allow_graceful=False)
    elif event == "grow":
        cluster.add_node(num_cpus=1)
    elif event == "drain":
        with_cpus = [node["NodeID"] for node in ray.nodes() if node["Resources"].get("CPU")]
        first = last_line(folder / "drain.txt").split()[1]
        # In a group, drain the node of the worker that does not write the checkpoints.
        drain(cluster, [node for node in with_cpus if (node == first) == (max_workers == 1)])
    thread.join()
    answer["failed"] = repr(failed)
    answer["checkpoints"] = watch.checkpoints
    lines = (folder / f"{event}.txt").read_text().splitlines()
    answer["sizes"] = [int(line.split()[0]) for line in lines]
    print(json.dumps(answer))  # noqa: T201  # read by the test
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
