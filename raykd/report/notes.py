"""Notes that explain the scores of a report."""

from raykd.report.crossval.section import size_note
from raykd.report.results import PhaseFacts, Results, StepFacts
from raykd.report.scores import (
    INIT_TITLES,
    METRIC_TITLES,
    NOTHING,
    Numbers,
    has_injected,
    reference_rows,
    student_rows,
    variant_title,
)


def notes_on(results: Results) -> list[str]:
    """Return sentences on split, metrics, chance level, initial weights and seeds."""
    task, numbers = results.task, Numbers.of(results)
    notes = _notes_on_rows(results)
    if task.regression:
        notes.append("A model that learned nothing has a correlation of 0.")
    elif task.multi_label:
        notes.append(
            "A row has any number of classes, and those with a probability of at least 0.5 are "
            "predicted. A model that learned nothing scores like the most frequent classes: as "
            "many as give the best micro F1 on the training rows, predicted for every row."
        )
    else:
        notes.append("A model that learned nothing scores like the majority class.")
    notes += [f"{remark[:1].upper()}{remark[1:]}." for remark in task.remarks]
    notes += _notes_on_scores(results)
    if results.teacher_remark is not None:
        notes.append(f"The teacher may be of little use: {results.teacher_remark}.")
    for answer, models in _constant_answers(results).items():
        correlations = (
            " Correlations (including Matthews correlation) of such a model are reported as 0."
        )
        notes.append(
            f"Same answer, {answer}, for every row: {', '.join(models)}."
            f"{'' if task.multi_label else correlations}"
        )
    if any(one.init is not None and one.constant_answer is not None for one in results.scores):
        notes.append(
            "A student that gives one answer has often not begun to learn, which depends on its "
            "seed: look at its learning curve, and give more steps, or another learning rate."
        )
    if "accuracy" in task.metrics and (best := _best_accuracy(results)) is not None:
        notes.append(
            f"One of the {numbers.num_rows:,} rows is worth {numbers.points_per_row:.2g} points of "
            f"accuracy. An accuracy of {numbers.value(best)} has a standard error of "
            f"{numbers.standard_error(best):.1f} points because it is measured on these rows only; "
            "the deviation over seeds does not include this error."
        )
    notes += [
        f"Students {INIT_TITLES.get(init, init)} start with {start}."
        for init, start in results.starts.items()
    ]
    if names := _without_classifier(results):
        verb = "does" if len(names) == 1 else "do"
        notes.append(
            f"Before adaptation, not applicable: {' and '.join(names)} {verb} not train the "
            "classifier, so there is no score yet."
        )
    notes += _notes_on_adaptation(results)
    seeds = {score.seed for score in results.scores if score.init is not None}
    if len(seeds) == 1:
        notes.append("Students were trained with one seed, so the variation over seeds is unknown.")
    else:
        notes.append("Differences are paired by seed.")
    return notes


def _notes_on_scores(results: Results) -> list[str]:
    """Sentences on a teacher that is a file of scores; none for a model."""
    scores, task = results.teacher_scores, results.task
    if scores is None:
        return []
    metric = task.metrics[0]
    title = METRIC_TITLES.get(metric, metric)
    notes = [
        f"The teacher is not a model, but {scores.name} ({scores.kind}): {title} "
        f"{100 * scores.train_metrics[metric]:.1f} on the {scores.num_rows['train']:,} training "
        "rows."
    ]
    num_found, num_rows = scores.num_rows[task.report_split], task.num_rows[task.report_split]
    if num_found < num_rows:
        notes.append(
            f"The teacher has no score here: {num_found:,} of the {num_rows:,} rows of the "
            f"{task.report_split} split are in its scores."
        )
    return notes


def class_table(results: Results) -> list[tuple[str, list[str]]]:
    """Rows per class: a class, and one number per split of `class_counts`."""
    counts = results.task.class_counts.values()
    return [
        (label, [f"{of_split[number]:,}" if of_split else NOTHING for of_split in counts])
        for number, label in enumerate(results.task.labels if counts else [])
    ]


def _best_accuracy(results: Results) -> float | None:
    """Return the best mean of the students in points, else that of teacher and baselines."""
    students = [row for rows in student_rows(results, "accuracy").values() for row in rows]
    for rows in (students, reference_rows(results, "accuracy")):
        if means := [row.after.mean for row in rows if row.after]:
            return max(means)
    return None


def _notes_on_rows(results: Results) -> list[str]:
    """Sentences on the rows of the scores."""
    task = results.task
    notes = []
    if results.crossval is not None:
        notes.append(size_note(results.crossval))
    elif task.report_split == "test":
        notes.append(
            "Scores are of the test split, which training, learning curves and tuning never use."
        )
    else:
        notes.append(
            f"Scores are of the {task.report_split} split, because there is no test split with "
            "labels. If settings were chosen by these scores, they are too high."
        )
        if results.adaptation is not None and results.adaptation.keeps_best:
            notes.append(
                "Students were kept at the step with the best score on the same rows "
                "(adaptation.keep: best), which makes the scores too high as well."
            )
    return notes


def _constant_answers(results: Results) -> dict[str, list[str]]:
    """Group the models that give the same answer for every row, by that answer."""
    models: dict[str, list[str]] = {}
    for score in results.scores:
        if score.constant_answer is not None:
            seed = "" if score.seed is None else f", seed {score.seed}"
            stage = " before adaptation" if score.stage == "injected" else ""
            name = f"{variant_title(score.variant)}{stage}{seed}"
            models.setdefault(score.constant_answer, []).append(name)
    return models


def _notes_on_adaptation(results: Results) -> list[str]:
    """Sentences on students that are not adapted, or that adaptation made worse."""
    notes = []
    kept = [facts.variant for facts in results.variants if not facts.adapted]
    if kept:
        names = " and ".join(variant_title(variant) for variant in kept)
        notes.append(f"Not adapted (adapt: false): {names}; the score is that after injection.")
    for found in results.differences:
        is_main = found.metric == results.task.metrics[0]
        if is_main and found.other_is_injected and found.is_seen and found.difference < 0:
            init = f" {INIT_TITLES.get(found.init, found.init)}" if found.init else ""
            notes.append(
                f"{variant_title(found.variant)}{init}: adaptation made the students worse. "
                "adapt: false in the settings of the injection leaves it out."
            )
    return notes


def _without_classifier(results: Results) -> list[str]:
    """Return the objectives of last injections that do not train the classifier."""
    injections: list[StepFacts | PhaseFacts] = [variant.steps[-1] for variant in results.variants]
    if not injections and results.injection and has_injected(results):
        injections.append(results.injection)
    return list(dict.fromkeys(one.objective for one in injections if not one.trains_classifier))
