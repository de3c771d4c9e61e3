"""Plotly figures of the results as plain data; the page sets colors of text and grid."""

import html
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from raykd.report.results import Curve, CurvePoint, Phase, Results
from raykd.report.scores import METRIC_TITLES

Figure = dict[str, Any]

# Readable on white and near-black, distinguishable without red-green vision (Okabe and Ito).
_COLORS = {
    "contextualized": "#2b8cd6",
    "random": "#e08a00",
    "dsir": "#b3a125",
    "task": "#12a37a",
    "task_da": "#7a6ff0",
    "alone": "#8a8f98",
    "contextualized_task_da": "#1c3f8f",
    "direct": "#6b9e1f",
    "teacher": "#c0649e",
    "majority": "#8a8f98",
    "tfidf": "#8a8f98",
    "embeddings": "#8a8f98",
    "static": "#8a8f98",
    "setfit": "#8a8f98",
    "int8_teacher": "#c0649e",
}
_OTHER_COLORS = ("#d1495b",)
# In a row above a chart.
LEGEND: Figure = {
    "orientation": "h",
    "y": 1.02,
    "yanchor": "bottom",
    "x": 0,
    "font": {"size": 11},
}
_MARKED_POINTS = 20
_ROW_HEIGHT_PX = 34
_CELL_HEIGHT_PX = 26
_MIN_CELLS = 4  # room for the title of the vertical axis
# Heat maps with more columns have no room for numbers in their cells.
_NUMBERED_COLUMNS = 12
_SHADES = [[0, "#eef3f8"], [0.5, "#7fb2d9"], [1, "#12507f"]]
# Charts have less room for names than tables.
_VARIANT_TITLES = {
    "tfidf": "TF-IDF",
    "embeddings": "embeddings, linear",
    "static": "static, linear",
    "task": "task rows",
    "task_da": "augmented rows",
    "random": "random text",
    "dsir": "DSIR text",
    "contextualized_task_da": "contextualized, augmented",
}
_INIT_TITLES = {
    "random": "from scratch",
    "skip": "spread layers",
    "top": "top layers",
    "bottom": "bottom layers",
    "layers": "chosen layers",
    "pretrained": "pretrained",
}
PHASE_TITLES: dict[Phase, str] = {
    "teacher": "Teacher: fine-tuning",
    "injection": "Injection",
    "adaptation": "Adaptation",
}


class Line(NamedTuple):
    """Line of one model in a chart."""

    variant: str
    seed: int | None
    x: Sequence[float]
    y: Sequence[float]


def score_figure(results: Results) -> Figure:
    """Plot the main metric per seed, one row per variant: open circles before adaptation."""
    metric = results.task.metrics[0]
    several_inits = len({score.init for score in results.scores if score.init}) > 1
    order = list(dict.fromkeys((s.init is not None, s.init, s.variant) for s in results.scores))
    order.sort(key=lambda key: key[0])
    lines = {
        (init, variant): plain(short_title(variant, init if several_inits else None))
        for _, init, variant in order
    }
    traces = []
    for stage, name, symbol in (
        ("injected", "before adaptation", "circle-open"),
        ("final", "final", "circle"),
    ):
        chosen = [
            score
            for score in results.scores
            if (score.stage == "injected") == (stage == "injected") and metric in score.metrics
        ]
        if not chosen:
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [100 * score.metrics[metric] for score in chosen],
                "y": [lines[(score.init, score.variant)] for score in chosen],
                "text": [_who(score.seed, name) for score in chosen],
                "hovertemplate": "%{y}<br>%{x:.2f} · %{text}<extra></extra>",
                "marker": {
                    "symbol": symbol,
                    "size": 10,
                    "opacity": 0.85,
                    "color": [color_of(score.variant) for score in chosen],
                    "line": {"width": 1.5},
                },
            }
        )
    titles = list(lines.values())
    return {
        "data": traces,
        "layout": {
            "height": 90 + _ROW_HEIGHT_PX * len(titles),
            "showlegend": False,
            "margin": {"l": 10, "r": 16, "t": 8, "b": 44},
            "xaxis": {"title": {"text": f"{METRIC_TITLES.get(metric, metric)} \u00d7 100"}},
            "yaxis": {
                "type": "category",
                "categoryorder": "array",
                "categoryarray": titles[::-1],
                "automargin": True,
                "tickfont": {"size": 12},
            },
        },
    }


def curve_figures(results: Results) -> list[tuple[Phase, str, Figure]]:
    """(phase, caption, figure) of the scores, then of the losses, per phase and init."""
    metric = results.task.metrics[0]
    name = METRIC_TITLES.get(metric, metric)
    figures: list[tuple[Phase, str, Figure]] = []
    for phase, whose, curves in curve_groups(results):
        points = [point for curve in curves for point in curve.points]
        if any(metric in point.metrics for point in points):
            caption = f"{whose}{name} \u00d7 100, {results.curve_split} split"
            lines = lines_of(curves, lambda point: _percentage(point.metrics.get(metric)))
            figures.append((phase, caption, by_epoch(lines)))
        if any("total" in point.losses for point in points):
            lines = lines_of(curves, lambda point: point.losses.get("total"))
            caption = f"{whose}mean loss per epoch"
            figures.append((phase, caption, by_epoch(lines, from_zero=True)))
    return figures


def curve_groups(results: Results) -> Iterator[tuple[Phase, str, list[Curve]]]:
    """Yield (phase, prefix with the init if there are several, curves) in the page's order."""
    for phase in PHASE_TITLES:
        of_phase = [curve for curve in results.curves if curve.phase == phase]
        inits = list(dict.fromkeys(curve.init for curve in of_phase))
        for init in inits:
            whose = f"{_INIT_TITLES.get(init, init)}: " if init and len(inits) > 1 else ""
            yield phase, whose, [curve for curve in of_phase if curve.init == init]


def lines_of(curves: Sequence[Curve], value_of: Callable[[CurvePoint], float | None]) -> list[Line]:
    """Return one line per curve, over the epochs with a value."""
    lines = []
    for curve in curves:
        values = [(point.epoch, value_of(point)) for point in curve.points]
        known = [(epoch, value) for epoch, value in values if value is not None]
        if known:
            x, y = zip(*known, strict=True)
            lines.append(Line(curve.variant, curve.seed, x, y))
    return lines


def by_epoch(lines: Sequence[Line], *, from_zero: bool = False) -> Figure:
    """Draw lines over the epochs of a phase."""
    return line_figure(
        lines,
        "epoch %{x}: %{y:.4g}",
        xaxis={"title": {"text": "epoch"}, "rangemode": "tozero"},
        yaxis={"rangemode": "tozero" if from_zero else "normal"},
    )


def line_figure(lines: Sequence[Line], point: str, xaxis: Figure, yaxis: Figure) -> Figure:
    """Draw one thin line per seed, colored by variant; `point` is the hover text of a point."""
    traces: list[Figure] = []
    shown: set[str] = set()
    for line in lines:
        name = plain(short_title(line.variant))
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(line.x) < _MARKED_POINTS else "lines",
                "name": name,
                "legendgroup": name,
                "showlegend": name not in shown,
                "x": list(line.x),
                "y": list(line.y),
                "text": [_who(line.seed, "")] * len(line.x),
                "hovertemplate": f"{name}<br>{point}, %{{text}}<extra></extra>",
                "line": {"width": 1.5, "color": color_of(line.variant)},
                "marker": {"size": 4},
            }
        )
        shown.add(name)
    return {
        "data": traces,
        "layout": {
            "height": 300,
            "margin": {"l": 48, "r": 12, "t": 8, "b": 40},
            "showlegend": len(shown) > 1,
            "legend": LEGEND,
            "xaxis": xaxis,
            "yaxis": yaxis,
        },
    }


def heat_map(
    values: Sequence[Sequence[float | None]],
    rows: tuple[str, Sequence[float]],
    columns: tuple[str, Sequence[float]],
) -> Figure:
    """Draw a matrix, first row lowest; `rows` and `columns` are (title, numbers)."""
    (y_title, y), (x_title, x) = rows, columns
    known = [value for row in values for value in row if value is not None]
    numbers = len(x) <= _NUMBERED_COLUMNS
    return {
        "data": [
            {
                "type": "heatmap",
                "z": [list(row) for row in values],
                "x": list(x),
                "y": list(y),
                "zmin": min([0.0, *known]),
                "zmax": max([1.0, *known]),
                "colorscale": _SHADES,
                "xgap": 1,
                "ygap": 1,
                "texttemplate": "%{z:.2~f}" if numbers else "",
                "showscale": not numbers,
                "colorbar": {"thickness": 10, "outlinewidth": 0},
                "hovertemplate": f"{y_title} %{{y}}, {x_title} %{{x}}: %{{z:.4g}}<extra></extra>",
            }
        ],
        "layout": {
            "height": 70 + _CELL_HEIGHT_PX * max(_MIN_CELLS, len(y)),
            "margin": {"l": 48, "r": 12, "t": 8, "b": 40},
            "xaxis": {"title": {"text": x_title}, "showgrid": False, **_ticks(x)},
            "yaxis": {"title": {"text": y_title}, "showgrid": False, **_ticks(y)},
        },
    }


def _ticks(numbers: Sequence[float]) -> Figure:
    every = -(-len(numbers) // _NUMBERED_COLUMNS)
    return {"tickmode": "array", "tickvals": list(numbers[::every]), "zeroline": False}


def short_title(variant: str, init: str | None = None) -> str:
    """Return the name of a variant or student in charts."""
    title = _VARIANT_TITLES.get(variant, variant)
    return f"{title}, {_INIT_TITLES.get(init, init)}" if init else title


def color_of(variant: str) -> str:
    """Return the color of a variant in charts."""
    known = _COLORS.get(variant)
    return known or _OTHER_COLORS[sum(variant.encode()) % len(_OTHER_COLORS)]


def _who(seed: int | None, stage: str) -> str:
    parts = [part for part in ("" if seed is None else f"seed {seed}", stage) if part]
    return ", ".join(parts)


def _percentage(share: float | None) -> float | None:
    return None if share is None else 100 * share


def plain(name: str) -> str:
    """Escape a name, since Plotly interprets a few HTML tags."""
    return html.escape(name).replace("%", "%\u200b")
