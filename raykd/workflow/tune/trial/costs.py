"""Costs of the trials' students, measured as those in the report."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from raykd.evaluation.cost import SETTINGS, Cost, cost_of, shape_of
from raykd.models.threads import one_thread
from raykd.report.tune.targets import MEASURED_COSTS
from raykd.storage.checked_json import read_informative, to_checked_json
from raykd.storage.manifest import digest_of, digest_of_file
from raykd.storage.working_files import write_atomically
from raykd.workflow.tune.trial.setting import Setting

COSTS_FILE = "costs.json"


class StudentCosts:
    """Costs of students, measured in the process of the command, once per shape of a model.

    Not in the trials' processes: the students of all trials are then measured on one machine, one
    after the other, and two trials of one shape have the same cost, not two samples of its noise.

    Args:
        file: file of the costs measured so far; may be absent.
        examples: rows that are measured on.
        max_length: maximum tokens per row.
        targets: targets of the search; nothing is measured unless one of them is a measured cost.
    """

    def __init__(self, file: Path, examples: Path, max_length: int, targets: Sequence[str]) -> None:
        self._file, self._examples, self._max_length = file, examples, max_length
        self._is_needed = bool(set(targets) & set(MEASURED_COSTS))

    def of(self, model: Path) -> dict[str, float]:
        """Measured costs of a student by their names; empty if no target needs them."""
        if not self._is_needed:
            return {}
        known = self._read()
        key = digest_of(
            {
                "shape": shape_of(model, self._max_length),
                "examples": digest_of_file(self._examples),
                "settings": SETTINGS,
            }
        )
        if key not in known:
            with one_thread():
                known[key] = cost_of(model, self._max_length, pq.read_table(self._examples))
            values = {name: cost.model_dump() for name, cost in known.items()}
            write_atomically(self._file, to_checked_json({"costs": values}))
        return {name: float(getattr(known[key], name)) for name in MEASURED_COSTS}

    def devices(self) -> list[str]:
        """Names of the processors that students were measured on."""
        return sorted({cost.device for cost in self._read().values()}) if self._is_needed else []

    def _read(self) -> dict[str, Cost]:
        values = read_informative(self._file).get("costs", {})
        return {name: Cost.model_validate(cost) for name, cost in values.items()}


def student_costs(setting: Setting) -> StudentCosts:
    """Measurement of the students of a sweep, on its validation rows."""
    return StudentCosts(
        setting.folder / COSTS_FILE,
        setting.run.split("dev"),
        setting.run.recipe.adaptation.max_length,
        setting.targets,
    )
