"""Choice of one trial by conditions, such as `accuracy within 1%, latency_ms <= 5`."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from raykd.report.tune.targets import COSTS, by_targets, direction_of, value_text
from raykd.report.tune.trials import Trial, rank

FORM = (
    "write conditions separated by commas: NAME within 1% (of the best), NAME within 0.01, "
    "NAME <= 5, NAME >= 0.8"
)
_NUMBER = r"\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?"
_CONDITION = re.compile(
    rf"(?P<name>\w+)\s*(?:(?P<kind><=|>=)\s*(?P<limit>-?(?:{_NUMBER}))"
    rf"|\s(?:is\s+)?within\s+(?P<distance>{_NUMBER})\s*(?P<share>%)?)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Condition:
    """Condition on a metric or cost; `within` is a distance from the best value of all trials.

    `number` is the limit, or the distance: a share of the best value if `is_share`.
    """

    name: str
    kind: Literal["<=", ">=", "within"]
    number: float
    is_share: bool = False

    def __str__(self) -> str:
        if self.kind != "within":
            return f"{self.name} {self.kind} {self.number:g}"
        distance = f"{100 * self.number:g}%" if self.is_share else f"{self.number:g}"
        return f"{self.name} within {distance}"

    def limit(self, trials: Iterable[Trial]) -> float:
        """The worst value that meets the condition."""
        if self.kind != "within":
            return self.number
        sign = 1 if direction_of(self.name) == "minimize" else -1
        best = min(sign * _value(trial, self.name) for trial in trials)
        return sign * (best + self.number * (abs(best) if self.is_share else 1))

    def shortfall(self, value: float, limit: float) -> float:
        """Distance by which a value misses the limit; 0 if it meets the condition."""
        is_upper = self.kind == "<="
        if self.kind == "within":
            is_upper = direction_of(self.name) == "minimize"
        # A best value is within 0 of itself, whatever the rounding.
        slack = 1e-12 * max(1.0, abs(limit))
        missing = value - limit if is_upper else limit - value
        return missing if missing > slack else 0.0


def parse_pick(text: str) -> list[Condition]:
    """Parse conditions.

    Raises:
        ValueError: names the part that is none.
    """
    conditions = []
    for part in text.split(","):
        match = _CONDITION.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{part.strip()!r} is no condition; {FORM}")
        name, kind = match["name"], match["kind"]
        if kind is not None:
            conditions.append(
                Condition(name, "<=" if kind == "<=" else ">=", float(match["limit"]))
            )
        else:
            number, is_share = float(match["distance"]), match["share"] is not None
            conditions.append(
                Condition(name, "within", number / 100 if is_share else number, is_share)
            )
    return conditions


def check_pick(
    conditions: Sequence[Condition], targets: Sequence[str], known: Sequence[str]
) -> None:
    """Check that all conditions can be decided.

    Args:
        conditions: parsed conditions.
        targets: targets of the search, the first of which may be `within` a distance of its best.
        known: metrics and costs that trials have.

    Raises:
        ValueError: a condition is on something else.
    """
    for condition in conditions:
        if condition.name not in known:
            add = f"; add {condition.name} to tune.targets" if condition.name in COSTS else ""
            raise ValueError(
                f"{condition}: trials have no {condition.name!r}; choose from {', '.join(known)}"
                f"{add}"
            )
        if condition.kind == "within" and condition.name != targets[0]:
            raise ValueError(
                f"{condition}: only the first target, {targets[0]}, can be within a distance of "
                f"its best value; give a limit such as {condition.name} "
                f"{'<=' if condition.name in COSTS else '>='} NUMBER"
            )


def known_names(trials: Iterable[Trial]) -> list[str]:
    """Metrics and costs that complete trials have."""
    names: dict[str, None] = {}
    for trial in trials:
        if trial.whole and not trial.failed:
            names |= dict.fromkeys((*trial.scores, *trial.costs))
            if trial.num_parameters is not None:
                names["num_parameters"] = None
    return list(names)


def picked(
    trials: Sequence[Trial], targets: Sequence[str], conditions: Sequence[Condition]
) -> Trial | None:
    """The chosen trial; None if none meets all conditions, or none was trained to its end.

    Without a condition `within`, it is the best by the first target among those that meet all
    conditions; ties are decided by the other targets in order. With one, it is the cheapest: the
    one with the lowest costs, in the order of the targets, then with the fewest parameters.
    """
    meeting = [trial for trial, missed in _shortfalls(trials, targets, conditions) if not missed]
    if not any(condition.kind == "within" for condition in conditions):
        return next(iter(meeting), None)
    return next(iter(_by_cost(meeting, targets)), None)


def unmet_text(
    trials: Sequence[Trial], targets: Sequence[str], conditions: Sequence[Condition]
) -> str:
    """Sentence that names the trial that misses the conditions by the least.

    A miss is measured in ranges of the values of all complete trials.
    """
    wanted = ", ".join(map(str, conditions))
    found = _shortfalls(trials, targets, conditions)
    if not found:
        return f"no trial that was trained to its end meets {wanted!r}"
    ranges = {}
    for condition in conditions:
        values = [_value(trial, condition.name) for trial, _ in found]
        ranges[condition] = (max(values) - min(values)) or max(abs(values[0]), 1e-12)
    nearest, missed = min(
        found, key=lambda one: sum(amount / ranges[c] for c, amount in one[1].items())
    )
    names = dict.fromkeys((*targets, *(condition.name for condition in conditions)))
    shown = ", ".join(f"{name} {value_text(name, nearest.value(name))}" for name in names)
    return (
        f"no trial meets {wanted!r}; the nearest is trial {nearest.number} with {shown}, which "
        f"misses {', '.join(map(str, missed))}"
    )


def winner_of(
    trials: Sequence[Trial],
    targets: Sequence[str],
    pick: str | None,
    confirmation: Mapping[str, Any] | None,
) -> Trial | None:
    """The trial that a study chose: by its conditions, its confirmation, or the first target.

    Args:
        trials: ended trials.
        targets: targets of the search.
        pick: conditions, or None.
        confirmation: outcome of the repetitions, which names a winner if there are no conditions.
    """
    if pick is not None:
        return picked(trials, targets, parse_pick(pick))
    if confirmation is not None:
        return next(trial for trial in trials if trial.number == confirmation["winner"])
    # Without a complete trial, the best of the stopped ones.
    return next(iter([*by_targets(trials, targets), *rank(trials)]), None)


def _by_cost(trials: Sequence[Trial], targets: Sequence[str]) -> list[Trial]:
    """Sort trials, which are best first, by the costs among the targets, then by size."""
    costs = [*(target for target in targets if target in COSTS), "num_parameters"]

    def order(trial: Trial) -> list[float]:
        values = [trial.value(cost) for cost in costs]
        return [math.inf if value is None else value for value in values]

    return sorted(trials, key=order)


def _shortfalls(
    trials: Sequence[Trial], targets: Sequence[str], conditions: Sequence[Condition]
) -> list[tuple[Trial, dict[Condition, float]]]:
    """Complete trials, best first, with the conditions that each misses and by how much."""
    known = [
        trial
        for trial in by_targets(trials, targets)
        if not any(trial.value(condition.name) is None for condition in conditions)
    ]
    limits = {condition: condition.limit(known) for condition in conditions} if known else {}
    return [
        (
            trial,
            {
                condition: missing
                for condition, limit in limits.items()
                if (missing := condition.shortfall(_value(trial, condition.name), limit)) > 0
            },
        )
        for trial in known
    ]


def _value(trial: Trial, name: str) -> float:
    value = trial.value(name)
    return math.nan if value is None else value
