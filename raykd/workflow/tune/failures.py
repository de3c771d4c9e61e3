"""The share of failed trials at which a sweep is stopped."""

from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType

from raykd.errors import InputError
from raykd.report.tune.trials import Trial

# Fewer trials prove nothing: the first ones of a wide range often diverge.
_MIN_TRIALS = 4


class FailedShare:
    """Context manager that stops a sweep in which too many trials fail.

    The error is raised in two steps, since Ray Tune takes an error in the callback of a trial as
    one of the trial.

    Args:
        most: largest share of failed trials, from 0 to 1.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._error: InputError | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Raise the error of `check` where a library replaced it with its own."""
        if self._error is not None and isinstance(error, Exception):
            raise self._error from None

    def count(self, ended: Trial, trials: Callable[[], Sequence[Trial]]) -> None:
        """Count a trial that has ended.

        Args:
            ended: the trial. One with a score changes nothing, so that a sweep that was stopped
                continues once its trials succeed.
            trials: returns all ended trials of the sweep.
        """
        if not ended.failed:
            return
        of_sweep = trials()
        failed = [trial for trial in of_sweep if trial.failed]
        if len(of_sweep) < _MIN_TRIALS or len(failed) <= self._most * len(of_sweep):
            return
        [(problem, count)] = Counter(trial.problem for trial in failed).most_common(1)
        self._error = InputError(
            f"tune: stopped, because {len(failed)} of {len(of_sweep)} trials failed, which is more "
            f"than tune.max_failed_share ({self._most:g}); {count} of them: {problem}; correct the "
            "recipe, narrow the space, or raise max_failed_share, and run the same command again"
        )

    def check(self) -> None:
        """Check the share of failed trials.

        Raises:
            InputError: more than the allowed share failed.
        """
        if self._error is not None:
            raise self._error
