"""Times of a run's stages: wall time, CPU and GPU hours, and which stage runs now."""

import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from raykd.cluster.capacity import connected_resources
from raykd.storage.checked_json import read_informative, to_checked_json
from raykd.storage.schemas import RUNNING, TIMES_FILE, USAGE
from raykd.storage.working_files import write_atomically

_SAMPLE_S = 5.0
_WRITE_S = 30.0


class StageTimes:
    """Times of one stage while it runs.

    The hours are those of all CPUs and GPUs that the cluster has in the meantime, sampled every
    five seconds: what a cluster costs, also where it is idle. They add up over interrupted
    attempts. A stage that runs for less than half a minute is recorded at its end only.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        self._path = folder / TIMES_FILE
        self._stage = stage
        self._started_s = time.time()
        self._started = self._sampled = time.monotonic()
        self._cpu_s = self._gpu_s = 0.0
        self._resources: tuple[float, float] | None = None
        self._was_written = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self, *, is_recorded: bool, is_complete: bool) -> None:
        """Stop sampling, and record the stage if it did any work.

        Args:
            is_recorded: whether the stage wrote an output; a long attempt is recorded in any case.
            is_complete: whether the stage ended without an error.
        """
        self._stop.set()
        self._thread.join()
        if is_recorded or self._was_written:
            self._sample()
            self._write(is_running=False, is_complete=is_complete and is_recorded)

    def _run(self) -> None:
        written = self._started
        while not self._stop.wait(_SAMPLE_S):
            self._sample()
            if time.monotonic() - written >= _WRITE_S:
                written = time.monotonic()
                with suppress(OSError):  # reported by the stage itself
                    self._write(is_running=True, is_complete=False)

    def _sample(self) -> None:
        self._resources = connected_resources() or self._resources
        now = time.monotonic()
        if self._resources is not None:
            self._cpu_s += self._resources[0] * (now - self._sampled)
            self._gpu_s += self._resources[1] * (now - self._sampled)
        self._sampled = now

    def _write(self, *, is_running: bool, is_complete: bool) -> None:
        values = read_informative(self._path)
        wall_s = time.monotonic() - self._started
        usage: dict[str, Any] = dict(values.get(USAGE, {}))
        before = values.get(RUNNING) or {}
        own = {"stage": self._stage, "started_s": self._started_s}
        is_own = all(before.get(name) == value for name, value in own.items())
        # Attempts before this one; this one replaces what it wrote itself.
        base = before["base"] if is_own else usage.get(self._stage)
        base = base or {"wall_s": 0.0, "cpu_s": 0.0, "gpu_s": 0.0}
        usage[self._stage] = {
            "wall_s": round(base["wall_s"] + wall_s, 1),
            "cpu_s": round(base["cpu_s"] + self._cpu_s, 1),
            "gpu_s": round(base["gpu_s"] + self._gpu_s, 1),
        }
        values[USAGE] = usage
        if is_running:
            here = {"host": platform.node(), "pid": os.getpid(), "updated_s": time.time()}
            values[RUNNING] = {**own, **here, "base": base}
        else:
            values.pop(RUNNING, None)
        if is_complete:
            values[self._stage] = round(wall_s, 1)
        write_atomically(self._path, to_checked_json(values))
        self._was_written = True


@contextmanager
def timed(folder: Path, stage: str, outputs: tuple[str, ...]) -> Iterator[None]:
    """Record the times of a stage in `folder/times.json`, unless it was skipped.

    Args:
        folder: run directory.
        stage: name of the stage.
        outputs: patterns of the manifests that it writes; an unchanged one was skipped.
    """
    before = _states(folder, outputs)
    times = StageTimes(folder, stage)
    is_complete = False
    try:
        yield
        is_complete = True
    finally:
        times.close(is_recorded=_states(folder, outputs) != before, is_complete=is_complete)


def _states(folder: Path, patterns: tuple[str, ...]) -> set[tuple[Path, int]]:
    paths = [path for pattern in patterns for path in folder.glob(pattern)]
    return {(path, path.stat().st_mtime_ns) for path in paths}
