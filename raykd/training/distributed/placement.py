"""Placement of jobs and workers on the cluster's CPUs."""

import math
from collections.abc import Sequence

from raykd.cluster import capacity
from raykd.training.distributed.config import WorkersConfig
from raykd.training.phase.job import PhaseJob


def uses_gpu(workers: WorkersConfig) -> bool:
    """Return whether work uses GPUs: as set; with "auto", if the cluster has or can start them.

    A task waits for a free GPU, so that one is enough; groups of workers (DDP) that wait for each
    other need all of theirs.
    """
    if workers.use_gpu != "auto":
        return workers.use_gpu
    is_in_groups = workers.max_workers > 1
    num_wanted = workers.min_workers * workers.models_at_once if is_in_groups else 1
    return capacity.total_gpus() >= num_wanted or capacity.can_start_gpus()


def uses_ray_train(workers: WorkersConfig) -> bool:
    """Return whether Ray Train runs the trainings, not tasks."""
    if workers.engine != "auto":
        return workers.engine == "train"
    return workers.max_workers > 1 or uses_gpu(workers)


def groups_at_once(workers: WorkersConfig) -> int:
    """Groups of Ray Train that run at the same time.

    A group of one worker on a GPU would wait in vain for the GPU of another one: Ray Train gives up
    after some time. A cluster that starts nodes gets the GPUs for all.
    """
    if not uses_gpu(workers) or workers.max_workers > 1 or capacity.can_start_gpus():
        return workers.models_at_once
    return min(workers.models_at_once, max(1, int(capacity.total_gpus())))


def resolved(workers: WorkersConfig) -> WorkersConfig:
    """Settings of the recipe with "auto" replaced by what the cluster has now."""
    return workers.model_copy(update={"use_gpu": uses_gpu(workers)})


def shares(jobs: Sequence[PhaseJob], num_shares: int) -> list[list[PhaseJob]]:
    """Split jobs, given longest first, into groups with about equal numbers of steps."""
    groups: list[list[PhaseJob]] = [[] for _ in range(min(num_shares, len(jobs)))]
    steps = [0] * len(groups)
    for job in jobs:
        shortest = steps.index(min(steps))
        groups[shortest].append(job)
        steps[shortest] += job.num_steps()
    return groups


def cpus_per_worker(workers: WorkersConfig, *, only_model: bool = False) -> float:
    """CPUs per worker, determined by recipe and machines but not by the unfinished jobs.

    The number of threads affects rounding, so that a model trained again alone gets the same CPUs
    as before and leaves the others idle.

    Args:
        workers: settings of the recipe.
        only_model: whether the stage always trains a single model, as the teacher's stage does; it
            gets the CPUs of all models that other stages train concurrently.
    """
    num_at_once = 1 if only_model else workers.models_at_once
    requested = workers.cpus_per_worker * (workers.models_at_once if only_model else 1)
    if num_cpus := _cpus_of_one_machine(workers):
        share = num_cpus / (workers.min_workers * num_at_once)
        return min(requested, math.floor(share * 100) / 100)
    # At least the recipe's CPUs, which a node has to have; more if a node has them.
    return max(workers.cpus_per_worker, min(requested, capacity.max_cpus_per_node()))


def threads_on(num_cpus: float) -> int:
    """Threads of a worker with `num_cpus` CPUs."""
    return max(1, int(num_cpus))


def workers_that_fit(
    workers: WorkersConfig, num_groups: int, num_cpus: float
) -> int | tuple[int, int]:
    """Workers per group, or minimum and maximum, such that all groups fit on one machine.

    Otherwise the first group would take its maximum, and the others would wait until it ends.

    Args:
        workers: settings of the recipe.
        num_groups: groups that train concurrently.
        num_cpus: CPUs per worker.
    """
    num_cpus_here = _cpus_of_one_machine(workers)
    if num_groups == 1 or not num_cpus_here:
        return workers.num_workers
    num_workers = math.floor(num_cpus_here / (num_cpus * num_groups))
    num_workers = min(workers.max_workers, max(workers.min_workers, num_workers))
    if num_workers == workers.min_workers:
        return num_workers
    return workers.min_workers, num_workers


def _cpus_of_one_machine(workers: WorkersConfig) -> float:
    """CPUs of a single-machine cluster; 0 if there are several machines or GPUs are used.

    A head node without CPUs gets nodes by autoscaling; missing GPUs were refused before.
    """
    return 0 if capacity.num_nodes() > 1 or uses_gpu(workers) else capacity.total_cpus()
