"""Result of a completed study on the disk, as `raykd best` reads it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from raykd.errors import InputError
from raykd.report.tune.pick import parse_pick, unmet_text, winner_of
from raykd.report.tune.targets import front
from raykd.report.tune.trials import Trial, problems_of, rank
from raykd.storage.manifest import FILE_NAME as MANIFEST
from raykd.storage.manifest import check_source

TRIALS_FILE = "trials.json"
RECIPE_FILE = "recipe.yaml"
BEST_RECIPE_FILE = "best.yaml"
STUDENT_FOLDER = "student"
# Recipes of the Pareto front's trials by their numbers, if there are several targets.
FRONT_FOLDER = "front"


@dataclass(frozen=True)
class StudyResult:
    """Result of a study; results of older versions lack the attributes with a default.

    Attributes:
        metric: metric that is the score.
        validation: rows that trials are scored on, in words.
        seed: seed of the students.
        trials: ended trials in order.
        variant: tuned variant.
        name: name of the recipe.
        importance: `key`, `share` and `words` of each key, most important first.
        confirmation: see `choice.confirmation.Confirmation`; None if there was none.
        versions: versions of Python and packages.
        targets: targets of the search; empty for the score alone.
        pick: conditions on the winner, see `report.tune.pick`.
        front: numbers of the trials on the Pareto front, best score first.
        devices: processors that the costs of the students were measured on.
        num_folds: folds of the training rows that trials are scored on; None for one split.
        command: command of raykd that trains the winner's recipe.
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
    targets: list[str] = field(default_factory=list)
    pick: str | None = None
    front: list[int] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    num_folds: int | None = None
    command: str = "run"

    @property
    def all_targets(self) -> tuple[str, ...]:
        """Targets of the search, the score first."""
        return tuple(self.targets) or (self.metric,)

    @property
    def front_trials(self) -> list[Trial]:
        """The Pareto front, best score first."""
        return front(self.trials, self.all_targets)

    @property
    def ranked(self) -> list[Trial]:
        """Trials with a score, best first."""
        return rank(self.trials)

    @property
    def winner(self) -> Trial:
        """The trial that meets the conditions; else the confirmed winner, else the best trial.

        Raises:
            InputError: no trial ended with a score, or none meets the conditions.
        """
        if not self.ranked:
            problems = "; ".join(problems_of(self.trials))
            raise InputError(f"{TRIALS_FILE}: no trial ended with a score: {problems}")
        winner = winner_of(self.trials, self.all_targets, self.pick, self.confirmation)
        if winner is None:
            assert self.pick is not None
            problem = unmet_text(self.trials, self.all_targets, parse_pick(self.pick))
            raise InputError(
                f"pick: {problem}; give other conditions to raykd best RUN --pick, or in tune.pick"
            )
        return winner

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
