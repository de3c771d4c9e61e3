"""Result of a completed study on the disk, as `raykd best` reads it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from raykd.errors import InputError
from raykd.report.tune.trials import Trial, problems_of, rank
from raykd.storage.manifest import FILE_NAME as MANIFEST
from raykd.storage.manifest import check_source

TRIALS_FILE = "trials.json"
RECIPE_FILE = "recipe.yaml"
BEST_RECIPE_FILE = "best.yaml"
STUDENT_FOLDER = "student"


@dataclass(frozen=True)
class StudyResult:
    """Result of a study; results of older versions lack the attributes with a default.

    Attributes:
        metric: main metric of the task.
        validation: rows that trials are scored on, in words.
        seed: seed of the students.
        trials: ended trials in order.
        variant: tuned variant.
        name: name of the recipe.
        importance: `key`, `share` and `words` of each key, most important first.
        confirmation: see `choice.confirmation.Confirmation`; None if there was none.
        versions: versions of Python and packages.
    """

    metric: str
    validation: str
    seed: int
    trials: list[Trial]
    variant: str = ""
    name: str = ""
    importance: list[dict[str, Any]] = field(default_factory=list)
    confirmation: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def ranked(self) -> list[Trial]:
        """Trials with a score, best first."""
        return rank(self.trials)

    @property
    def winner(self) -> Trial:
        """The confirmed winner, else the best trial.

        Raises:
            InputError: no trial ended with a score.
        """
        if not self.ranked:
            problems = "; ".join(problems_of(self.trials))
            raise InputError(f"{TRIALS_FILE}: no trial ended with a score: {problems}")
        number = self.ranked[0].number
        if self.confirmation is not None:
            number = self.confirmation["winner"]
        return next(trial for trial in self.trials if trial.number == number)

    def to_json(self) -> str:
        """Serialize as valid JSON."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def read_result(result: Path, run: str) -> StudyResult:
    """Read the result of a study, after comparing every file with its digest.

    Args:
        result: folder of the result.
        run: the run directory, for messages.

    Raises:
        InputError: the folder has no result of a completed study, or a damaged one.
    """
    if not all((result / name).is_file() for name in (MANIFEST, TRIALS_FILE, RECIPE_FILE)):
        raise InputError(f"{run}: no completed study; run raykd tune RECIPE --out {run}")
    check_source(result)
    values = json.loads((result / TRIALS_FILE).read_text(encoding="utf-8"))
    known = {name: values[name] for name in StudyResult.__dataclass_fields__ if name in values}
    return StudyResult(**(known | {"trials": [Trial(**trial) for trial in values["trials"]]}))
