"""Table of the differences between scores, with their intervals."""

from collections.abc import Sequence
from typing import NamedTuple

from raykd.evaluation.differences import ScoreDifference
from raykd.report.results import Results
from raykd.report.scores import INIT_TITLES, Numbers, title_of

NO_DIFFERENCE = "no difference seen"


class Line(NamedTuple):
    """Line of the table: two models, the difference in points, its interval, and a finding."""

    title: str
    other: str
    difference: str
    interval: str
    finding: str


def comparison_table(results: Results) -> list[tuple[str, list[Line]]]:
    """Lines for the main metric by init: the title of the init, empty for a single one."""
    own = _of_main_metric(results)
    inits = dict.fromkeys(difference.init for difference in own)
    return [
        (
            INIT_TITLES.get(init or "", init or "") if len(inits) > 1 else "",
            [_line(difference, results) for difference in own if difference.init == init],
        )
        for init in inits
    ]


def comparison_note(results: Results) -> str:
    """Explain what the intervals cover, and what they do not."""
    own = _of_main_metric(results)
    if not own:
        return ""
    first = own[0]
    split = results.task.report_split
    num_seeds = max(difference.num_seeds for difference in own)
    rows = f"the {first.num_rows:,} rows of the {split} split"
    causes = "another sample of such rows"
    basis = f"{first.num_resamples:,} resamples of {rows} (the same for both models)"
    chance = "Among 20 pairs of equally good models, about one shows a difference by chance."
    if num_seeds > 1:
        causes += " or other seeds"
        basis += f", and on how {num_seeds} seeds vary (as pairs where both models have them)"
    if num_seeds == 2:
        chance = "Among 20 pairs of equally good models, one to three show a difference by chance."
    if num_seeds == 1:
        chance = (
            "With one seed, the variation over seeds is unknown and not covered: a difference may "
            "be that of the seeds."
        )
    sentences = [
        f"An interval covers, with a confidence of {100 * first.confidence:.0f} %, how {causes} "
        f"would change the difference. It is based on {basis}. It does not cover another teacher, "
        "other settings, or rows of another kind.",
        f"“{NO_DIFFERENCE[:1].upper()}{NO_DIFFERENCE[1:]}” means that the interval contains 0: "
        "these rows and seeds do not show which model is better; it does not mean that both are "
        "equal.",
        chance,
    ]
    if any(difference.other_init is None for difference in own):
        sentences.append(
            "The student compared with the teacher and the baselines is the one with the highest "
            "score on the same rows, so its advantage is somewhat too high."
        )
    return " ".join(sentences)


def _of_main_metric(results: Results) -> Sequence[ScoreDifference]:
    main = results.task.metrics[0]
    return [difference for difference in results.differences if difference.metric == main]


def _line(found: ScoreDifference, results: Results) -> Line:
    numbers = Numbers.of(results)
    difference, low, high = (
        numbers.signed(100 * value) for value in (found.difference, found.low, found.high)
    )
    before = ", before adaptation" if found.other_is_injected else ""
    finding = NO_DIFFERENCE
    if found.is_seen:
        word = "better" if found.difference > 0 else "worse"
        size = numbers.value(abs(100 * found.difference))
        if float(size) == 0:
            size = f"less than {10.0**-numbers.decimals:g}"
        finding = f"{word} by {size}"
    return Line(
        title=title_of(results.task, found.variant),
        other=title_of(results.task, found.other) + before,
        difference=difference,
        interval=f"{low} to {high}",
        finding=finding,
    )
