"""Comparison of students and teacher: outputs, layers, and measures logged in training.

Measures of layers are numbered: `NAME_J` belongs to the student's layer J, `NAME_J_I` to that layer
and the teacher's layer I.
"""

import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from raykd.evaluation.analysis import Divergence
from raykd.report.charts import (
    Figure,
    Line,
    by_epoch,
    curve_groups,
    heat_map,
    line_figure,
    lines_of,
    short_title,
)
from raykd.report.results import Analysis, Curve, Phase, Results
from raykd.report.scores import INIT_TITLES, VARIANT_TITLES, title_of

_OF_LAYERS = re.compile(r"(.+?)_(\d+)(?:_(\d+))?")
_STUDENT_LAYER, _TEACHER_LAYER = "student layer", "teacher layer"
_DECIMALS = 3


def divergence_table(results: Results) -> list[dict[str, Any]]:
    """For each init a title and the variants' rows: title, mean, median, 90th percentile, seeds."""
    return [
        {
            "title": INIT_TITLES.get(init, init),
            "rows": [
                {
                    "variant": variant,
                    "title": title_of(results.task, variant),
                    "values": [
                        _spread([getattr(analysis.divergence, name) for analysis in of_variant])
                        for name in ("mean", "median", "percentile_90")
                    ],
                    "num_seeds": len(of_variant),
                }
                for variant, of_variant in _by_variant(analyses).items()
            ],
        }
        for init, analyses in _by_init(results).items()
    ]


def divergence_figures(results: Results) -> list[tuple[str, Figure]]:
    """(caption, figure) for each init: the cumulative distribution of rows by divergence."""
    figures = []
    inits = _by_init(results)
    for init, analyses in inits.items():
        whose = f"Student {INIT_TITLES.get(init, init)}: r" if len(inits) > 1 else "R"
        lines = [
            Line(variant, analysis.seed, *_shares_below(analysis.divergence))
            for variant, of_variant in _by_variant(analyses).items()
            for analysis in of_variant
        ]
        figure = line_figure(
            lines,
            "%{y:.1f} % below %{x:g}",
            xaxis={"type": "log", "title": {"text": "divergence"}},
            yaxis={"range": [0, 102], "ticksuffix": " %"},
        )
        figures.append((f"{whose}ows by divergence (cumulative), one line per seed", figure))
    return figures


def layer_figures(results: Results) -> list[tuple[str, Figure]]:
    """(caption, figure) for each init and variant, of its first seed."""
    figures = []
    inits = _by_init(results)
    for init, analyses in inits.items():
        for variant, of_variant in _by_variant(analyses).items():
            first = of_variant[0]
            if first.layers is None:
                continue
            values = first.layers.values
            figure = heat_map(
                values,
                (_STUDENT_LAYER, range(1, len(values) + 1)),
                (_TEACHER_LAYER, range(1, len(values[0]) + 1)),
            )
            measure = "cosine" if first.layers.measure == "cosine" else "linear CKA"
            whose = short_title(variant, init if len(inits) > 1 else None)
            figures.append((f"{whose}, seed {first.seed}: {measure}", figure))
    return figures


def measure_figures(results: Results) -> list[tuple[Phase, str, Figure]]:
    """(phase, caption, figure): lines over epochs; heat maps of measures of layers."""
    figures: list[tuple[Phase, str, Figure]] = []
    for phase, whose, curves in curve_groups(results):
        figures += [
            (phase, f"{whose}{name}", _measure_figure(curves, name))
            for name in _names(curves)
            if not _OF_LAYERS.fullmatch(name)
        ]
        firsts: dict[str, Curve] = {}
        for curve in curves:
            firsts.setdefault(curve.variant, curve)
        for variant, curve in firsts.items():
            who = f"{whose}{short_title(variant)}, seed {curve.seed}"
            figures += [(phase, f"{who}: {what}", drawn) for what, drawn in _layer_measures(curve)]
    return figures


def _measure_figure(curves: Sequence[Curve], name: str) -> Figure:
    return by_epoch(lines_of(curves, lambda point: point.measures.get(name)))


def _layer_measures(curve: Curve) -> Iterator[tuple[str, Figure]]:
    """(caption, figure) for each group of measures that differ only in their layers."""
    groups: dict[tuple[str, bool], dict[tuple[int, int], str]] = {}
    for name in _names([curve]):
        if match := _OF_LAYERS.fullmatch(name):
            stem, student, teacher = match.groups()
            layers = groups.setdefault((stem, teacher is not None), {})
            layers[int(student), int(teacher or 0)] = name
    for (stem, has_teacher), names in groups.items():
        rows = sorted({student for student, _ in names})
        if has_teacher:
            columns = sorted({teacher for _, teacher in names})
            last = next(p for p in reversed(curve.points) if set(names.values()) & set(p.measures))
            values = [
                [last.measures.get(names.get((row, column), "")) for column in columns]
                for row in rows
            ]
            figure = heat_map(values, (_STUDENT_LAYER, rows), (_TEACHER_LAYER, columns))
            yield f"{stem} in epoch {last.epoch:g}", figure
        else:
            values = [[p.measures.get(names[row, 0]) for p in curve.points] for row in rows]
            epochs = [point.epoch for point in curve.points]
            yield stem, heat_map(values, (_STUDENT_LAYER, rows), ("epoch", epochs))


def _names(curves: Iterable[Curve]) -> list[str]:
    points = [point for curve in curves for point in curve.points]
    return list(dict.fromkeys(name for point in points for name in point.measures))


def _by_init(results: Results) -> dict[str, list[Analysis]]:
    inits: dict[str, list[Analysis]] = {}
    for analysis in results.analyses:
        inits.setdefault(analysis.init, []).append(analysis)
    return inits


def _by_variant(analyses: Sequence[Analysis]) -> Mapping[str, list[Analysis]]:
    """Group analyses by variant, in the order of the score table."""
    variants: dict[str, list[Analysis]] = {variant: [] for variant in VARIANT_TITLES}
    for analysis in analyses:
        variants.setdefault(analysis.variant, []).append(analysis)
    return {variant: of_variant for variant, of_variant in variants.items() if of_variant}


def _shares_below(divergence: Divergence) -> tuple[list[float], list[float]]:
    """Return the edges above 0, and the percentage of rows below each."""
    num_rows = sum(divergence.counts)
    below = [100 * count / num_rows for count in accumulate(divergence.counts)]
    return divergence.lower_edges[1:], below[:-1]


def _spread(values: Sequence[float]) -> str:
    """Format as `0.123 ± 0.010`; without a deviation for one seed."""
    mean = _number(statistics.fmean(values))
    return mean if len(values) == 1 else f"{mean} \u00b1 {_number(statistics.stdev(values))}"


def _number(value: float) -> str:
    smallest = 10.0**-_DECIMALS
    return f"<{smallest:g}" if 0 < value < smallest / 2 else f"{value:.{_DECIMALS}f}"
