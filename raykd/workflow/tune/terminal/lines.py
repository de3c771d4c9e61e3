"""Lines of the ended trials of a sweep."""

from collections.abc import Callable, Sequence

from raykd import progress
from raykd.report.tune.targets import value_text
from raykd.report.tune.trials import Trial, rank, values_text
from raykd.workflow.tune.running import RunningTrials


class TrialLines:
    """Watcher that counts ended trials, and prints a line for each.

    Args:
        advance: function that adds to the count of the progress bar.
        trials: trials that ended before.
        num_trials: trials of the whole sweep.
    """

    def __init__(
        self, advance: Callable[[int], None], trials: Sequence[Trial], num_trials: int
    ) -> None:
        self._advance, self._num_trials = advance, num_trials
        self._best = next(iter(rank(trials)), None)

    def on_end(self, trial: Trial, trial_id: str) -> None:
        """Count and print a trial: number, score, values, best so far."""
        known = [] if self._best is None else [self._best]
        self._best = next(iter(rank([*known, trial])), None)
        if trial.failed:
            outcome = f"failed: {trial.problem}"
        else:
            outcome = f"{trial.score:.4f}{'' if trial.whole else ' (stopped early)'}"
            outcome += "".join(f", {k} {value_text(k, v)}" for k, v in trial.costs.items())
        best = "none" if self._best is None else f"{self._best.score:.4f}"
        progress.say(
            f"trial {trial.number} of {self._num_trials}: {outcome}; "
            f"{values_text(trial.values)}; best so far {best}"
        )
        self._advance(1)

    def on_tick(self, running: RunningTrials) -> None:
        """Do nothing."""
