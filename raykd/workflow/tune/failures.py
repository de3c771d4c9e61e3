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
        """Raise the error of `check`, which a library may have replaced with its own."""
        if self._error is not None and isinstance(error, Exception):
            raise self._error from None

    def check(self, ended: Trial, trials: Callable[[], Sequence[Trial]]) -> None:
        """Check the share after a trial has ended.

        Args:
            ended: the trial. One with a score changes nothing, so that a sweep that was stopped
                continues once its trials succeed.
            trials: returns all ended trials of the sweep.

        Raises:
            InputError: more than the allowed share failed.
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
        raise self._error
