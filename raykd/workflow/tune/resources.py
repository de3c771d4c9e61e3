"""CPUs and GPUs of the trials of `raykd tune`, and how many run at the same time."""

import math
from dataclasses import dataclass

from raykd.cluster import capacity
from raykd.errors import InputError
from raykd.training.distributed.placement import uses_gpu
from raykd.workflow.recipe.recipe import Recipe


@dataclass(frozen=True)
class TrialResources:
    """Resources of each trial; `num_at_once` is None for as many as the cluster can start.

    The CPUs and GPUs are those of all `num_workers` processes of the trial.
    """

    num_cpus: float
    num_gpus: float
    num_at_once: int | None
    num_workers: int = 1

    @property
    def per_worker(self) -> dict[str, float]:
        """Resources of each process of a trial."""
        return {"CPU": self.num_cpus / self.num_workers, "GPU": self.num_gpus / self.num_workers}


def trial_resources(recipe: Recipe) -> TrialResources:
    """Resources of the recipe's trials on the present cluster.

    Raises:
        InputError: the cluster is this machine, which has too few CPUs or GPUs.
    """
    config, workers = recipe.tune, recipe.workers
    assert config is not None
    is_one_machine = capacity.num_nodes() == 1 and not capacity.can_start_nodes()
    num_workers = config.workers_per_trial
    num_cpus = config.cpus_per_trial or workers.cpus_per_worker * num_workers
    num_gpus = config.gpus_per_trial
    if num_gpus is None:
        num_gpus = float(num_workers) if uses_gpu(workers) else 0.0
    if num_workers > 1 and num_gpus % num_workers:
        raise InputError(
            f"tune.gpus_per_trial: {num_gpus:g} GPUs cannot be shared by {num_workers} workers, "
            "each of which needs whole ones; set a multiple of workers_per_trial, or 0"
        )
    if is_one_machine:
        num_cpus = min(num_cpus, capacity.max_cpus_per_node())
        if num_gpus > (present := capacity.total_gpus()):
            raise InputError(
                f"tune.gpus_per_trial: {num_gpus:g} GPUs are needed, Ray has {present:g} here; "
                "lower it, or set it to 0"
            )
    num_at_once: int | None = None
    if config.max_concurrent_trials != "auto":
        num_at_once = config.max_concurrent_trials
    elif is_one_machine:
        num_at_once = max(1, _num_fitting(num_cpus, num_gpus))
    return TrialResources(num_cpus, num_gpus, num_at_once, num_workers)


def _num_fitting(num_cpus: float, num_gpus: float) -> int:
    by_cpus = math.floor(capacity.total_cpus() / num_cpus)
    if num_gpus == 0:
        return by_cpus
    # A trial with a fraction of a GPU has it on one GPU.
    total = capacity.total_gpus()
    by_gpus = int(total) * int(1 / num_gpus) if num_gpus < 1 else int(total / num_gpus)
    return min(by_cpus, by_gpus)
