"""Rendering of the page of a tuning study from its templates."""

import base64
import json
import math
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from markupsafe import Markup

from raykd.report.rendering import environment
from raykd.report.tune.confirmed import confirmed_rows, confirmed_text
from raykd.report.tune.contours import Contour, contours
from raykd.report.tune.hypervolume import hypervolumes
from raykd.report.tune.importance import MIN_TRIALS, importances
from raykd.report.tune.pick import parse_pick, unmet_text, winner_of
from raykd.report.tune.study import Key, Study, cost_of, cost_text, label_of
from raykd.report.tune.targets import (
    MEASURED_COSTS,
    devices_text,
    direction_of,
    front,
    targets_text,
    value_text,
)
from raykd.report.tune.trials import Trial, problems_of, rank, values_text

_SCRIPTS = ("base", "charts", "front", "contours", "parallel", "table", "main")
# Longer learning curves are thinned out.
_MAX_POINTS = 60
_MAX_REASON = 500


def render(study: Study, version: str) -> str:
    """Render the page deterministically; names, values and reasons are escaped.

    Args:
        study: the study.
        version: raykd's version.
    """
    templates = environment("raykd.report.tune")

    def source(name: str) -> str:
        assert templates.loader is not None
        return templates.loader.get_source(templates, name)[0]

    script = "\n".join(source(f"tune_{name}.js") for name in _SCRIPTS)
    ranked = rank(study.trials)
    complete = [trial for trial in ranked if trial.whole]
    targets = study.all_targets
    winner = winner_of(study.trials, targets, study.pick, study.confirmation)
    front_trials = front(study.trials, targets) if len(targets) > 1 else []
    history = hypervolumes(study.trials, targets)
    importance = importances(study.trials, study.keys)
    surfaces = contours(study.trials, study.keys, importance)
    second = next((t for t in complete[1:] if t.score != complete[0].score), None)
    return templates.get_template("tune.html").render(
        study=study,
        version=version,
        metric_title=study.metric.replace("_", " "),
        winner=winner,
        winner_costs=[
            (target, value_text(target, winner.value(target)))
            for target in targets[1:]
            if winner is not None
        ],
        unmet=_unmet(study) if study.pick and ranked and winner is None else None,
        targets=targets,
        targets_text=targets_text(targets),
        front=[
            (
                trial.number,
                [value_text(target, trial.value(target)) for target in targets],
                values_text(trial.values),
            )
            for trial in front_trials
        ],
        devices=devices_text(study.devices) if len(targets) > 1 else [],
        hypervolume=history[-1][1] if history else None,
        has_contours=bool(surfaces),
        second=second,
        confirmed=confirmed_rows(study.confirmation) if study.confirmation else None,
        confirmed_text=confirmed_text(study.confirmation) if study.confirmation else [],
        lead_over=(winner.score or 0) - (second.score or 0) if winner and second else None,
        num_tied=sum(trial.score == complete[0].score for trial in complete) if complete else 0,
        counts={
            "complete": len(complete),
            "stopped": len(ranked) - len(complete),
            "failed": len(study.trials) - len(ranked),
        },
        cost=cost_text(cost_of(study.trials)),
        importance=importance,
        num_scored=len(ranked),
        min_trials=MIN_TRIALS,
        failed=[
            (
                reason[:_MAX_REASON],
                [t.number for t in study.trials if t.failed and t.problem == reason],
            )
            for reason in problems_of(study.trials)
        ],
        number=lambda value: f"{value:.4f}",
        css=Markup(source("tune.css")),  # trusted: a file of the package
        script=Markup(script),  # trusted: files of the package
        script_source=_source_digest(script),
        data=Markup(  # escaped by `_json_in_html`
            _json_in_html(
                _data(study, winner)
                | {
                    "front": [trial.number for trial in front_trials],
                    "volumes": [[number, round(share, 5)] for number, share in history],
                    "contours": [_contour_data(surface) for surface in surfaces],
                }
            )
        ),
    )


def _unmet(study: Study) -> str:
    assert study.pick is not None
    return unmet_text(study.trials, study.all_targets, parse_pick(study.pick))


def _contour_data(surface: Contour) -> dict[str, Any]:
    return {
        "x": surface.x,
        "y": surface.y,
        "xr": [_number(value) for value in surface.x_range],
        "yr": [_number(value) for value in surface.y_range],
        "z": surface.grid,
    }


def _data(study: Study, winner: Trial | None) -> dict[str, Any]:
    metrics = list(dict.fromkeys(name for trial in study.trials for name in trial.scores))
    others = [name for name in metrics if name != study.metric]
    costs = [name for name in MEASURED_COSTS if any(name in t.costs for t in study.trials)]
    return {
        "state": study.state,
        "winner": None if winner is None else winner.number,
        "keys": [
            {"name": key.name, "log": key.log, "categories": key.categories} for key in study.keys
        ],
        "metrics": others,
        "costs": costs,
        "targets": [
            {"name": target, "min": direction_of(target) == "minimize"}
            for target in study.all_targets
        ],
        "recipe": study.recipe,
        "trials": [_trial_data(trial, study, others, costs) for trial in study.trials],
    }


def _trial_data(
    trial: Trial, study: Study, metrics: Sequence[str], costs: Sequence[str]
) -> dict[str, Any]:
    state = "failed" if trial.failed else "complete" if trial.whole else "stopped"
    full = {
        index: _full(trial.values[key.name])
        for index, key in enumerate(study.keys)
        if key.name in trial.values and _is_cut(key, trial.values[key.name])
    }
    return {
        "n": trial.number,
        "st": state,
        "s": None if trial.failed else _rounded(trial.score),
        "v": [
            _number(key.place(trial.values[key.name])) if key.name in trial.values else None
            for key in study.keys
        ],
        "m": [_rounded(trial.scores.get(name)) for name in metrics],
        "k": [_cost(trial.costs.get(name)) for name in costs],
        "x": [_cost(trial.value(target)) for target in study.all_targets[1:]],
        "e": trial.epochs,
        "t": trial.seconds if trial.seconds is None else round(trial.seconds, 1),
        "p": trial.num_parameters,
        "c": [[_number(epoch), _rounded(score)] for epoch, score in _thinned(trial.curve)],
        "err": trial.problem[:_MAX_REASON] if trial.failed else None,
        "d": study.edits.get(trial.number, []),
        "full": full,
    }


def _is_cut(key: Key, value: Any) -> bool:
    return key.categories is not None and label_of(value) != _full(value)


def _full(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _thinned(curve: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """At most `_MAX_POINTS` points, the last one included."""
    finite = [point for point in curve if all(map(math.isfinite, point))]
    step = math.ceil(len(finite) / _MAX_POINTS) or 1
    return finite[::-1][::step][::-1]


def _rounded(score: float | None) -> float | None:
    return None if score is None or not math.isfinite(score) else round(score, 6)


def _cost(value: float | None) -> float | int | None:
    return None if value is None or not math.isfinite(value) else _number(value)


def _number(value: float) -> float | int:
    """Write whole numbers without a fraction, and others with six digits."""
    return int(value) if value == int(value) else float(f"{value:.6g}")


def _json_in_html(value: Any) -> str:
    """Serialize to JSON that cannot close the enclosing script element."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _source_digest(script: str) -> str:
    """Return the entry of a content security policy that allows exactly this script."""
    return "'sha256-" + base64.b64encode(sha256(script.encode()).digest()).decode() + "'"
