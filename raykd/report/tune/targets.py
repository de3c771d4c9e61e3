"""Targets of a search: metrics of the task and costs of the student, and trials compared by them.

A trial dominates another one if it is at least as good by every target, and better by one. The
Pareto front are the trials that none dominates.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from raykd.report.tune.trials import Trial

Direction = Literal["maximize", "minimize"]

# Costs of a student, of which less is better, in words.
COSTS = {
    "num_parameters": "number of parameters",
    "latency_ms": "milliseconds per row, one row at a time on one thread of a CPU",
    "flops": "floating-point operations of the matrix products, for a row of median length",
}
# Costs that are measured only if they are targets.
MEASURED_COSTS = ("latency_ms", "flops")


def direction_of(target: str) -> Direction:
    """Direction in which a target is better: costs are minimized, metrics maximized."""
    return "minimize" if target in COSTS else "maximize"


def losses_of(trial: Trial, targets: Sequence[str]) -> tuple[float, ...] | None:
    """Values of the targets (metric first), negated where more is better: less of each is better.

    None if the trial was not trained to its end, or has no finite value of a target.
    """
    if trial.failed or not trial.whole:
        return None
    # The score is the value of the first target.
    values = [trial.score, *(trial.value(target) for target in targets[1:])]
    losses = tuple(
        value if direction_of(target) == "minimize" else -value
        for target, value in zip(targets, values, strict=True)
        if value is not None and math.isfinite(value)
    )
    return losses if len(losses) == len(targets) else None


def by_targets(trials: Iterable[Trial], targets: Sequence[str]) -> list[Trial]:
    """Sort complete trials by the first target, then the second and so on, then by number."""
    known = [(losses, trial) for trial in trials if (losses := losses_of(trial, targets))]
    return [trial for _, trial in sorted(known, key=lambda one: (one[0], one[1].number))]


def front(trials: Iterable[Trial], targets: Sequence[str]) -> list[Trial]:
    """The Pareto front of complete trials, best by the first target first.

    Of trials with equal values of all targets, the first one is in it.
    """
    found: list[Trial] = []
    kept: list[tuple[float, ...]] = []
    # A trial is dominated only by those before it in this order.
    for trial in by_targets(trials, targets):
        losses = losses_of(trial, targets)
        assert losses is not None
        if not any(all(a <= b for a, b in zip(one, losses, strict=True)) for one in kept):
            found.append(trial)
            kept.append(losses)
    return found


def value_text(target: str, value: float | None) -> str:
    """Format a value of a target."""
    if value is None:
        return "unknown"
    if target in ("num_parameters", "flops"):
        return f"{value:,.0f}"
    return f"{value:.3g}" if target in COSTS else f"{value:.4f}"


def targets_text(targets: Sequence[str]) -> str:
    """Name targets with their directions."""
    words = {"maximize": "more is better", "minimize": "less is better"}
    return ", ".join(f"{target} ({words[direction_of(target)]})" for target in targets)


def devices_text(devices: Sequence[str]) -> list[str]:
    """Sentences on the processors that costs were measured on; none if nothing was measured."""
    if not devices:
        return []
    sentences = [
        f"Costs were measured on {' and '.join(devices)}, with one thread, once per shape of a "
        "student, from token ids to logits on validation rows; other trials may have been trained "
        "meanwhile."
    ]
    if len(devices) > 1:
        sentences.append(
            "These are different processors, so the latencies of two students may not be "
            "comparable; their flops are."
        )
    return sentences
