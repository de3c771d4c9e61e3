"""The command `raykd status`."""

import dataclasses
import json
from typing import Annotated

from cyclopts import Parameter

from raykd.cli.options.recipe import JsonOption
from raykd.operations.crossval_state import is_crossval, read_crossval_state
from raykd.operations.run_state import RunState, StageState, read_state


def status(
    folder: Annotated[str, Parameter(name="RUN", help="Run directory (runs/NAME) or URL.")],
    /,
    *,
    as_json: JsonOption = False,
) -> None:
    """Print the state of each stage or fold, the trials, and the computing time."""
    from raykd.storage.remote.inspect import records_at  # keeps `raykd --help` fast

    with records_at(folder) as local:
        read = read_crossval_state if is_crossval(local) else read_state
        state = dataclasses.replace(read(local), folder=folder)
    text = json.dumps(dataclasses.asdict(state), indent=2) if as_json else _text(state)
    print(text)  # noqa: T201  # the command's answer


def _text(state: RunState) -> str:
    lines = [f"{state.name}: {state.folder}", *map(_line, state.stages)]
    if state.runs_on:
        lines.append(f"running on {state.runs_on}")
    if (trials := state.trials) is not None:
        of_all = "" if trials.num_trials is None else f" of {trials.num_trials:,}"
        lines.append(
            f"trials: {trials.num_ended:,}{of_all} ended ({trials.num_failed:,} failed), "
            f"{trials.num_running:,} not ended"
        )
    if (hours := state.hours) is not None:
        cost = "" if hours.cost is None else f"; cost {hours.cost:,.2f} {hours.currency}"
        lines.append(
            f"computing time: {hours.cpu_hours:,.2f} CPU hours, {hours.gpu_hours:,.2f} GPU "
            f"hours{cost}"
        )
    return "\n".join(lines)


def _line(stage: StageState) -> str:
    facts = []
    if stage.num_outputs > 1 and stage.state != "done":
        facts.append(f"{stage.num_done:,} of {stage.num_outputs:,} outputs")
    if stage.progress:
        facts.append(stage.progress)
    if stage.left_s is not None:
        facts.append(f"about {_duration(stage.left_s)} left")
    if stage.state == "done" and stage.time_s is not None:
        facts.append(_duration(stage.time_s))
    return f"  {stage.state:12} {stage.name:14} {', '.join(facts)}".rstrip()


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
