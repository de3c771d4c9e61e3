"""Trials of a tuning study: how many have ended, run now, and are left."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raykd.storage.checked_json import from_checked_json

_STUDY_FILE = "study.journal"
_RECORDS_FILE = "trials.jsonl"
_RESULT_FILE = "result/trials.json"
# In Optuna's journal.
_STATE_OF_RUNNING = 0
_CREATE, _SET_STATE = 4, 6


@dataclass(frozen=True)
class TrialCounts:
    """Trials of a study; `num_trials` is None if the recipe no longer has a section `tune`."""

    num_ended: int
    num_failed: int
    num_running: int
    num_trials: int | None


def count_trials(folder: Path, num_trials: int | None) -> TrialCounts | None:
    """Count the trials of a study; None if there is none.

    Args:
        folder: directory of the study.
        num_trials: planned trials.
    """
    try:
        trials = json.loads((folder / _RESULT_FILE).read_bytes())["trials"]
    except (OSError, ValueError, LookupError, TypeError):
        num_running = _num_running(folder / _STUDY_FILE)
        if num_running is None:
            return None
        ended = _records(folder / _RECORDS_FILE)
        return TrialCounts(len(ended), _num_failed(ended), num_running, num_trials)
    return TrialCounts(len(trials), _num_failed(trials), 0, len(trials))


def _num_failed(trials: Sequence[Mapping[str, Any]]) -> int:
    return sum(trial["error"] is not None or trial["score"] is None for trial in trials)


def _records(path: Path) -> list[dict[str, Any]]:
    """Read the ended trials of an unfinished study, without the line of a killed process."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [values for line in lines if (values := from_checked_json(line)) is not None]


def _num_running(path: Path) -> int | None:
    """Count the trials in the journal of a study that have not ended; None if there is no journal.

    It is read as text: Optuna's own reader takes seconds to import and locks the file.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return None
    states: dict[int, int] = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # the last line is being written
            continue
        if entry.get("op_code") == _CREATE:
            states[len(states)] = entry.get("state", _STATE_OF_RUNNING)
        elif entry.get("op_code") == _SET_STATE and entry.get("trial_id") in states:
            states[entry["trial_id"]] = entry["state"]
    return sum(state == _STATE_OF_RUNNING for state in states.values())
