"""Number of workers per model: a number or a range, and their placement on the machines."""

import pytest

from raykd.cluster import capacity
from raykd.errors import InputError
from raykd.training.distributed.config import WorkersConfig
from raykd.training.distributed.placement import cpus_per_worker, workers_that_fit


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


def test_a_cluster_may_grow(monkeypatch):
    monkeypatch.setattr(capacity, "num_nodes", lambda: 3)
    monkeypatch.setattr(capacity, "max_cpus_per_node", lambda: 2)
    workers = config([1, 4], models_at_once=2)
    assert cpus_per_worker(workers) == 1.0
    assert workers_that_fit(workers, 2, 1.0) == (1, 4)
