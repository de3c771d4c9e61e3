"""What a reader must know to read the scores of a report rightly."""

from raykd.report.scores import INIT_TITLES, Numbers
from raykd.results import Results


def notes_on(results: Results) -> list[str]:
    """Sentences on split, metrics, chance, first weights and seeds."""
    task, numbers = results.task, Numbers.of(results)
    notes = []
    if task.report_split == "test":
        notes.append(
            "The test split is reported; training, learning curves and search never see it."
        )
    else:
        notes.append(
            f"The {task.report_split} split is reported, because no test split with labels was "
            "given. Settings that were chosen by looking at these scores make them too good."
        )
        if results.adaptation is not None and results.adaptation.keeps_best:
            notes.append(
                "Students were kept at the step that scored best on these very rows "
                "(adaptation.keep: best), which makes them too good as well."
            )
    if task.regression:
        notes.append("A correlation of 0 is what a model that learnt nothing gets.")
    else:
        notes.append("The majority class is what a model that learnt nothing gets.")
    if "accuracy" in task.metrics:
        step, error = f"{numbers.points_per_row:.2g}", f"{numbers.standard_error(65):.1f}"
        notes.append(
            f"One of the {numbers.num_rows:,} rows is worth {step} points of accuracy, and an "
            f"accuracy near 65 has a standard error of {error} points from the choice of these "
            "rows alone, which the spread over seeds does not contain."
        )
    notes += [
        f"Students {INIT_TITLES.get(init, init)} start with {start}."
        for init, start in results.starts.items()
    ]
    injection = results.injection
    if injection and not injection.trains_classifier:
        notes.append(
            f"Before adaptation, not applicable: {injection.objective} does not train the "
            "classifier, so there is nothing to score yet."
        )
    seeds = {score.seed for score in results.scores if score.init is not None}
    if len(seeds) == 1:
        notes.append("Students were trained with one seed: how much the seed matters is unknown.")
    else:
        notes.append("Differences are taken seed by seed.")
    return notes
