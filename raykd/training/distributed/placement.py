"""How jobs and workers are fitted into the room that the cluster has."""

import math
from collections.abc import Sequence

from raykd.cluster import tasks as cluster
from raykd.training.distributed.config import WorkersConfig
from raykd.training.phases import PhaseJob


def shares(jobs: Sequence[PhaseJob], num_shares: int) -> list[list[PhaseJob]]:
    """Spread the jobs, the longest first, so that every group has about as many steps."""
    found: list[list[PhaseJob]] = [[] for _ in range(min(num_shares, len(jobs)))]
    steps = [0] * len(found)
    for job in jobs:
        least = steps.index(min(steps))
        found[least].append(job)
        steps[least] += job.num_steps()
    return found


def cpus_per_worker(workers: WorkersConfig, *, only_model: bool = False) -> float:
    """CPUs of one worker: decided by the recipe and the machines, never by the jobs that are left.

    The number of threads changes how sums are rounded. A model that is trained again when all
    others are done therefore has the same CPUs as before, and leaves the rest idle.

    Args:
        workers: of the recipe.
        only_model: whether the stage trains one model in any case, as the teacher's does: it has
            the CPUs of all models that train at once in other stages.
    """
    num_at_once = 1 if only_model else workers.models_at_once
    wanted = workers.cpus_per_worker * (workers.models_at_once if only_model else 1)
    if num_cpus := _cpus_of_one_machine(workers):
        share = num_cpus / (workers.min_workers * num_at_once)
        return min(wanted, math.floor(share * 100) / 100)
    # A node can start a worker of the recipe's size, or none can. More is taken where it is.
    return max(workers.cpus_per_worker, min(wanted, cluster.max_cpus_per_node()))


def threads_on(num_cpus: float) -> int:
    """Threads of a worker with that many CPUs."""
    return max(1, int(num_cpus))


def workers_that_fit(
    workers: WorkersConfig, num_groups: int, num_cpus: float
) -> int | tuple[int, int]:
    """Workers of a group, or the fewest and the most; groups beside it find room on one machine.

    The group that starts first takes its most otherwise, and the others wait for its end.

    Args:
        workers: of the recipe.
        num_groups: groups that train at once.
        num_cpus: CPUs of one worker.
    """
    num_cpus_here = _cpus_of_one_machine(workers)
    if num_groups == 1 or not num_cpus_here:
        return workers.num_workers
    most = math.floor(num_cpus_here / (num_cpus * num_groups))
    most = min(workers.max_workers, max(workers.min_workers, most))
    return most if most == workers.min_workers else (workers.min_workers, most)


def _cpus_of_one_machine(workers: WorkersConfig) -> float:
    """CPUs of a machine that is alone; 0 where more may come when they are asked for.

    A head without CPUs of its own has them come, and more GPUs than there are were refused.
    """
    return 0 if cluster.num_nodes() > 1 or workers.use_gpu else cluster.total_cpus()
