"""Hypervolume of a Pareto front: how much of the space of the targets its trials dominate."""

import math
from collections.abc import Sequence

from raykd.report.tune.targets import front, losses_of
from raykd.report.tune.trials import Trial

# With more targets, the exact volume takes too long.
MAX_TARGETS = 3
# The reference point, in ranges of each target from the best value on (1 is the worst): beyond the
# worst, so that the ends of the front count too.
_REFERENCE = 1.1

Point = tuple[float, ...]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Volume that is dominated by points and bounded by a reference point; less is better.

    It is computed exactly, in slices along the last axis. Zitzler and Thiele, Multiobjective
    Optimization Using Evolutionary Algorithms - A Comparative Case Study, 1998, PPSN V.

    Args:
        points: coordinates of each point; those not below the reference count nothing.
        reference: coordinates of the reference point.
    """
    inside = [p for p in points if all(a < b for a, b in zip(p, reference, strict=True))]
    if not inside:
        return 0.0
    if len(reference) == 1:
        return reference[0] - min(inside)[0]
    if len(reference) == 2:
        return _area(sorted(inside), reference)
    ordered = sorted(inside, key=lambda point: point[-1])
    ends = [*(point[-1] for point in ordered[1:]), reference[-1]]
    return sum(
        (end - point[-1]) * hypervolume([p[:-1] for p in ordered[: number + 1]], reference[:-1])
        for number, (point, end) in enumerate(zip(ordered, ends, strict=True))
        if end > point[-1]
    )


def _area(ordered: Sequence[Point], reference: Point) -> float:
    area, lowest = 0.0, reference[1]
    for x, y in ordered:
        if y < lowest:
            area += (reference[0] - x) * (lowest - y)
            lowest = y
    return area


def hypervolumes(trials: Sequence[Trial], targets: Sequence[str]) -> list[tuple[int, float]]:
    """Hypervolume after each trial that enlarged it, as the trial's number and a share from 0 to 1.

    Each target is scaled to the range of its values in all complete trials, and the reference point
    is a tenth of the range beyond the worst values. 1 is a trial with the best value of each.

    Args:
        trials: ended trials, in the order in which they count.
        targets: two or three targets; with others the list is empty.
    """
    known = [trial for trial in trials if losses_of(trial, targets) is not None]
    if not 1 < len(targets) <= MAX_TARGETS or not known:
        return []
    losses = {trial.number: losses_of(trial, targets) or () for trial in known}
    columns = list(zip(*losses.values(), strict=True))
    lowest = [min(values) for values in columns]
    ranges = [max(values) - min(values) for values in columns]
    reference = (_REFERENCE,) * len(targets)

    def scaled(trial: Trial) -> Point:
        values = zip(losses[trial.number], lowest, ranges, strict=True)
        return tuple((value - low) / width if width > 0 else 0.0 for value, low, width in values)

    history: list[tuple[int, float]] = []
    present: list[Trial] = []
    for trial in known:
        changed = front([*present, trial], targets)
        if changed == present:
            continue
        present = changed
        volume = hypervolume([scaled(one) for one in present], reference)
        history.append((trial.number, volume / math.prod(reference)))
    return history
