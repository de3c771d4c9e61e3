"""Rerun of a command after any failure: the same bytes, and completed work is skipped."""

import math
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import chaos
import pyarrow.parquet as pq
import pytest
from chaos import NUM_SHARDS, Command, Finished, kill, write_inputs

from raykd.cli.app import _exit_code as raykd
from raykd.storage.working_files import is_alive

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

# More are worth their time before a release.
NUM_KILLS = int(os.environ.get("RAYKD_TEST_KILLS", "3"))
NUM_NODE_KILLS = math.ceil(NUM_KILLS / 3)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Corpus and queries, and what an undisturbed search finds in expected.parquet."""
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    assert raykd(search_in(folder, "hits")) == 0
    shutil.move(folder / "hits" / "hits.parquet", folder / "expected.parquet")
    shutil.rmtree(folder / "hits")
    return folder


@pytest.fixture
def folder(inputs: Path, tmp_path: Path) -> Path:
    """Folder in which the commands of one test run."""
    return Path(shutil.copytree(inputs, tmp_path / "search"))


def search_in(folder: Path, out: str) -> list[str]:
    return Command.arguments(folder / "corpus.jsonl", folder / "queries.jsonl", folder / out)


def is_as_expected(folder: Path) -> bool:
    found = (folder / "hits" / "hits.parquet").read_bytes()
    return found == (folder / "expected.parquet").read_bytes()


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_a_killed_search_resumes_and_repairs_damaged_files(folder: Path) -> None:
    with Finished(folder) as finished:
        command = Command(folder)
        workers: list[int] = []

        def is_searching() -> bool:
            workers[:] = command.workers() if finished.done("hits") else []
            return bool(workers)

        assert command.wait_until(is_searching)
        kill(random.Random(0).choice(workers))
        assert command.wait_until(lambda: len(finished.done("hits")) >= NUM_SHARDS // 2)
        command.kill()
        assert not (folder / "hits").exists()
        # Hits of the first waves are merged, and gone.
        flipped = next(
            path for path in map(folder.joinpath, finished.done("hits")) if path.exists()
        )
        truncated = folder / finished.done("units")[2]
        counted = folder / finished.done("statistics")[0]
        flip_a_bit(flipped / "hits.bin")
        flip_a_bit(counted / "terms.npz")
        with (truncated / "units-00000.parquet").open("r+b") as file:
            file.truncate(100)
        assert Command(folder).process.wait() == 0
    assert is_as_expected(folder)
    assert {folder / name for name in finished.done_again()} == {flipped, truncated, counted}
    assert len(finished.done("hits")) == NUM_SHARDS
    assert sorted(path.name for path in folder.glob(".*")) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def is_being_written(path: Path) -> bool:
    _, mark, writer = path.name.partition(".partial-")
    return bool(mark) and is_alive(int(writer.split("-")[-2]))


@pytest.mark.slow
def test_a_full_disk_is_one_error_and_after_freeing_space_the_hits_are_equal(
    folder: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command.arguments(
        folder / "corpus.jsonl", folder / "queries.jsonl", small_disk / "hits"
    )
    assert raykd(command) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert line.startswith(f"error: {small_disk}")
    assert "No space left on device; free some space" in line
    assert not (small_disk / "hits").exists()
    # Tasks of other shards end a moment later than the command; Ray may kill their processes.
    deadline_s = time.monotonic() + 60
    while partial := [path for path in small_disk.glob("*/*") if is_being_written(path)]:
        assert time.monotonic() < deadline_s, partial
        time.sleep(0.2)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert raykd(command) == 0
    found = (small_disk / "hits" / "hits.parquet").read_bytes()
    assert found == (folder / "expected.parquet").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kills_of_workers_and_drivers_at_random_moments_change_nothing(folder: Path) -> None:
    rng = random.Random(1)
    num_kills = num_searches = 0
    while num_kills < NUM_KILLS:
        num_searches += 1
        with Finished(folder) as finished:
            command = Command(folder)
            while command.process.poll() is None:
                moment = len(finished.seen) + rng.randint(0, NUM_SHARDS)
                if not command.wait_until(lambda at=moment: len(finished.seen) >= at):
                    break
                if rng.random() < 0.5 and (workers := command.workers()):
                    kill(rng.choice(workers))
                else:
                    command.kill()
                    command = Command(folder)
                num_kills += 1
            assert command.process.returncode == 0, (folder / "errors.txt").read_text()
        assert is_as_expected(folder), f"search {num_searches}"
        assert finished.done_again() == []
        shutil.rmtree(folder / "hits")


# So small that a small corpus makes several tasks of every step, and several files.
_DEDUP_IN_SMALL_PARTS = """
import sys
from functools import partial

from raykd.cli.app import _exit_code as raykd
from raykd.dedup import pipeline

pipeline.Sizes = partial(
    pipeline.Sizes, shard_bytes=400_000, units_per_partition=6000, keys_per_partition=90_000
)
pipeline.DedupConfig = partial(pipeline.DedupConfig, output_shard_bytes=200_000)
sys.exit(raykd(sys.argv[1:]))
"""


def dedup_to(out: str) -> list[str]:
    near = ["--near", "--threshold", "0.5", "--shingle-words", "2"]
    return ["-c", _DEDUP_IN_SMALL_PARTS, "dedup", "corpus.jsonl", "--out", out, *near]


def tables_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_kills_of_a_dedup_at_random_moments_change_nothing(folder: Path) -> None:
    assert Command(folder, dedup_to("undisturbed")).process.wait() == 0
    expected = tables_below(folder / "undisturbed")
    assert len(expected) > 4
    reasons = pq.read_table(folder / "undisturbed" / "removed.parquet")["reason"]
    assert set(reasons.to_pylist()) == {"duplicate", "near_duplicate"}
    rng = random.Random(3)
    num_kills = 0
    while num_kills < NUM_KILLS:
        with Finished(folder, ".clean.*/*/manifest.json") as finished:
            command = Command(folder, dedup_to("clean"))
            while num_kills < NUM_KILLS:
                moment = len(finished.seen) + rng.randint(0, 10)
                if not command.wait_until(lambda at=moment: len(finished.seen) >= at):
                    break
                time.sleep(rng.uniform(0, 0.2))
                command.kill()
                num_kills += 1
                command = Command(folder, dedup_to("clean"))
            assert command.process.wait() == 0, (folder / "errors.txt").read_text()
        assert tables_below(folder / "clean") == expected
        assert finished.done_again() == []
        assert sorted(path.name for path in folder.glob(".*")) == []
        shutil.rmtree(folder / "clean")


_LOSE_A_NODE = """
import sys
import threading
import time
from pathlib import Path

import ray
from chaos import Finished
from ray.cluster_utils import Cluster

from raykd.cli.app import _exit_code as raykd

moment, arguments = int(sys.argv[1]), sys.argv[2:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)


def lose_a_node():
    with Finished(Path.cwd()) as finished:
        while len(finished.seen) < moment:
            time.sleep(0.01)
    cluster.remove_node(nodes[1], allow_graceful=False)
    Path("lost").touch()


threading.Thread(target=lose_a_node, daemon=True).start()
exit_code = raykd(arguments)
# Otherwise the cluster, which is in this process, would stop before Ray's driver does.
ray.shutdown()
sys.exit(exit_code)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_node_lost_at_a_random_moment_changes_nothing(folder: Path) -> None:
    rng = random.Random(2)
    for _ in range(NUM_NODE_KILLS):
        moment = rng.randint(1, 3 * NUM_SHARDS)
        arguments = search_in(folder, "hits")
        with Finished(folder) as finished:
            ended = subprocess.run(
                [sys.executable, "-c", _LOSE_A_NODE, str(moment), *arguments],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(Path(chaos.__file__).parent)},
                check=False,
                capture_output=True,
                text=True,
            )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert (folder / "lost").exists(), f"not lost at {moment} parts: {ended.stderr}"
        assert is_as_expected(folder)
        assert finished.done_again() == []
        shutil.rmtree(folder / "hits")
        (folder / "lost").unlink()
