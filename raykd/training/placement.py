"""How jobs and workers are fitted into the room that the cluster has."""

import math
from collections.abc import Sequence

from raykd import cluster
from raykd.training.phases import PhaseJob
from raykd.training.workers import WorkersConfig


def shares(jobs: Sequence[PhaseJob], num_shares: int) -> list[list[PhaseJob]]:
    """Spread the jobs, the longest first, so that every group has about as many steps."""
    found: list[list[PhaseJob]] = [[] for _ in range(min(num_shares, len(jobs)))]
    steps = [0] * len(found)
    for job in jobs:
        least = steps.index(min(steps))
        found[least].append(job)
        steps[least] += job.num_steps()
    return found


def cpus_that_fit(workers: WorkersConfig, num_groups: int) -> float:
    """CPUs a worker asks for; fewer groups than may run at once share all of their CPUs.

    On one machine never more than it has, else Train waits for ever.
    """
    wanted = workers.cpus_per_worker * workers.models_at_once / num_groups
    if not (num_cpus := _cpus_of_one_machine(workers)):
        return wanted
    share = num_cpus / (workers.fewest * num_groups)
    return min(wanted, math.floor(share * 100) / 100)


def workers_that_fit(workers: WorkersConfig, num_groups: int) -> int | tuple[int, int]:
    """Workers of a group, or the fewest and the most; groups beside it find room on one machine.

    The group that starts first takes its most otherwise, and the others wait for its end.
    """
    num_cpus = _cpus_of_one_machine(workers)
    if num_groups == 1 or not num_cpus:
        return workers.num_workers
    most = math.floor(num_cpus / (cpus_that_fit(workers, num_groups) * num_groups))
    most = min(workers.most, max(workers.fewest, most))
    return most if most == workers.fewest else (workers.fewest, most)


def _cpus_of_one_machine(workers: WorkersConfig) -> float:
    """CPUs of a machine that is alone; 0 where more may come when they are asked for.

    A head without CPUs of its own has them come, and more GPUs than there are were refused.
    """
    return 0 if cluster.num_nodes() > 1 or workers.use_gpu else cluster.total_cpus()
