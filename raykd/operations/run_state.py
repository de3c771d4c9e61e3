"""State of a run: stages, shards, trials, remaining time, computing time and its cost.

Everything is read from the run directory; neither the recipe nor Ray nor torch is needed.
"""

import fnmatch
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from raykd.errors import InputError
from raykd.operations.trial_counts import TrialCounts, count_trials
from raykd.storage.checked_json import from_checked_json
from raykd.storage.manifest import Manifest, read_manifest
from raykd.storage.schemas import PLAN_FILE, RUNNING, TIMES_FILE, USAGE
from raykd.storage.working_files import working_directory

State = Literal["done", "running", "interrupted", "left"]

# A running stage reports every 30 s.
_ALIVE_S = 120.0
_SHARDS = "shard-*"
_SHARD_FILES = "shard-*/units-*.parquet"


@dataclass(frozen=True)
class StageState:
    """State of one stage.

    Attributes:
        name: name of the stage.
        state: "interrupted" means begun by a process that has ended.
        num_done: complete outputs, such as models.
        num_outputs: planned outputs.
        progress: shards so far, if the stage works on shards.
        time_s: wall time of the last complete execution, in seconds.
        left_s: estimated seconds until its end; None if unknown.
    """

    name: str
    state: State
    num_done: int
    num_outputs: int
    progress: str | None
    time_s: float | None
    left_s: float | None


@dataclass(frozen=True)
class Hours:
    """CPU and GPU hours of a run, and their cost if the recipe has prices."""

    cpu_hours: float
    gpu_hours: float
    cost: float | None
    currency: str | None


@dataclass(frozen=True)
class RunState:
    """State of a run."""

    name: str
    folder: str
    stages: tuple[StageState, ...]
    trials: TrialCounts | None
    hours: Hours | None
    runs_on: str | None

    @property
    def is_done(self) -> bool:
        """Return whether every stage is complete."""
        return all(stage.state == "done" for stage in self.stages)


def read_state(folder: Path) -> RunState:
    """Read the state of a run; nothing is changed.

    Raises:
        InputError: the folder is not a run directory, or its plan is damaged.
    """
    plan = read_plan(folder)
    times = _read_times(folder)
    running = _running(times)
    stages = [
        _stage_state(folder, name, outputs, times, running, int(plan["models_at_once"]))
        for name, outputs in plan["stages"].items()
    ]
    runs_on = f"{running['host']}, process {running['pid']}" if running else None
    return RunState(
        name=str(plan["name"]),
        folder=str(folder),
        stages=tuple(stages),
        trials=count_trials(folder / "tune", plan["num_trials"]),
        hours=_hours(times, plan["prices"]),
        runs_on=runs_on,
    )


def read_plan(folder: Path) -> dict[str, Any]:
    """Read the planned outputs of a run.

    Raises:
        InputError: there is no plan, or a damaged one.
    """
    path = folder / PLAN_FILE
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory; give the run directory (runs/NAME)")
    try:
        plan = json.loads(path.read_bytes())
        has_all = {"name", "stages", "models_at_once", "num_trials", "prices"} <= plan.keys()
        is_valid = has_all and all(
            isinstance(outputs, list) and all(isinstance(output, str) for output in outputs)
            for outputs in plan["stages"].values()
        )
    except FileNotFoundError:
        if not (folder / "recipe.yaml").is_file():
            raise InputError(
                f"{folder}: not a run directory (it has no {PLAN_FILE}); give the run directory "
                "(runs/NAME)"
            ) from None
        raise InputError(
            f"{folder}: not a run directory of this version of raykd (it has no {PLAN_FILE}); run "
            f"raykd run RECIPE --out {folder}, which skips completed stages"
        ) from None
    except (ValueError, AttributeError, LookupError):
        is_valid = False
    if not is_valid:
        raise InputError(f"{path}: damaged; remove it and run the recipe again")
    return dict(plan)


def _read_times(folder: Path) -> dict[str, Any]:
    try:
        return from_checked_json((folder / TIMES_FILE).read_bytes()) or {}
    except FileNotFoundError:
        return {}


def _running(times: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the record of the running stage, unless its process has ended."""
    running: dict[str, Any] | None = times.get(RUNNING)
    if running is None or time.time() - running["updated_s"] > _ALIVE_S:
        return None
    if running["host"] == platform.node() and not Path(f"/proc/{running['pid']}").exists():
        return None
    return running


def _stage_state(
    folder: Path,
    name: str,
    outputs: Sequence[str],
    times: Mapping[str, Any],
    running: Mapping[str, Any] | None,
    models_at_once: int,
) -> StageState:
    manifests = [read_manifest(folder / output) for output in outputs]
    done = [manifest for manifest in manifests if manifest is not None]
    is_running = running is not None and running["stage"] == name
    state: State = "left"
    progress, left_s = None, None
    if len(done) == len(outputs):
        state = "running" if is_running else "done"
    elif is_running or done or _has_begun(folder, outputs):
        state = "running" if is_running or _is_written_here(folder, outputs) else "interrupted"
        elapsed_s = time.time() - running["started_s"] if running and is_running else None
        progress, left_s = _progress(folder, name, outputs, done, elapsed_s, models_at_once)
    return StageState(
        name=name,
        state=state,
        num_done=len(done),
        num_outputs=len(outputs),
        progress=progress,
        time_s=times.get(name),
        left_s=left_s,
    )


def _progress(
    folder: Path,
    name: str,
    outputs: Sequence[str],
    done: Sequence[Manifest],
    elapsed_s: float | None,
    models_at_once: int,
) -> tuple[str | None, float | None]:
    """Describe the shards of a stage, and estimate its remaining seconds."""
    if name == "ingest":
        num_shards = sum(
            read_manifest(shard) is not None
            for output in outputs
            for shard in (folder / output).glob(_SHARDS)
        )
        return f"{num_shards:,} shards so far", None
    if name == "retrieve":
        num_shards, num_searched = _shards_searched(folder, outputs)
        left_s = None
        if elapsed_s and 0 < num_searched < num_shards:
            left_s = elapsed_s * (num_shards - num_searched) / num_searched
        return f"about {num_searched:,} of {num_shards:,} shards", left_s
    if name in ("inject", "adapt") and done:
        rounds = -(-(len(outputs) - len(done)) // models_at_once)
        return None, rounds * fmean(manifest.duration_s for manifest in done)
    return None, None


def _shards_searched(folder: Path, outputs: Sequence[str]) -> tuple[int, int]:
    """Count the shards of the corpora, and those whose hits exist, merged or not."""
    num_shards = num_searched = 0
    for output in outputs:
        kind, _, corpus = output.partition("@")
        if kind != "hits":
            continue
        units = read_manifest(folder / (f"units@{corpus}" if corpus else "units"))
        total = len(fnmatch.filter(units.outputs, _SHARD_FILES)) if units else 0
        num_shards += total
        if read_manifest(folder / output) is not None:
            num_searched += total
            continue
        parts = working_directory(folder / output, "parts")
        merged = [int(path.name.split("-")[2]) for path in parts.glob("**/merged-*-*-*")]
        # A shard that several tasks share has several folders: hits-DIGEST-FIRST-LAST.
        single = {path.name.split("-")[1] for path in parts.glob("**/hits-*")}
        num_searched += min(total, max(merged, default=0) + len(single))
    return num_shards, num_searched


def _has_begun(folder: Path, outputs: Sequence[str]) -> bool:
    """Check for parts of an output: shards, working directories, checkpoints, partial folders."""
    for output in outputs:
        path = folder / output
        others = (path.with_name(f"{path.name}.unfinished"), working_directory(path, "parts"))
        if path.is_dir() or any(other.exists() for other in others) or _partials(path):
            return True
    return False


def _partials(path: Path) -> list[Path]:
    return list(path.parent.glob(f".{path.name}.partial-*"))


def _is_written_here(folder: Path, outputs: Sequence[str]) -> bool:
    """Check whether a process of this machine writes one of the outputs."""
    here = f".partial-{platform.node()}-"
    for output in outputs:
        for partial in _partials(folder / output):
            _, is_here, rest = partial.name.rpartition(here)
            process = rest.partition("-")[0]
            if is_here and process.isdigit() and Path(f"/proc/{process}").exists():
                return int(process) != os.getpid()
    return False


def _hours(times: Mapping[str, Any], prices: Mapping[str, Any] | None) -> Hours | None:
    usage = times.get(USAGE)
    if not usage:
        return None
    cpu_hours = sum(stage["cpu_s"] for stage in usage.values()) / 3600
    gpu_hours = sum(stage["gpu_s"] for stage in usage.values()) / 3600
    cost = None
    if prices is not None:
        cost = cpu_hours * prices["cpu_hour"] + gpu_hours * prices["gpu_hour"]
    return Hours(cpu_hours, gpu_hours, cost, prices["currency"] if prices else None)
