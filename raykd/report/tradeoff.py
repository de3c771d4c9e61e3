"""Chart of scores against speed, with the Pareto front."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from raykd.report.charts import LEGEND, Figure, color_of, plain, short_title
from raykd.report.costs import measured_model, short
from raykd.report.results import Results
from raykd.report.scores import METRIC_TITLES, Numbers, Spread, reference_rows, student_rows

_HEIGHT_PX = 340
# Room left of the slowest and right of the fastest model, as a factor.
_MARGIN = 1.6


class Tradeoff(NamedTuple):
    """A measured model: its score in points, mean over seeds, and its speed."""

    variant: str
    init: str | None
    score: Spread
    rows_per_s: float
    num_parameters: int


def tradeoffs(results: Results) -> list[Tradeoff]:
    """Models with a final score and a cost, in the order of the score table."""
    metric = results.task.metrics[0]
    rows = [
        row
        for group in (reference_rows(results, metric), *student_rows(results, metric).values())
        for row in group
    ]
    found = []
    for row in rows:
        model = measured_model(results, row.variant, row.init)
        if model is not None and model.cost is not None and row.after is not None:
            speed = model.cost.rows_per_s_batch_32
            found.append(Tradeoff(row.variant, row.init, row.after, speed, model.num_parameters))
    return found


def front_of(models: Sequence[Tradeoff]) -> list[Tradeoff]:
    """Models that no other one beats in speed or score without being worse in the other.

    They are ordered by speed, slowest first; of models with equal speed and score the first is
    returned.
    """
    fastest_first = sorted(models, key=lambda model: (-model.rows_per_s, -model.score.mean))
    front: list[Tradeoff] = []
    for model in fastest_first:
        if not front or model.score.mean > front[-1].score.mean:
            front.append(model)
    return front[::-1]


def tradeoff_figure(results: Results) -> Figure | None:
    """Plot the main metric over rows per second; None if fewer than two models are measured."""
    models = tradeoffs(results)
    if len({model.rows_per_s for model in models}) < 2:
        return None
    metric = results.task.metrics[0]
    several_inits = len({model.init for model in models if model.init}) > 1
    numbers, front = Numbers.of(results), front_of(models)
    slowest, fastest = (pick(model.rows_per_s for model in models) for pick in (min, max))
    points: list[Figure] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": plain(short_title(model.variant, model.init if several_inits else None)),
            "x": [model.rows_per_s],
            "y": [model.score.mean],
            "error_y": {"array": [model.score.deviation or 0], "thickness": 1, "width": 4},
            "text": [
                f"{numbers.spread(model.score)}, {short(model.rows_per_s)} rows per second, "
                f"{model.num_parameters / 1e6:.2f} M parameters"
            ],
            "hovertemplate": "%{fullData.name}<br>%{text}<extra></extra>",
            "marker": {
                "size": 11,
                "color": color_of(model.variant),
                "symbol": "circle" if model in front else "circle-open",
                "line": {"width": 1.5},
            },
        }
        for model in models
    ]
    line: Figure = {
        "type": "scatter",
        "mode": "lines",
        "name": "best at its speed",
        "x": [model.rows_per_s for model in front],
        "y": [model.score.mean for model in front],
        "line": {"width": 1, "dash": "dot", "color": "#8a8f98", "shape": "vh"},
        "hoverinfo": "skip",
    }
    return {
        "data": [line, *points],
        "layout": {
            "height": _HEIGHT_PX,
            "margin": {"l": 52, "r": 16, "t": 8, "b": 44},
            "legend": LEGEND,
            "xaxis": {
                "type": "log",
                "dtick": "D2",
                "autorange": False,
                "range": [math.log10(slowest / _MARGIN), math.log10(fastest * _MARGIN)],
                "title": {"text": "rows per second, batches of 32"},
            },
            "yaxis": {"title": {"text": f"{METRIC_TITLES.get(metric, metric)} \u00d7 100"}},
        },
    }
