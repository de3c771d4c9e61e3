"""Confidence of the student: calibration, risk-coverage curve and thresholds."""

from collections.abc import Sequence
from typing import NamedTuple

from raykd.evaluation.calibration.calibrate import CalibrationFacts, Measured, Target
from raykd.evaluation.calibration.quality import NUM_BINS, Bin, Quality
from raykd.report.charts import LEGEND, Figure, color_of, short_title
from raykd.report.results import Results
from raykd.report.scores import NOTHING

_BEFORE = "#8a8f98"


class QualityLine(NamedTuple):
    """Line of the table of qualities: its rows, and cells of (value, value before)."""

    rows: str
    cells: list[tuple[str, str]]


class TargetLine(NamedTuple):
    """Line of the table of thresholds, of formatted values; `counts` is below `right`."""

    wanted: str
    threshold: str
    answered: str
    right: str
    counts: str
    interval: str


class CalibrationSection(NamedTuple):
    """Content of the section; without measures only `lead`."""

    lead: str
    qualities: list[QualityLine]
    targets: list[tuple[str, list[TargetLine]]]
    notes: list[str]


def calibration_section(results: Results) -> CalibrationSection | None:
    """Tables and sentences of the section; None for results of versions without a calibration."""
    if results.task.regression:
        lead = "The task has scores and no classes: there are no probabilities to calibrate."
        return CalibrationSection(lead, [], [], [])
    if results.task.multi_label:
        lead = (
            "A row has any number of classes: probabilities of multi-label tasks are not "
            "calibrated."
        )
        return CalibrationSection(lead, [], [], [])
    facts = results.calibration
    if facts is None:
        return None
    return CalibrationSection(
        _lead(facts),
        [_quality_line(one, facts) for one in facts.measured],
        [
            (_rows_of(one, facts), [_target_line(target, one) for target in one.targets])
            for one in facts.measured
        ],
        _notes(facts, results),
    )


def calibration_figures(results: Results) -> list[tuple[str, Figure]]:
    """(caption, figure) of the reliability diagram and of the risk-coverage curves."""
    facts = results.calibration
    if facts is None or not facts.measured:
        return []
    last = facts.measured[-1]
    return [
        (
            f"Reliability on the {last.split} rows: a bin of rows per point, open circles before "
            "calibration",
            _reliability_figure(last, facts),
        ),
        ("Wrong answers when only the most probable ones are given", _risk_figure(facts)),
    ]


def ece_sentence(facts: CalibrationFacts) -> str:
    """Sentences on the temperature and the calibration error, for the model card."""
    if not facts.measured:
        return f"Its probabilities are not calibrated: {facts.problem}."
    last = facts.measured[-1]
    where = _rows_of(last, facts)
    if facts.problem is not None:
        return (
            f"Its probabilities are not calibrated (temperature 1: {facts.problem}); expected "
            f"calibration error {_points(last.before.ece)} % ({where})."
        )
    return (
        f"Calibrated probabilities are softmax(logits / T) with the temperature T = "
        f"{facts.temperature:.4g}, fitted on {facts.num_rows:,} dev rows: expected calibration "
        f"error {_points(last.before.ece)} % before, {_points(last.after.ece)} % after ({where}). "
        "`raykd predict` and files of `raykd export` have T; the pipeline of transformers does "
        "not divide by it."
    )


def _lead(facts: CalibrationFacts) -> str:
    who = f"The student in the folder student ({short_title(facts.variant)}, seed {facts.seed})"
    if not facts.measured:
        return f"{who} is not calibrated: {facts.problem}."
    if facts.problem is not None:
        return (
            f"{who} keeps its own probabilities: a temperature cannot be estimated on the "
            f"{facts.num_rows:,} dev rows, since {facts.problem}."
        )
    verb = "less" if facts.temperature > 1 else "more"
    return (
        f"{who} gets {verb} confident: its logits are divided by the temperature "
        f"{facts.temperature:.2f} ± {facts.temperature_error:.2f} (standard error), which fits the "
        f"{facts.num_rows:,} dev rows best. The predicted class stays the same."
    )


def _rows_of(measured: Measured, facts: CalibrationFacts) -> str:
    if measured.split == "dev":
        return f"{measured.num_rows:,} dev rows, in {facts.num_folds} folds"
    return f"{measured.num_rows:,} {measured.split} rows"


def _quality_line(measured: Measured, facts: CalibrationFacts) -> QualityLine:
    before, after = measured.before, measured.after

    def cell(of: str) -> tuple[str, str]:
        values = [getattr(quality, of) for quality in (after, before)]
        texts = [_points(value) if of == "ece" else f"{value:.3f}" for value in values]
        return texts[0], "" if facts.problem else f"before {texts[1]}"

    names = Quality.model_fields
    perfect, aurc = _points(measured.perfect_ece), f"{100 * measured.aurc:.2f}"
    cells = [cell(name) for name in names]
    cells[1:1] = [(perfect, "")]
    return QualityLine(_rows_of(measured, facts), [*cells, (aurc, "")])


def _target_line(target: Target, measured: Measured) -> TargetLine:
    wanted = f"{100 * target.wanted:g} %"
    if target.threshold is None:
        return TargetLine(wanted, "not reached", NOTHING, NOTHING, "", NOTHING)
    answered = f"{100 * target.num_answered / measured.num_rows:.0f} %"
    right, counts, interval = NOTHING, "", NOTHING
    if target.low is not None and target.high is not None:
        right = f"{_points(target.num_right / target.num_answered)} %"
        counts = f"{target.num_right:,} of {target.num_answered:,}"
        interval = f"{_points(target.low)} to {_points(target.high)} %"
    return TargetLine(wanted, f"{target.threshold:.4f}", answered, right, counts, interval)


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _notes(facts: CalibrationFacts, results: Results) -> list[str]:
    if not facts.measured:
        return []
    dev = facts.measured[0]
    notes = [
        "ECE, the expected calibration error of the predicted class, is the mean difference of "
        f"its probability and the share of right answers over {NUM_BINS} bins with equal numbers "
        "of rows (Roelofs et al. 2022), in percent; NLL is the negative log-likelihood of the "
        "labels, Brier their squared error, AURC the area under the curve of wrong answers in "
        "percent. Smaller is better. Perfectly calibrated probabilities have an ECE as well, by "
        "chance, since a bin has a limited number of rows: the second column.",
        f"Nothing is measured on the rows it was fitted on: each of {facts.num_folds} folds of the "
        "dev rows has the temperature and the thresholds of the other folds. What is kept with the "
        "student is fitted on all dev rows. Intervals are those of Clopper and Pearson for the "
        "answered rows (95 %).",
    ]
    if facts.problem is None and dev.after.nll >= dev.before.nll:
        notes.append(
            "On rows that it was not fitted on, the temperature does not lower the NLL: raykd "
            "predict --uncalibrated leaves it out."
        )
    if results.adaptation is not None and results.adaptation.keeps_best:
        notes.append(
            "The student was kept at its best step on the dev rows (adaptation.keep: best), so "
            "measures and thresholds on them are somewhat too good."
        )
    notes.append(
        "The thresholds hold for rows like these; raykd predict --precision 0.95 uses them."
    )
    return notes


def _reliability_figure(measured: Measured, facts: CalibrationFacts) -> Figure:
    color = color_of(facts.variant)
    drawn = [] if facts.problem else [("before", measured.bins_before, _BEFORE, "circle-open")]
    drawn.append(("after" if drawn else "student", measured.bins_after, color, "circle"))
    lowest = min(_lowest(bins) for _, bins, _, _ in drawn)
    traces = [_line([lowest, 100], [lowest, 100], "perfectly calibrated")]
    traces += [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": [100 * one.probability for one in bins],
            "y": [100 * one.share_right for one in bins],
            "text": [f"{one.num_rows:,} rows" for one in bins],
            "hovertemplate": f"{name}: probability %{{x:.1f}} %, right %{{y:.1f}} %"
            "<br>%{text}<extra></extra>",
            "marker": {
                "symbol": symbol,
                "size": 9,
                "color": shade,
                "line": {"width": 1.5, "color": shade},
            },
        }
        for name, bins, shade, symbol in drawn
    ]
    return _figure(traces, "mean probability of the predicted class", "right answers")


def _risk_figure(facts: CalibrationFacts) -> Figure:
    dashes = ["solid"] if len(facts.measured) == 1 else ["dot", "solid"]
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"{one.split} rows",
            "x": [100 * coverage for coverage in one.coverages],
            "y": [100 * error for error in one.errors],
            "hovertemplate": "%{y:.1f} % wrong among the %{x:.0f} % most probable"
            f"<extra>{one.split}</extra>",
            "line": {"width": 2, "color": color_of(facts.variant), "dash": dash},
        }
        for one, dash in zip(facts.measured, dashes, strict=True)
    ]
    figure = _figure(traces, "answered rows, most probable first", "wrong answers")
    figure["layout"]["yaxis"]["rangemode"] = "tozero"
    figure["layout"]["xaxis"]["range"] = [0, 101]
    figure["layout"]["showlegend"] = len(traces) > 1
    return figure


def _line(x: Sequence[float], y: Sequence[float], name: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": {"width": 1, "dash": "dot", "color": _BEFORE},
        "hoverinfo": "skip",
    }


def _figure(traces: list[Figure], x: str, y: str) -> Figure:
    return {
        "data": traces,
        "layout": {
            "height": 320,
            "margin": {"l": 56, "r": 12, "t": 8, "b": 44},
            "legend": LEGEND,
            "xaxis": {"title": {"text": x}, "ticksuffix": " %"},
            "yaxis": {"title": {"text": y}, "ticksuffix": " %"},
        },
    }


def _lowest(bins: Sequence[Bin]) -> float:
    return 100 * min(min(one.probability, one.share_right) for one in bins)
