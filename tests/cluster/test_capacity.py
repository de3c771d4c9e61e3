"""Requests against what a cluster has, and nodes for work without a GPU."""

from typing import Any

import pytest

from raykd.cluster import capacity
from raykd.errors import InputError


@pytest.mark.ray
def test_too_large_cpu_requests_are_refused_or_reported(ray_cluster, monkeypatch, capsys):
    with pytest.raises(InputError, match="train: needs 3 CPUs, but the largest machine has 2"):
        capacity.check_cpu_request("train", 3)
    monkeypatch.setattr(capacity, "_is_own_ray", lambda: False)
    capacity.check_cpu_request("train", 3)
    assert "waiting for a larger one (or lower workers.cpus" in capsys.readouterr().err
    capacity.check_cpu_request("train", 2)
    assert capsys.readouterr().err == ""


def node(name: str, cpus: float, gpus: float = 0, **labels: str) -> dict[str, Any]:
    return {
        "NodeID": name,
        "Alive": True,
        "Labels": {"ray.io/node-id": name, **labels},
        "Resources": {"CPU": cpus, "GPU": gpus, "memory": 1000.0 * cpus},
    }


@pytest.mark.parametrize(
    ("nodes", "selector"),
    [
        ([node("a", 4)], {}),
        # Nothing but GPU nodes: they do all work.
        ([node("head", 0), node("a", 4, gpus=1)], {}),
        ([node("a", 4), node("b", 8, gpus=1)], {"ray.io/node-id": "!in(b)"}),
        (
            [node("a", 4), node("c", 8, gpus=1), node("b", 8, gpus=4)],
            {"ray.io/node-id": "!in(b,c)"},
        ),
        # Nodes with labels: the pool of CPUs may have no node yet.
        ([node("head", 0, **{"raykd-pool": "head"})], {"raykd-pool": "!gpu"}),
        (
            [node("head", 0, **{"raykd-pool": "head"}), node("a", 8, 1, **{"raykd-pool": "gpu"})],
            {"raykd-pool": "!gpu"},
        ),
    ],
)
def test_work_without_a_gpu_keeps_off_gpu_nodes_if_there_are_others(monkeypatch, nodes, selector):
    monkeypatch.setattr(capacity, "_nodes", lambda: nodes)
    assert capacity.cpu_nodes() == selector


def test_memory_is_requested_up_to_that_of_the_largest_node(monkeypatch):
    monkeypatch.setattr(capacity, "_nodes", lambda: [node("a", 4), node("b", 2)])
    assert capacity.limited_memory(3000) == 3000
    assert capacity.limited_memory(5000) == 4000
    monkeypatch.setattr(capacity, "_nodes", lambda: [node("head", 0)])
    assert capacity.limited_memory(5000) == 5000
