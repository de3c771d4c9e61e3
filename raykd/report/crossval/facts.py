"""Facts about a cross-validation, part of `results.json`."""

from pydantic import BaseModel, ConfigDict, FiniteFloat

from raykd.evaluation.score_intervals import ScoreInterval


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fold(_Facts):
    """A fold: its held-out rows, the others, and held-out rows per class (none for regression)."""

    number: int
    num_train: int
    num_held_out: int
    class_counts: list[int]


class EpochPoint(_Facts):
    """The main metric after an epoch: mean over folds, and sample standard deviation over folds."""

    epoch: int
    mean: FiniteFloat
    deviation: FiniteFloat


class EpochChoice(_Facts):
    """The number of epochs of a training, chosen by the scores of all folds.

    Attributes:
        variant: the student, or `teacher`.
        num_epochs: epochs of the recipe, which the learning rate follows.
        best: epoch with the best mean over folds.
        chosen: epochs of the training on all labeled rows: `best`, or all of them where it is not
            clearly better.
        by_fold: epochs of the models that are scored on each fold, chosen on the other folds.
        points: scores by epoch, mean over seeds first.
    """

    variant: str
    init: str | None
    num_epochs: int
    best: int
    chosen: int
    by_fold: list[int]
    points: list[EpochPoint]


class CrossvalFacts(_Facts):
    """A cross-validation, and its final student, which is trained on all labeled rows.

    Attributes:
        seed: seed of the folds.
        num_rows: labeled rows.
        epochs: choices of epochs; none where the recipe keeps the last state.
        intervals: scores on the held-out rows of all folds together.
        student: variant, init and seed of the final student.
        teacher_is_given: whether the teacher was not trained in the folds, so that it may have
            been trained on the held-out rows.
    """

    num_folds: int
    seed: int
    num_rows: int
    folds: list[Fold]
    epochs: list[EpochChoice]
    intervals: list[ScoreInterval]
    student: tuple[str, str, int]
    teacher_is_given: bool
