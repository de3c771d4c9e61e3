"""Number of workers per model: a number or a range, and their placement on the machines."""

import pytest

from raykd.cluster import capacity
from raykd.errors import InputError
from raykd.training.distributed.config import WorkersConfig
from raykd.training.distributed.placement import (
    cpus_per_worker,
    groups_at_once,
    uses_ray_train,
    workers_that_fit,
)


def config(num_workers, **values) -> WorkersConfig:
    return WorkersConfig.parse({"num_workers": num_workers, **values}, "recipe.yaml")


@pytest.mark.parametrize(
    ("given", "ends"), [(1, (1, 1)), (3, (3, 3)), ([1, 4], (1, 4)), ([2, 2], (2, 2))]
)
def test_a_number_and_a_range_have_a_minimum_and_a_maximum(given, ends):
    workers = config(given)
    assert (workers.min_workers, workers.max_workers) == ends
    assert WorkersConfig.parse(workers.model_dump(mode="json"), "again") == workers


@pytest.mark.parametrize("given", [0, [0, 2], [3, 2], [1], [1, 2, 3], "2", 1.5, True, None, {}])
def test_other_values_are_refused_with_one_message(given):
    with pytest.raises(
        InputError, match=r"expected a number of at least 1, or \[at least, at most\]"
    ):
        config(given)


@pytest.mark.parametrize(
    ("num_cpus", "given", "num_groups", "cpus", "fits"),
    [
        (1, [1, 4], 1, 1.0, (1, 4)),
        (1, [2, 4], 1, 0.5, (2, 4)),
        (4, [1, 4], 2, 1.0, (1, 2)),
        (2, [1, 4], 2, 1.0, 1),
        (2, 2, 2, 0.5, 2),
        (0, [1, 4], 2, 1.0, (1, 4)),
    ],
)
def test_on_one_machine_all_groups_fit(num_cpus, given, num_groups, cpus, fits, monkeypatch):
    monkeypatch.setattr(capacity, "num_nodes", lambda: 1)
    monkeypatch.setattr(capacity, "total_cpus", lambda: num_cpus)
    workers = config(given, models_at_once=num_groups)
    assert cpus_per_worker(workers) == cpus
    assert workers_that_fit(workers, num_groups, cpus) == fits


@pytest.mark.parametrize(
    ("given", "num_gpus", "is_train"),
    [
        ({}, 0, False),
        ({}, 1, True),
        ({"num_workers": 2}, 0, True),
        ({"num_workers": [1, 2]}, 0, True),
        ({"use_gpu": False}, 4, False),
        ({"engine": "task"}, 4, False),
        ({"engine": "train"}, 0, True),
    ],
)
def test_ray_train_runs_groups_and_trainings_on_gpus(given, num_gpus, is_train, monkeypatch):
    monkeypatch.setattr(capacity, "total_gpus", lambda: num_gpus)
    monkeypatch.setattr(capacity, "can_start_gpus", lambda: False)
    assert uses_ray_train(WorkersConfig.parse(given, "recipe.yaml")) == is_train


@pytest.mark.parametrize(
    ("num_gpus", "can_start", "num_groups"),
    [(1, False, 1), (2, False, 2), (8, False, 3), (1, True, 3)],
)
def test_groups_of_one_worker_do_not_wait_for_each_others_gpu(
    num_gpus, can_start, num_groups, monkeypatch
):
    monkeypatch.setattr(capacity, "total_gpus", lambda: num_gpus)
    monkeypatch.setattr(capacity, "can_start_gpus", lambda: can_start)
    assert groups_at_once(config(1, models_at_once=3)) == num_groups


def test_a_task_trains_a_model_with_one_worker():
    with pytest.raises(InputError, match="engine: task .* set num_workers: 1"):
        config([1, 2], engine="task")


def test_a_cluster_may_grow(monkeypatch):
    monkeypatch.setattr(capacity, "num_nodes", lambda: 3)
    monkeypatch.setattr(capacity, "max_cpus_per_node", lambda: 2)
    workers = config([1, 4], models_at_once=2)
    assert cpus_per_worker(workers) == 1.0
    assert workers_that_fit(workers, 2, 1.0) == (1, 4)
