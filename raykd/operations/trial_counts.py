"""Trials of a tuning study: how many have ended, run now, and are left."""

import json
from dataclasses import dataclass
from pathlib import Path

_STUDY_FILE = "study.journal"
_RESULT_FILE = "result/trials.json"
# States in Optuna's journal: running, complete, pruned, failed, waiting.
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
        return _of_journal(folder / _STUDY_FILE, num_trials)
    num_failed = sum(trial["error"] is not None or trial["score"] is None for trial in trials)
    return TrialCounts(len(trials), num_failed, 0, len(trials))


def _of_journal(path: Path, num_trials: int | None) -> TrialCounts | None:
    """Count the trials in the journal of a running or interrupted study.

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
    num_running = sum(state == _STATE_OF_RUNNING for state in states.values())
    num_failed = sum(state == 3 for state in states.values())
    num_ended = sum(state in (1, 2, 3) for state in states.values())
    return TrialCounts(num_ended, num_failed, num_running, num_trials)
