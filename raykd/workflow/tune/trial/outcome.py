"""End of a trial: whether it has a value of every target, and which."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raykd.workflow.tune.sampling.study import End
from raykd.workflow.tune.trial.costs import StudentCosts
from raykd.workflow.tune.trial.setting import Setting
from raykd.workflow.tune.trial.training import reason_of

# Keys of what a trial reports at its end.
ERROR = "error"


@dataclass(frozen=True)
class Outcome:
    """End of a trial; `values` are those of the targets, `costs` the measured ones."""

    how: End
    error: str | None = None
    values: list[float] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=dict)


class Outcomes:
    """Outcomes of trials by their ids; the student of a trial is measured once.

    Args:
        setting: values shared by the trials.
        costs: measurement of the students.
    """

    def __init__(self, setting: Setting, costs: StudentCosts) -> None:
        self._setting, self._costs = setting, costs
        self._found: dict[str, Outcome] = {}

    def of(self, trial_id: str, result: Mapping[str, Any]) -> Outcome:
        """Outcome of a trial that ended with a last result."""
        if trial_id not in self._found:
            self._found[trial_id] = self._outcome(trial_id, result)
        return self._found[trial_id]

    def _outcome(self, trial_id: str, result: Mapping[str, Any]) -> Outcome:
        if ERROR in result:
            return Outcome("failed", str(result[ERROR]))
        if not result.get("whole"):
            return Outcome("stopped")
        model = self._setting.model(trial_id)
        try:
            costs = self._costs.of(model)
        except Exception as error:
            trace = self._setting.folder / "errors" / f"{trial_id}.txt"
            reason = reason_of(error, trace)
            return Outcome("failed", f"the cost of its student was not measured: {reason}")
        known = {**result, **costs}
        values = [float(known.get(name, math.nan)) for name in self._setting.targets]
        if not all(map(math.isfinite, values)):
            missing = [
                name
                for name, value in zip(self._setting.targets, values, strict=True)
                if not math.isfinite(value)
            ]
            return Outcome("failed", f"its {', '.join(missing)} is not a finite number")
        return Outcome("whole", values=values, costs=costs)
