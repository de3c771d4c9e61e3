"""State of a cross-validation: its folds, and the training on all rows."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from raykd.operations.run_state import Hours, RunState, StageState, State, read_state
from raykd.storage.schemas import PLAN_FILE

_FOLDS, _FINAL = "folds", "final"
_FOLD_NAME = re.compile(r"(\d+)-of-(\d+)")
# Stages of a run that are those of a fold; the rest is done for all folds together.
_LAST_STAGE = "adapt"


def is_crossval(folder: Path) -> bool:
    """True if a folder is that of a cross-validation in which a fold has begun."""
    return not (folder / PLAN_FILE).exists() and bool(_fold_folders(folder))


def read_crossval_state(folder: Path) -> RunState:
    """Read the state of a cross-validation, with one line per fold; nothing is changed.

    Raises:
        InputError: the plan of a fold is damaged.
    """
    folds = _fold_folders(folder)
    num_folds = max(int(path.name.partition("-of-")[2]) for path in folds)
    folders = {
        f"fold {number} of {num_folds}": folder / _FOLDS / f"{number}-of-{num_folds}"
        for number in range(1, num_folds + 1)
    }
    folders["all rows"] = folder / _FINAL
    states = {
        name: read_state(path) for name, path in folders.items() if (path / PLAN_FILE).exists()
    }
    own = [_summary(name, states.get(name)) for name in folders]
    runs_on = next((state.runs_on for state in states.values() if state.runs_on), None)
    if runs_on is not None:
        # One process works on all folds in turn.
        own = [
            replace(stage, state="running") if stage.state == "interrupted" else stage
            for stage in own
        ]
    is_reported = (folder / "results.json").is_file()
    report = StageState("report", "done" if is_reported else "left", 0, 1, None, None, None)
    first = next(iter(states.values()))
    return RunState(
        name=re.sub(r"-fold-\d+$", "", first.name),
        folder=str(folder),
        stages=(*own, report),
        trials=None,
        hours=_sum([state.hours for state in states.values() if state.hours is not None]),
        runs_on=runs_on,
    )


def _fold_folders(folder: Path) -> list[Path]:
    """Folders of folds that have begun."""
    return [
        path
        for path in (folder / _FOLDS).glob("*-of-*")
        if _FOLD_NAME.fullmatch(path.name) and (path / PLAN_FILE).exists()
    ]


def _summary(name: str, state: RunState | None) -> StageState:
    """State of a fold as that of one stage."""
    if state is None:
        return StageState(name, "left", 0, 1, None, None, None)
    names = [stage.name for stage in state.stages]
    end = names.index(_LAST_STAGE) + 1 if _LAST_STAGE in names else len(names)
    stages = state.stages[:end]
    found = {stage.state for stage in stages}
    summary: State = "interrupted"
    if found == {"done"}:
        summary = "done"
    elif "running" in found:
        summary = "running"
    elif found == {"left"}:
        summary = "left"
    current = next((stage.name for stage in stages if stage.state != "done"), None)
    times = [stage.time_s for stage in stages if stage.time_s is not None]
    return StageState(
        name=name,
        state=summary,
        num_done=sum(stage.num_done for stage in stages),
        num_outputs=sum(stage.num_outputs for stage in stages),
        progress=None if current is None else f"next: {current}",
        time_s=sum(times) if times else None,
        left_s=None,
    )


def _sum(hours: Sequence[Hours]) -> Hours | None:
    if not hours:
        return None
    costs = [one.cost for one in hours if one.cost is not None]
    return Hours(
        cpu_hours=sum(one.cpu_hours for one in hours),
        gpu_hours=sum(one.gpu_hours for one in hours),
        cost=sum(costs) if costs else None,
        currency=hours[0].currency,
    )
