"""An Optuna study in a file: proposes the values of trials, and learns how they ended."""

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from raykd.errors import InputError
from raykd.report.tune.targets import direction_of
from raykd.workflow.recipe.tune_config import MOST_TRIALS, TuneConfig
from raykd.workflow.recipe.tune_points import grid
from raykd.workflow.tune.sampling.samplers import make_sampler
from raykd.workflow.tune.sampling.space import Params, params_of, sample

# Proposals in a row that the recipe refuses, after which nothing more is proposed.
_MOST_REFUSED = 200
# Of spaces with more points than this, a point is hardly ever proposed twice.
_MOST_LISTED = 10_000
# Proposals in a row of points that were tried before, after which a new one is drawn.
_MOST_REPEATED = 3

End = Literal["whole", "stopped", "failed"]
_STATES = {
    "whole": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class Study:
    """Study of one sweep; another process can read its file at any time.

    Args:
        name: name of the study in the file.
        file: the journal.
        config: space, sampler and seed.
        targets: names of the targets, which are the objectives of the study.
        is_valid: whether the recipe takes a combination of values.
        first: values of the first trial, if they are in the space.
        ended: values of the trials that have ended before, which a grid does not repeat.
    """

    def __init__(
        self,
        name: str,
        file: Path,
        config: TuneConfig,
        *,
        targets: Sequence[str] = ("score",),
        is_valid: Callable[[Mapping[str, Any]], bool] = lambda values: True,
        first: Mapping[str, Any] | None = None,
        ended: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._space, self._is_valid = config.space, is_valid
        storage = JournalStorage(JournalFileBackend(str(file)))
        num_known = _end_interrupted(storage, name)
        self._study = optuna.create_study(
            study_name=name,
            storage=storage,
            # With the same seed, the first values would be those of the first trials again.
            sampler=make_sampler(config, (config.seed + num_known) % 2**32),
            pruner=optuna.pruners.NopPruner(),
            directions=[direction_of(target) for target in targets],
            load_if_exists=True,
        )
        if num_known == 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self._study.set_metric_names(list(targets))
        self._has_any = bool(ended)
        self._has_one_target = len(targets) == 1
        self._trials: dict[int, optuna.Trial] = {}
        self._times: dict[int, set[int]] = {}
        known = [params for values in ended if (params := params_of(values, config.space))]
        self._queue: list[Params] = []
        if first is not None and (params := params_of(first, config.space)) is not None:
            self._queue.append(params)
        self._is_grid = config.sampler == "grid"
        if self._is_grid:
            points = [params_of(point, config.space) for point in grid(config.space, MOST_TRIALS)]
            random.Random(config.seed).shuffle(points)
            self._queue += [point for point in points if point is not None]
        self._new = _points_of(config, known)
        self._chance = random.Random(config.seed + num_known)
        self._queue = [
            params
            for number, params in enumerate(self._queue)
            if params not in known and params not in self._queue[:number]
        ]

    def ask(self) -> tuple[int, dict[str, Any]] | None:
        """Number and values of the next trial; None if every point of the space was tried.

        Raises:
            InputError: the recipe refuses every combination that is proposed.
        """
        num_refused = num_repeated = 0
        while num_refused < (MOST_TRIALS if self._is_grid else _MOST_REFUSED):
            if num_repeated >= _MOST_REPEATED and self._new and not self._queue:
                self._queue.append(self._chance.choice(self._new))
            if self._queue:
                self._study.enqueue_trial(self._queue.pop(0))
            elif self._is_grid or self._new == []:
                if self._has_any:
                    return None
                break
            trial = self._study.ask()
            values = sample(trial, self._space)
            if not self._take(values):
                num_repeated += 1
                trial.set_user_attr("refused", "another trial has these values")
            elif self._is_valid(values):
                self._has_any = True
                self._trials[trial.number] = trial
                self._times[trial.number] = set()
                return trial.number, values
            else:
                num_refused += 1
                trial.set_user_attr("refused", "the recipe does not take these values together")
            self._study.tell(trial, state=TrialState.FAIL)  # word list: ok
        raise InputError(
            f"tune.space: the recipe refused the last {num_refused} proposed combinations of "
            "values; make the space smaller, or add conditions (when)"
        )

    def _take(self, values: Mapping[str, Any]) -> bool:
        """Return whether a point is new in a space of few points, and count it as tried."""
        if self._new is None:
            return True
        params = params_of(values, self._space)
        if params not in self._new:
            return False
        self._new.remove(params)
        return True

    def report(self, number: int, time: int, score: float) -> None:
        """Note the score of a running trial after an epoch or step; of several, the first.

        Optuna takes none for several objectives.
        """
        if self._has_one_target and time not in self._times[number]:
            self._times[number].add(time)
            self._trials[number].report(score, time)

    def end(
        self,
        number: int,
        how: End,
        values: Sequence[float] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Note the end of a trial.

        Args:
            number: number of the trial in the study.
            how: trained to its end, stopped early, or failed.
            values: value of each target, of a trial that trained to its end.
            facts: what else a reader of the study may want to know, by name.
        """
        trial = self._trials.pop(number)
        for name, fact in (facts or {}).items():
            trial.set_user_attr(name, fact)
        whole = list(values or ()) if how == "whole" else None
        self._study.tell(trial, whole, state=_STATES[how])  # word list: ok


def _points_of(config: TuneConfig, known: Sequence[Params]) -> list[Params] | None:
    """Points of a space that are not known; None if there are too many to list."""
    if not config.is_finite:
        return None
    points = grid(config.space, _MOST_LISTED + 1)
    if len(points) > _MOST_LISTED:
        return None
    params = [found for point in points if (found := params_of(point, config.space)) is not None]
    return [one for one in params if one not in known]


def _end_interrupted(storage: JournalStorage, name: str) -> int:
    """Mark the trials of a killed process as failed; return the number of all present trials."""
    if name not in optuna.get_all_study_names(storage):
        return 0
    study = optuna.load_study(study_name=name, storage=storage)
    for trial in study.get_trials(states=[TrialState.RUNNING, TrialState.WAITING]):
        study.tell(trial.number, state=TrialState.FAIL)  # word list: ok
    return len(study.trials)
