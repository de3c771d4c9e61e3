"""Commands in separate processes that tests kill: inputs, the command, its processes."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

NUM_UNITS, NUM_QUERIES, NUM_SHARDS, SHARD_BYTES = 24_000, 1500, 19, 160_000
_WORDS = [f"word{number}" for number in range(400)]
_POLL_S = 0.01


def write_inputs(folder: Path) -> None:
    """Write corpus.jsonl and queries.jsonl."""
    rng = random.Random(0)

    def text(longest: int) -> str:
        # A few words occur in most units and most words in a few, as in natural language.
        numbers = (int(len(_WORDS) * rng.random() ** 3) for _ in range(rng.randint(1, longest)))
        return " ".join(_WORDS[number] for number in numbers)

    for name, id_name, num_rows, longest in (
        ("corpus", "unit_id", NUM_UNITS, 24),
        ("queries", "query_id", NUM_QUERIES, 6),
    ):
        with (folder / f"{name}.jsonl").open("w") as file:
            for number in range(num_rows):
                row = {id_name: f"{number:06d}", "text": text(longest)}
                file.write(json.dumps(row) + "\n")


class Finished(threading.Thread):
    """Thread that records completed working directories of a command and repeated completions."""

    def __init__(self, folder: Path, pattern: str = ".hits.*/*/manifest.json") -> None:
        super().__init__(daemon=True)
        self.folder, self.pattern = folder, pattern
        self.seen: dict[str, set[tuple[int, int]]] = {}
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(_POLL_S):
            try:
                manifests = list(self.folder.glob(self.pattern))
            except FileNotFoundError:  # The searched folder has been removed.
                continue
            for path in manifests:
                # Drafts are not complete, whatever they contain.
                if ".partial-" in path.parent.name:
                    continue
                try:
                    facts = path.stat()
                except OSError:
                    continue
                name = str(path.parent.relative_to(self.folder))
                self.seen.setdefault(name, set()).add((facts.st_ino, facts.st_mtime_ns))

    def done(self, kind: str) -> list[str]:
        """Return names of completed directories of a kind: units, statistics, hits, merged."""
        names = {"units": "shard-"}.get(kind, f"{kind}-")
        return [name for name in self.seen if name.rpartition("/")[2].startswith(names)]

    def done_again(self) -> list[str]:
        return [name for name, manifests in self.seen.items() if len(manifests) > 1]

    def __enter__(self) -> "Finished":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


class Command:
    """`raykd search`, or another command of Python's, running."""

    def __init__(self, folder: Path, command: Sequence[str] | None = None) -> None:
        self.errors = (folder / "errors.txt").open("a")
        paths = map(folder.joinpath, ("corpus.jsonl", "queries.jsonl", "hits"))
        self.process = subprocess.Popen(
            [sys.executable, *(command or ["-m", "raykd", *self.arguments(*paths)])],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            # Without it, it would join the Ray of whoever runs the tests.
            env={**os.environ, "RAY_ADDRESS": "local"},
        )

    @staticmethod
    def arguments(corpus: Path, queries: Path, out: Path) -> list[str]:
        """Return the arguments of a search command."""
        paths = ["--corpus", str(corpus), "--queries", str(queries), "--out", str(out)]
        return ["search", *paths, "--top-k", "40", "--shard-bytes", str(SHARD_BYTES)]

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Wait for a condition; return False if the command has ended before."""
        while self.process.poll() is None:
            if condition():
                return True
            time.sleep(_POLL_S)
        return False

    def processes(self) -> list[int]:
        """Return the ids of all processes that the command has started."""
        children: dict[int, list[int]] = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(status.parent.name))
        process_ids = [self.process.pid]
        for process_id in process_ids:
            process_ids += children.get(process_id, [])
        return process_ids[1:]

    def workers(self) -> list[int]:
        """Return the ids of the processes that run a task now."""
        # Plain tasks, and operators of Ray Data.
        names = ("ray::_apply", "ray::MapBatches")
        return [pid for pid in self.processes() if _name(pid).startswith(names)]

    def kill(self) -> None:
        """Kill the driver and the Ray processes that outlive it."""
        others = self.processes()
        kill(self.process.pid)
        self.process.wait()
        time.sleep(0.5)
        for process_id in others:
            kill(process_id)


def kill(process_id: int) -> None:
    """Send SIGKILL if the process still exists."""
    try:
        os.kill(process_id, signal.SIGKILL)
    except ProcessLookupError:
        return


def _name(process_id: int) -> str:
    try:
        return Path(f"/proc/{process_id}/cmdline").read_text()
    except OSError:
        return ""
