"""Results -> Plotly figures as plain data; colours of text and grid are set in the page."""

import html
from collections.abc import Sequence
from typing import Any

from raykd.report.scores import METRIC_TITLES
from raykd.results import Curve, Phase, Results

Figure = dict[str, Any]

# Readable on white and on near-black, and told apart without red-green vision (Okabe and Ito).
_COLOURS = {
    "contextualized": "#2b8cd6",
    "random": "#e08a00",
    "task": "#12a37a",
    "alone": "#8a8f98",
    "direct": "#6b9e1f",
    "teacher": "#c0649e",
    "majority": "#8a8f98",
    "tfidf": "#8a8f98",
}
_OTHER_COLOURS = ("#d1495b", "#7a6ff0")
_MARKED_POINTS = 20
_ROW_HEIGHT_PX = 34
# The charts have less room for names than the tables.
_ARM_TITLES = {"tfidf": "TF-IDF", "task": "task rows", "random": "random text"}
_INIT_TITLES = {
    "random": "from scratch",
    "skip": "spread layers",
    "top": "top layers",
    "bottom": "bottom layers",
    "pretrained": "pretrained",
}
PHASE_TITLES: dict[Phase, str] = {
    "teacher": "Teacher: fine-tuning",
    "injection": "Injection",
    "adaptation": "Adaptation",
}


def score_figure(results: Results) -> Figure:
    """Every seed's score of the main metric, one line an arm: open before, filled after."""
    metric = results.task.metrics[0]
    several_inits = len({score.init for score in results.scores if score.init}) > 1
    order = list(dict.fromkeys((s.init is not None, s.init, s.arm) for s in results.scores))
    order.sort(key=lambda key: key[0])
    lines = {
        (init, arm): _line_title(arm, init if several_inits else None) for _, init, arm in order
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
                "y": [lines[(score.init, score.arm)] for score in chosen],
                "text": [_who(score.seed, name) for score in chosen],
                "hovertemplate": "%{y}<br>%{x:.2f} · %{text}<extra></extra>",
                "marker": {
                    "symbol": symbol,
                    "size": 10,
                    "opacity": 0.85,
                    "color": [_colour(score.arm) for score in chosen],
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
    """(phase, what is drawn, figure): for each phase and init the scores, then the losses."""
    metric = results.task.metrics[0]
    name = METRIC_TITLES.get(metric, metric)
    figures: list[tuple[Phase, str, Figure]] = []
    for phase in PHASE_TITLES:
        of_phase = [curve for curve in results.curves if curve.phase == phase]
        inits = list(dict.fromkeys(curve.init for curve in of_phase))
        for init in inits:
            curves = [curve for curve in of_phase if curve.init == init]
            whose = f"{_INIT_TITLES.get(init, init)}: " if init and len(inits) > 1 else ""
            if any(metric in point.metrics for curve in curves for point in curve.points):
                caption = f"{whose}{name} \u00d7 100, {results.curve_split} split"
                figures.append((phase, caption, _lines(curves, metric)))
            if any(point.losses for curve in curves for point in curve.points):
                figures.append((phase, f"{whose}mean loss of an epoch", _lines(curves, None)))
    return figures


def _lines(curves: Sequence[Curve], metric: str | None) -> Figure:
    """One thin line a seed, arms by colour; `metric` None draws the total loss."""
    traces: list[Figure] = []
    shown: set[str] = set()
    for curve in curves:
        points = [
            (point.epoch, 100 * point.metrics[metric] if metric else point.losses.get("total"))
            for point in curve.points
            if metric is None or metric in point.metrics
        ]
        name = _line_title(curve.arm, None)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(points) < _MARKED_POINTS else "lines",
                "name": name,
                "legendgroup": name,
                "showlegend": name not in shown,
                "x": [epoch for epoch, _ in points],
                "y": [value for _, value in points],
                "text": [_who(curve.seed, "")] * len(points),
                "hovertemplate": f"{name}<br>epoch %{{x}}: %{{y:.4g}}, %{{text}}<extra></extra>",
                "line": {"width": 1.5, "color": _colour(curve.arm)},
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
            "legend": {
                "orientation": "h",
                "y": 1.02,
                "yanchor": "bottom",
                "x": 0,
                "font": {"size": 11},
            },
            "xaxis": {"title": {"text": "epoch"}, "rangemode": "tozero"},
            "yaxis": {"rangemode": "normal" if metric else "tozero"},
        },
    }


def _line_title(arm: str, init: str | None) -> str:
    title = _plain(_ARM_TITLES.get(arm, arm))
    return f"{title}, {_plain(_INIT_TITLES.get(init, init))}" if init else title


def _who(seed: int | None, stage: str) -> str:
    parts = [part for part in ("" if seed is None else f"seed {seed}", stage) if part]
    return ", ".join(parts)


def _colour(arm: str) -> str:
    known = _COLOURS.get(arm)
    return known or _OTHER_COLOURS[sum(arm.encode()) % len(_OTHER_COLOURS)]


def _plain(name: str) -> str:
    """Plotly reads a few HTML tags in its texts; a name must not be one."""
    return html.escape(name).replace("%", "%\u200b")
