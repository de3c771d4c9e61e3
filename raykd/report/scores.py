"""Rows of the score table: means, deviations and differences, rounded to significant digits."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from raykd.evaluation.baselines import BASELINES
from raykd.report.results import Results, Score, ScoreStage, TaskFacts

VARIANT_TITLES: Mapping[str, str] = {
    "majority": "Majority class",
    "tfidf": "TF-IDF + logistic regression",
    "embeddings": "Pretrained embeddings + logistic regression",
    "static": "Static embeddings + logistic regression",
    "setfit": "SetFit",
    "int8_teacher": "Teacher, int8",
    "teacher": "Teacher",
    "alone": "Student alone",
    "direct": "Distilled on the task's labels",
    "task": "Distilled on the task's rows",
    "task_da": "Distilled on the task's rows, augmented",
    "random": "Distilled on random text",
    "dsir": "Distilled on text selected by DSIR",
    "contextualized": "Distilled on the contextualized corpus",
    "contextualized_task_da": "Distilled on the contextualized corpus, then on augmented rows",
}
_REGRESSION_TITLES = {
    "majority": "Mean score",
    "tfidf": "TF-IDF + ridge regression",
    "embeddings": "Pretrained embeddings + ridge regression",
    "static": "Static embeddings + ridge regression",
}
_MULTI_LABEL_TITLES = {"majority": "Most frequent classes"}
INIT_TITLES: Mapping[str, str] = {
    "random": "initialized at random",
    "skip": "from evenly spaced layers",
    "top": "from the last layers",
    "bottom": "from the first layers",
    "layers": "from chosen layers",
    "pretrained": "from a pretrained model",
}
METRIC_TITLES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "f1": "F1",
    "f1_macro": "macro F1",
    "f1_micro": "micro F1",
    "lrap": "label ranking average precision",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "subset_accuracy": "subset accuracy",
}
# Variants without an injection.
NOT_INJECTED = ("alone", "direct")
_REFERENCES = ("majority", *BASELINES, "teacher")
# Percentages have a decimal if one row changes the score by half a point or less.
_ROWS_FOR_A_DECIMAL = 200
# Smaller differences in points are rounding errors of float64, and count as zero.
_ROUNDING = 1e-9
NOT_APPLICABLE = "not applicable"
NOTHING = "\u2013"


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation and median over seeds, in points (metric x 100)."""

    mean: float
    deviation: float | None
    num_seeds: int
    median: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Compute from one value per seed; one seed has no deviation."""
        deviation = statistics.stdev(values) if len(values) > 1 else None
        median = statistics.median(values)
        return cls(statistics.fmean(values), deviation, len(values), median)


@dataclass(frozen=True)
class Difference:
    """Difference of two scores, paired by seed if both have the same seeds."""

    spread: Spread
    num_higher: int | None  # seeds with a positive difference; None if not paired


@dataclass(frozen=True)
class Row:
    """Numbers of a row of the score table; None if missing."""

    variant: str
    title: str
    init: str | None
    before: Spread | None
    before_is_defined: bool
    after: Spread | None
    versus: Mapping[str, Difference]  # by the variant compared with

    @property
    def num_seeds(self) -> int:
        """Number of seeds of the final score."""
        spread = self.after or self.before
        return spread.num_seeds if spread else 0


@dataclass(frozen=True)
class Numbers:
    """Formatting of points with as many digits as the number of rows supports."""

    num_rows: int

    @classmethod
    def of(cls, results: Results) -> "Numbers":
        """Create for the scores on the report split."""
        return cls(results.task.num_rows[results.task.report_split])

    @property
    def decimals(self) -> int:
        """Number of decimals."""
        return 1 if self.num_rows >= _ROWS_FOR_A_DECIMAL else 0

    @property
    def points_per_row(self) -> float:
        """Change of an accuracy by one row, in points."""
        return 100 / self.num_rows

    def value(self, points: float) -> str:
        """Format as `48.9`, with a true minus sign."""
        text = f"{points:.{self.decimals}f}"
        return text.removeprefix("-") if float(text) == 0 else text.replace("-", "\u2212")

    def spread(self, spread: Spread) -> str:
        """Format as `48.9 ± 0.6`; without a deviation for one seed."""
        return self.value(spread.mean) + self._deviation(spread)

    def signed(self, points: float) -> str:
        """Format as `+3.3`; zero has no sign."""
        text = self.value(points)
        return f"+{text}" if points > 0 and float(text) != 0 else text

    def difference(self, spread: Spread) -> str:
        """Format as `+3.3 ± 1.5`."""
        return self.signed(spread.mean) + self._deviation(spread)

    def _deviation(self, spread: Spread) -> str:
        if spread.deviation is None:
            return ""
        smallest = 10.0**-self.decimals
        if _ROUNDING < spread.deviation < smallest / 2:
            return f" ± <{smallest:g}"
        return f" ± {self.value(spread.deviation)}"

    def standard_error(self, points: float) -> float:
        """Binomial standard error of an accuracy, in points."""
        share = min(max(points / 100, 0.0), 1.0)
        return 100 * math.sqrt(share * (1 - share) / self.num_rows)


def variant_title(variant: str, *, regression: bool = False) -> str:
    """Return the title of a variant on the page."""
    titles = {**VARIANT_TITLES, **_REGRESSION_TITLES} if regression else VARIANT_TITLES
    return titles.get(variant, variant)


def title_of(task: TaskFacts, variant: str) -> str:
    """Return the title of a variant on the page of a task."""
    if task.multi_label and variant in _MULTI_LABEL_TITLES:
        return _MULTI_LABEL_TITLES[variant]
    return variant_title(variant, regression=task.regression)


def has_injected(results: Results) -> bool:
    """Return whether a student has an injection, not only the recipe a section `injection`."""
    students = {score.variant for score in results.scores if score.init is not None}
    return not students.issubset(NOT_INJECTED)


def reference_rows(results: Results, metric: str) -> list[Row]:
    """Return the rows of baselines and teacher."""
    scores = [score for score in results.scores if score.stage in ("baseline", "teacher")]
    return [_row(results, variant, None, metric) for variant in _in_order(scores, _REFERENCES)]


def student_rows(results: Results, metric: str) -> dict[str, list[Row]]:
    """Return the students' rows by init, in the order of the table."""
    scores = [score for score in results.scores if score.stage in ("injected", "adapted")]
    inits = dict.fromkeys(score.init or "" for score in scores)
    return {
        init: [
            _row(results, variant, init, metric)
            for variant in _in_order(
                (s for s in scores if (s.init or "") == init), tuple(VARIANT_TITLES)
            )
        ]
        for init in inits
    }


def _in_order(scores: Iterable[Score], known: Sequence[str]) -> list[str]:
    variants = dict.fromkeys(score.variant for score in scores)
    return [variant for variant in known if variant in variants] + [
        variant for variant in variants if variant not in known
    ]


def _row(results: Results, variant: str, init: str | None, metric: str) -> Row:
    before = _by_seed(results.scores, variant, init, ("injected",), metric)
    after = _by_seed(results.scores, variant, init, ("adapted", "teacher", "baseline"), metric)
    versus = {}
    for other in ("alone", "random"):
        others = _by_seed(results.scores, other, init, ("adapted",), metric)
        if init is not None and other != variant and after and others:
            versus[other] = _difference(after, others)
    steps, injection = results.injections_of(variant), results.injection
    trains_classifier = (
        steps[-1].trains_classifier if steps else injection is None or injection.trains_classifier
    )
    return Row(
        variant=variant,
        title=title_of(results.task, variant),
        init=init,
        before=Spread.of(list(before.values())) if before else None,
        before_is_defined=(init is None or variant in NOT_INJECTED or trains_classifier),
        after=Spread.of(list(after.values())) if after else None,
        versus=versus,
    )


def _by_seed(
    scores: Iterable[Score],
    variant: str,
    init: str | None,
    stages: Sequence[ScoreStage],
    metric: str,
) -> dict[int | None, float]:
    return {
        score.seed: 100 * score.metrics[metric]
        for score in scores
        if score.variant == variant
        and (score.init or "") == (init or "")
        and score.stage in stages
        and metric in score.metrics
    }


def _difference(
    scores: Mapping[int | None, float], others: Mapping[int | None, float]
) -> Difference:
    if set(scores) == set(others):
        gaps = [scores[seed] - others[seed] for seed in scores]
        return Difference(Spread.of(gaps), sum(gap > _ROUNDING for gap in gaps))
    gap = statistics.fmean(scores.values()) - statistics.fmean(others.values())
    return Difference(Spread(gap, None, min(len(scores), len(others)), gap), None)
