"""Texts and tables of a cross-validation, for the page, the terminal and the model card."""

from typing import Any

from raykd.evaluation.score_intervals import ScoreInterval
from raykd.report.crossval.facts import CrossvalFacts, EpochChoice
from raykd.report.results import Results
from raykd.report.scores import INIT_TITLES, METRIC_TITLES, Numbers, variant_title


def crossval_section(results: Results) -> dict[str, Any] | None:
    """Section of a cross-validation on the page; None for the results of a run."""
    facts = results.crossval
    if facts is None:
        return None
    own = student_interval(results)
    return {
        "lead": _lead(results, facts),
        "score": _score(own, results),
        "intervals": [
            (
                _title(one.variant, one.init, results),
                _points(one.score, results),
                _span(one, results),
            )
            for one in facts.intervals
            if one.metric == own.metric
        ],
        "metric": METRIC_TITLES.get(own.metric, own.metric),
        "folds": _folds(results, facts),
        "epochs": [_epochs(choice, results) for choice in facts.epochs],
        "notes": [*choice_notes(facts), *_more_notes(results, facts)],
    }


def student_interval(results: Results) -> ScoreInterval:
    """The main metric of the final student's variant and init, over all seeds."""
    facts = results.crossval
    assert facts is not None
    variant, init, _ = facts.student
    metric = results.task.metrics[0]
    return next(
        one
        for one in facts.intervals
        if (one.variant, one.init, one.metric) == (variant, init, metric)
    )


def size_note(facts: CrossvalFacts) -> str:
    """Sentences on the rows that the scored models and the final student were trained on."""
    sizes = sorted({fold.num_train for fold in facts.folds})
    rows = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    return (
        f"The scores are those of models that were trained on about {facts.num_folds - 1}/"
        f"{facts.num_folds} of the {facts.num_rows:,} labeled rows ({rows}): each row is predicted "
        "by models that were trained without its fold. The student in the folder student was "
        f"trained on all {facts.num_rows:,} rows, and itself has no score; it can be expected to "
        "be as good or slightly better."
    )


def choice_notes(facts: CrossvalFacts) -> list[str]:
    """Sentences on the chosen numbers of epochs, and on a teacher that was not trained here."""
    notes = []
    if facts.epochs:
        notes.append(
            "A number of epochs is the one with the best mean over the folds, if it is better than "
            "all epochs by more than one standard error of the difference over folds; otherwise "
            "all. For the models that a fold scores, it was chosen on the other folds."
        )
    if facts.teacher_is_given:
        notes.append(
            "The teacher was not trained here. If it was trained on some of these rows, its "
            "score, and those of its students, are too high."
        )
    return notes


def summary(results: Results) -> str:
    """The cross-validation in the terminal: scores with their intervals, epochs and caveats."""
    facts = results.crossval
    assert facts is not None
    metric = results.task.metrics[0]
    title = METRIC_TITLES.get(metric, metric)
    lines = [
        f"{title} \u00d7 100 on the {facts.num_rows:,} held-out rows of {facts.num_folds} folds"
    ]
    for one in facts.intervals:
        if one.metric == metric:
            seeds = f", {one.num_seeds} seeds" if one.num_seeds > 1 else ""
            name = _title(one.variant, one.init, results)
            lines.append(
                f"  {_points(one.score, results):>6}  {_span(one, results):22}  {name}{seeds}"
            )
    for choice in facts.epochs:
        name, chosen, by_fold = _epochs(choice, results)
        lines.append(f"epochs of {name}: {chosen} (for the folds: {by_fold})")
    return "\n".join([*lines, size_note(facts), *choice_notes(facts)])


def card_sentences(results: Results) -> str:
    """The cross-validated score and its meaning, for the model card; empty without one."""
    facts = results.crossval
    if facts is None:
        return ""
    own = student_interval(results)
    title = METRIC_TITLES.get(own.metric, own.metric)
    sentences = [
        f"Cross-validation with {facts.num_folds} folds: {title} {_score(own, results)}.",
        size_note(facts),
        *choice_notes(facts),
    ]
    return "\n" + " ".join(sentences) + "\n"


def _lead(results: Results, facts: CrossvalFacts) -> str:
    own = student_interval(results)
    title = METRIC_TITLES.get(own.metric, own.metric)
    name = _title(own.variant, own.init, results)
    return (
        f"{name}: {title} by cross-validation with {facts.num_folds} folds on {facts.num_rows:,} "
        "labeled rows"
    )


def _score(one: ScoreInterval, results: Results) -> str:
    share = f"{100 * one.confidence:.0f} %"
    return f"{_points(one.score, results)} ({share} interval {_span(one, results)})"


def _points(value: float, results: Results) -> str:
    return Numbers.of(results).value(100 * value)


def _span(one: ScoreInterval, results: Results) -> str:
    return f"{_points(one.low, results)} to {_points(one.high, results)}"


def _title(variant: str, init: str | None, results: Results) -> str:
    title = variant_title(variant, regression=results.task.regression)
    inits = {one.init for one in results.scores if one.init is not None}
    if init is None or len(inits) < 2:
        return title
    return f"{title}, {INIT_TITLES.get(init, init)}"


def _folds(results: Results, facts: CrossvalFacts) -> list[list[str]]:
    """Lines of the table: fold, rows trained on, held-out rows, and those per class."""
    return [
        [
            str(fold.number),
            f"{fold.num_train:,}",
            f"{fold.num_held_out:,}",
            ", ".join(
                f"{count:,} {name}"
                for name, count in zip(results.task.labels, fold.class_counts, strict=False)
            ),
        ]
        for fold in facts.folds
    ]


def _epochs(choice: EpochChoice, results: Results) -> tuple[str, str, str]:
    """Training, number of epochs, and numbers for the folds."""
    by_fold = ", ".join(map(str, choice.by_fold))
    name = _title(choice.variant, choice.init, results)
    chosen = f"{choice.chosen} of {choice.num_epochs}"
    if choice.best != choice.chosen:
        chosen += f", {choice.best} not clearly better"
    return name, chosen, by_fold


def _more_notes(results: Results, facts: CrossvalFacts) -> list[str]:
    first = facts.intervals[0]
    num_seeds = max(one.num_seeds for one in facts.intervals)
    seeds = f", and on how {num_seeds} seeds vary" if num_seeds > 1 else ""
    notes = [
        f"An interval has a confidence of {100 * first.confidence:.0f} %, and is based on "
        f"{first.num_resamples:,} resamples of the rows{seeds}. It does not cover that other "
        "labeled rows would train other models.",
    ]
    if any(choice.best == choice.num_epochs for choice in facts.epochs):
        notes.append(
            "Where the last epoch is the best one, more epochs in the recipe may be better still."
        )
    if results.calibration is not None:
        notes.append("The dev rows of the calibration are the held-out rows of all folds.")
    return notes
