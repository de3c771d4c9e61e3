"""Rendering of the HTML report from its template."""

import base64
import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

from markupsafe import Markup

from raykd.report.calibration import calibration_figures, calibration_section
from raykd.report.card import card_table, text_table
from raykd.report.charts import PHASE_TITLES, Figure, curve_figures, score_figure
from raykd.report.comparisons import comparison_note, comparison_table
from raykd.report.costs import cost_note, cost_table
from raykd.report.crossval.section import crossval_section
from raykd.report.diagnostics import (
    divergence_figures,
    divergence_table,
    layer_figures,
    measure_figures,
)
from raykd.report.notes import class_table, notes_on
from raykd.report.rendering import environment
from raykd.report.results import Phase, Results
from raykd.report.scores import (
    INIT_TITLES,
    METRIC_TITLES,
    NOT_APPLICABLE,
    NOTHING,
    Difference,
    Numbers,
    Row,
    Spread,
    has_injected,
    reference_rows,
    student_rows,
    variant_title,
)
from raykd.report.sets import describe_set, set_table
from raykd.report.tradeoff import tradeoff_figure


def render(results: Results) -> str:
    """Render the page deterministically; texts and names are escaped."""
    from plotly.offline import get_plotlyjs  # not at the top: loads Plotly

    template = environment().get_template("report.html")
    script = "".join(template.blocks["script"](template.new_context()))
    plotly = get_plotlyjs().strip()
    figures = {"scores": score_figure(results)}
    if (tradeoff := tradeoff_figure(results)) is not None:
        figures["tradeoff"] = tradeoff
    curves = _placed_by_phase(figures, "curve", curve_figures(results))
    measures = _placed_by_phase(figures, "measure", measure_figures(results))
    cards = [corpus.card for corpus in results.corpora]
    return template.render(
        results=results,
        notes=notes_on(results),
        classes=class_table(results),
        sets=set_table(results),
        describe_set=describe_set,
        metric_tables=[_metric_table(results, metric) for metric in results.task.metrics],
        findings=_findings(results),
        comparisons=comparison_table(results),
        comparison_note=comparison_note(results),
        calibration=calibration_section(results),
        calibration_charts=_placed(figures, "calibration", calibration_figures(results)),
        crossval=crossval_section(results),
        costs=cost_table(results),
        cost_note=cost_note(results),
        has_tradeoff=tradeoff is not None,
        cards=card_table(cards),
        texts=text_table(results.corpora) if cards else None,
        curves=curves,
        divergences=divergence_table(results),
        divergence_charts=_placed(figures, "divergence", divergence_figures(results)),
        layer_charts=_placed(figures, "layers", layer_figures(results)),
        layer_measures={a.layers.measure for a in results.analyses if a.layers},
        num_layer_rows=max((a.layers.num_rows for a in results.analyses if a.layers), default=0),
        measures=measures,
        sizes={model.num_parameters for model in results.models if model.init is not None},
        teacher_sizes={m.num_parameters for m in results.models if m.variant == "teacher"},
        has_injected=has_injected(results),
        teacher_score=_teacher_score(results),
        total_s=sum(results.times_s.values()),
        variant_title=variant_title,
        init_titles=INIT_TITLES,
        metric_titles=METRIC_TITLES,
        duration=_duration,
        plotly=Markup(plotly),  # trusted: from Plotly's package
        figures=Markup(_json_in_html(figures)),  # escaped by `_json_in_html`
        script_sources=f"{_source_digest(plotly)} {_source_digest(script)}",
    )


def _placed(
    figures: dict[str, Figure], kind: str, drawn: Iterable[tuple[str, Figure]]
) -> list[tuple[str, str]]:
    """Add figures to `figures`; return (caption, id of the element on the page) for each."""
    places = []
    for caption, figure in drawn:
        name = f"{kind}-{sum(name.startswith(f'{kind}-') for name in figures)}"
        figures[name] = figure
        places.append((caption, name))
    return places


def _placed_by_phase(
    figures: dict[str, Figure], kind: str, drawn: Sequence[tuple[Phase, str, Figure]]
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return (title, `_placed`) for each phase with figures."""
    by_phase = {
        title: [(caption, figure) for of, caption, figure in drawn if of == phase]
        for phase, title in PHASE_TITLES.items()
    }
    return [(title, _placed(figures, kind, drawn)) for title, drawn in by_phase.items() if drawn]


def _metric_table(results: Results, metric: str) -> dict[str, Any]:
    numbers = Numbers.of(results)
    students = student_rows(results, metric)
    groups = [("", reference_rows(results, metric)), *students.items()]
    compared = [
        variant
        for variant in ("alone", "random")
        if any(variant in row.versus for rows in students.values() for row in rows)
    ]
    return {
        "metric": METRIC_TITLES.get(metric, metric),
        "compared": compared,
        "groups": [
            (INIT_TITLES.get(init, init), [_cells(row, compared, numbers) for row in rows])
            for init, rows in groups
            if rows
        ],
    }


def _cells(row: Row, compared: list[str], numbers: Numbers) -> dict[str, Any]:
    if row.before is not None:
        before = numbers.spread(row.before)
    elif row.before_is_defined:
        before = NOTHING
    else:
        before = NOT_APPLICABLE
    return {
        "variant": row.variant,
        "title": row.title,
        "before": before,
        "after": numbers.spread(row.after) if row.after else NOTHING,
        "median": _median(row.after, numbers),
        "num_seeds": row.num_seeds,
        "is_student": row.init is not None,
        "versus": [
            _difference_cell(row.versus[variant], numbers)
            if variant in row.versus
            else (NOTHING, "")
            for variant in compared
        ],
    }


def _median(spread: Spread | None, numbers: Numbers) -> str:
    """Format the median, shown below a mean of three seeds or more."""
    if spread is None or spread.num_seeds < 3:
        return ""
    return f"median {numbers.value(spread.median)}"


def _difference_cell(difference: Difference, numbers: Numbers) -> tuple[str, str]:
    """Format a difference, and the number of seeds with the higher score."""
    spread = difference.spread
    if difference.num_higher is None:
        note = "seeds not paired"
    elif spread.num_seeds == 1:
        note = "one seed"
    else:
        note = f"higher in {difference.num_higher} of {spread.num_seeds}"
    return numbers.difference(spread), note


def _findings(results: Results) -> list[dict[str, Any]]:
    """Per init: the score with the contextualized corpus and its differences from baselines."""
    metric = results.task.metrics[0]
    numbers = Numbers.of(results)
    findings = []
    for init, rows in student_rows(results, metric).items():
        row = next((row for row in rows if row.variant == "contextualized"), None)
        if row is None or row.after is None:
            continue
        findings.append(
            {
                "init": INIT_TITLES.get(init, init),
                "score": numbers.spread(row.after),
                "versus": [
                    (other, *_difference_cell(row.versus[variant], numbers))
                    for variant, other in (
                        ("random", "distilling on random text"),
                        ("alone", "training the student alone"),
                    )
                    if variant in row.versus
                ],
            }
        )
    return findings


def _teacher_score(results: Results) -> str | None:
    rows = reference_rows(results, results.task.metrics[0])
    spreads = [row.after for row in rows if row.variant == "teacher" and row.after]
    return Numbers.of(results).spread(spreads[0]) if spreads else None


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _json_in_html(value: Any) -> str:
    """Serialize to JSON that cannot close the enclosing script element."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _source_digest(script: str) -> str:
    """Return the entry of a content security policy that allows exactly this script."""
    return "'sha256-" + base64.b64encode(sha256(script.encode()).digest()).decode() + "'"
