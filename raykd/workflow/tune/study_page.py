"""Page of a sweep in the run directory, rewritten while the sweep runs."""

import difflib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from raykd import progress
from raykd.config import dump_yaml
from raykd.report.tune.page import render
from raykd.report.tune.study import Edits, State, Study, keys_of
from raykd.report.tune.trials import Trial
from raykd.storage.working_files import write_atomically
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.tune.choice.confirmation import Confirmation
from raykd.workflow.tune.running import RunningTrials
from raykd.workflow.tune.trial.costs import student_costs
from raykd.workflow.tune.trial.setting import Setting

PAGE_FILE = "tune.html"
_INTERVAL_S = 30.0


class StudyPage:
    """Writer of the page of a sweep.

    Args:
        path: file of the page.
        recipe: recipe of the sweep.
        study: facts of the sweep; its trials are those that ended before.
        devices: function that names the processors that students were measured on.
    """

    def __init__(
        self,
        path: Path,
        recipe: Recipe,
        study: Study,
        devices: Callable[[], list[str]] = list,
    ) -> None:
        self._path, self._recipe, self._study, self._devices = path, recipe, study, devices
        self._shared = dump_yaml(recipe).splitlines()
        self._log_keys = log_keys(recipe)
        self._trials: list[Trial] = []
        self._edits: dict[int, Edits] = {}
        self._is_outdated = False
        self._written_s = -_INTERVAL_S
        self._add(study.trials)

    def on_end(self, trial: Trial, trial_id: str) -> None:
        """Add an ended trial; the page is rewritten at once, or when 30 s have passed."""
        self._add([trial])
        self._is_outdated = True
        self._write_if_due()

    def on_tick(self, running: RunningTrials) -> None:
        """Write trials that ended within 30 s of the last write."""
        self._write_if_due()

    def write(self, state: State, confirmation: Confirmation | None = None) -> None:
        """Write the page atomically; a page that cannot be written does not end the sweep."""
        trials = sorted(self._trials, key=lambda trial: trial.number)
        study = replace(
            self._study,
            state=state,
            written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            keys=keys_of(trials, self._log_keys),
            trials=trials,
            recipe=self._shared,
            edits=self._edits,
            confirmation=None if confirmation is None else asdict(confirmation),
            devices=self._devices(),
        )
        try:
            write_atomically(self._path, render(study, version("raykd")))
        except OSError as error:
            progress.say(f"{self._path}: not written: {error.strerror}; the sweep continues")
        self._is_outdated = False
        self._written_s = time.monotonic()

    def _write_if_due(self) -> None:
        if self._is_outdated and time.monotonic() - self._written_s >= _INTERVAL_S:
            self.write("running")

    def _add(self, trials: Iterable[Trial]) -> None:
        for trial in trials:
            recipe = self._recipe.with_values(trial.values, f"trial {trial.number}")
            self._edits[trial.number] = edits_of(self._shared, dump_yaml(recipe).splitlines())
            self._trials.append(trial)


def study_page(setting: Setting, recipe: Recipe, trials: Sequence[Trial]) -> StudyPage:
    """Make the writer of the page of a sweep in its run directory."""
    assert recipe.tune is not None
    study = Study(
        name=recipe.name,
        metric=setting.metric,
        validation=setting.validation,
        seed=setting.seed,
        variant=setting.variant,
        num_planned=max(recipe.tune.most_trials, len(trials)),
        state="running",
        written="",
        keys=[],
        trials=list(trials),
        targets=setting.targets,
        pick=recipe.tune.pick,
    )
    devices = student_costs(setting).devices
    return StudyPage(setting.folder.parent / PAGE_FILE, recipe, study, devices)


def log_keys(recipe: Recipe) -> set[str]:
    """Keys that are sampled on a logarithmic scale."""
    assert recipe.tune is not None
    return {key for key, parameter in recipe.tune.space.items() if parameter.log}


def edits_of(lines: Sequence[str], changed: Sequence[str]) -> Edits:
    """Changes that make some lines equal to others, from the top."""
    matcher = difflib.SequenceMatcher(None, lines, changed, autojunk=False)
    return [
        (start, end - start, list(changed[other_start:other_end]))
        for kind, start, end, other_start, other_end in matcher.get_opcodes()
        if kind != "equal"
    ]
