"""Simulation of a search job on clusters of 1 to 512 nodes, from times measured on two cores.

    python experiments/benchmarks/scale.py [--gigabytes 160] [--queries 1.8e6] [--top-k 100] ...

Nothing is measured here. The waves are planned by raykd's own planner, and the tasks of each wave
are placed on simulated nodes that start, are lost and are replaced. The texts of the hits are not
included. "GB sent" are those between the nodes and the machine of the command, "GB of the store"
those read and written there, at most. Every assumption is printed, with its source. Prints
Markdown.
"""

import argparse
import heapq
import random
from dataclasses import dataclass, field
from itertools import count

from raykd.retrieval.waves import plan_waves

# Microseconds of a core per query and shard, merges included, after that many shards were searched
# (docs/benchmarks.md, "The extrapolation"): of 1,373 shards, 22.4 ms per query in all.
FIRST_US, SECOND_US, LAST_US, SHARDS, TOTAL_US = 146.0, 90.0, 13.0, 1373, 22_400.0
HIT_BYTES, MERGED_BYTES = 36, 32
HITS_PER_BLOCK = 2_000_000
NUMBERS_OF_NODES = [2**power for power in range(10)]

HELP = {
    "gigabytes": "text of the corpus (the papers' corpora: 160)",
    "queries": "distinct queries (all sentences of GLUE: 1.8 million)",
    "top_k": "hits per query",
    "shard_gigabytes": "text per shard (1,373 shards in the extrapolation of docs/benchmarks.md)",
    "cores": "cores per node (m6id.4xlarge: 16 hardware threads, counted as 8)",
    "ingest": "MB of text per second and core (docs/benchmarks.md: JSONL 79.3)",
    "index": "seconds of a core per GB for statistics and postings (docs/benchmarks.md: 7)",
    "units": "bytes of units per byte of text (the log, 10 GB end to end: 0.5)",
    "gigabits": "network of the machine of the command, through which all files of tasks pass; 0: "
    "nodes mount its disk, and the network is not simulated",
    "start": "seconds until a new node takes tasks",
    "losses": "losses per node and hour (spot instances; no figure is measured)",
    "price": "price of a node per hour, in dollars (an assumption: look up that of your cloud)",
}


@dataclass(frozen=True)
class _Running:
    task: tuple[float, float, float]
    started_s: float


@dataclass
class Cluster:
    """Cores that take tasks in order, and one network line that transfers files in order."""

    num_nodes: int
    options: argparse.Namespace
    now_s: float = 0.0
    num_lost: int = 0
    network_s: float = 0.0
    gigabytes: float = 0.0
    store_gigabytes: float = 0.0
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.num_nodes)
        self.losses = [self._next_loss(0.0) for _ in range(self.num_nodes)]
        self.now_s = self.options.start

    def _next_loss(self, after_s: float) -> float:
        rate = self.options.losses / 3600
        return after_s + self.chance.expovariate(rate) if rate else float("inf")

    def transfer(self, from_s: float, gigabytes: float) -> float:
        """Time at which the line has transferred a file that waits since a time."""
        self.gigabytes += gigabytes
        if not self.options.gigabits:
            return from_s
        self.network_s = max(self.network_s, from_s) + gigabytes * 8 / self.options.gigabits
        return self.network_s

    def run(self, tasks: list[tuple[float, float, float]]) -> None:
        """Run tasks (gigabytes read, seconds, gigabytes written); all wait for the last one."""
        waiting, end_s = list(reversed(tasks)), self.now_s
        # Time, number for the order, node, and the running task with the time of its start.
        events: list[tuple[float, int, int, _Running | None]] = []
        order = count()

        def add(at_s: float, node: int, running: _Running | None) -> None:
            heapq.heappush(events, (at_s, next(order), node, running))

        for node in range(self.num_nodes):
            for _ in range(self.options.cores):
                add(self.now_s, node, None)
        num_running = 0
        while waiting or num_running:
            at_s, _, node, running = heapq.heappop(events)
            if running is None:
                if waiting:
                    task = waiting.pop()
                    read_s = self.transfer(at_s, task[0])
                    add(read_s + task[1], node, _Running(task, at_s))
                    num_running += 1
                continue
            num_running -= 1
            done_s = self.transfer(at_s, running.task[2])
            # What is written is copied to the object store as well.
            self.store_gigabytes += running.task[2]
            if running.started_s <= self.losses[node] < done_s:
                # The other tasks of the node are lost too, each when its turn comes.
                waiting.append(running.task)
                self.num_lost += 1
                back_s = self.losses[node] + self.options.start
                add(max(back_s, at_s), node, None)
            else:
                if running.started_s > self.losses[node]:
                    self.losses[node] = self._next_loss(running.started_s)
                end_s = max(end_s, done_s)
                add(done_s, node, None)
        self.now_s = end_s


def query_us(num_before: int) -> float:
    """Microseconds of a core per query and shard after `num_before` shards."""
    if num_before == 0:
        return FIRST_US
    return LAST_US + (SECOND_US - LAST_US) * num_before**-_DECAY


def _decay() -> float:
    """Exponent at which the times of all shards add up to the measured total."""
    low, high = 0.1, 3.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        rest = sum((SECOND_US - LAST_US) * n**-middle for n in range(1, SHARDS))
        total = FIRST_US + LAST_US * (SHARDS - 1) + rest
        low, high = (middle, high) if total > TOTAL_US else (low, middle)
    return low


_DECAY = _decay()


def simulate(num_nodes: int, options: argparse.Namespace) -> Cluster:
    """Ingest, search and merge the corpus on a cluster."""
    cluster = Cluster(num_nodes, options)
    size = options.shard_gigabytes
    num_shards = max(1, round(options.gigabytes / size))
    units = size * options.units
    # Nodes read the text from the object store, once for its digest; units go to the command.
    cluster.store_gigabytes = 2 * options.gigabytes
    cluster.run([(0.0, size * 1000 / options.ingest, units)] * num_shards)
    num_blocks = max(1, round(options.queries * options.top_k / HITS_PER_BLOCK))
    num_cores = num_nodes * options.cores
    digests = [f"{number:08d}" for number in range(num_shards)]
    num_before = 0
    for wave in plan_waves(digests, -(-num_cores // num_blocks), num_cores):
        num_after = num_before + len(wave)
        seconds = size * options.index + options.queries * query_us(num_before) / 1e6
        # Of a query's best hits, as many are expected in each shard as in any other one.
        hits = options.queries * options.top_k / num_after * HIT_BYTES / 1e9
        parts = max(1, num_cores // len(wave)) if len(wave) < num_cores else 1
        parts = min(parts, num_blocks)
        # Each part of a shard builds the shard's index again.
        part = (
            units,
            size * options.index + (seconds - size * options.index) / parts,
            hits / parts,
        )
        cluster.run([part] * (len(wave) * parts))
        merged = options.queries * options.top_k * MERGED_BYTES / 1e9
        read = (merged if num_before else 0.0) + hits * len(wave)
        cluster.run([(read / num_blocks, 0.0, merged / num_blocks)] * num_blocks)
        num_before = num_after
    return cluster


def core_hours_of_work(options: argparse.Namespace) -> float:
    """Core-hours of one core that searches one shard after the other."""
    num_shards = max(1, round(options.gigabytes / options.shard_gigabytes))
    queries = options.queries * sum(query_us(number) for number in range(num_shards)) / 1e6
    text = options.gigabytes * (1000 / options.ingest + options.index)
    return (queries + text) / 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = {
        "gigabytes": 160.0,
        "queries": 1.8e6,
        "top_k": 100,
        "shard_gigabytes": 160 / SHARDS,
        "cores": 8,
        "ingest": 79.3,
        "index": 7.0,
        "units": 0.5,
        "gigabits": 10.0,
        "start": 180.0,
        "losses": 0.05,
        "price": 0.4,
    }
    for name, default in defaults.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(default), default=default, help=HELP[name])
    options = parser.parse_args()
    print("| assumption | value |\n|---|---|")
    for name in defaults:
        print(f"| {HELP[name]} | {getattr(options, name):,.6g} |")
    work = core_hours_of_work(options)
    print(f"\n{work:.1f} core-hours of work on one core, one shard after the other.\n")
    columns = ["nodes", "hours", "of the bound", "node-hours", "dollars", "tasks lost", "GB sent"]
    print(f"| {' | '.join(columns)} | GB of the store |\n{'|---' * 8}|")
    for num_nodes in NUMBERS_OF_NODES:
        cluster = simulate(num_nodes, options)
        hours = cluster.now_s / 3600
        share = work / (num_nodes * options.cores) / hours
        print(
            f"| {num_nodes} | {hours:.2f} | {share:.0%} | {num_nodes * hours:.1f} | "
            f"{num_nodes * hours * options.price:.2f} | {cluster.num_lost} | "
            f"{cluster.gigabytes:,.0f} | {cluster.store_gigabytes:,.0f} |"
        )


if __name__ == "__main__":
    main()
