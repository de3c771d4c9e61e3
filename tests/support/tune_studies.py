"""Tuning studies with invented trials."""

import math
import random
from dataclasses import replace

from raykd.report.tune.study import State, Study, keys_of
from raykd.report.tune.trials import Trial

RATE = "adaptation.learning_rate"
OBJECTIVE = "adaptation.objective.name"
LAYERS = "injection.objective.layer_map"
TEMPERATURE = "adaptation.objective.temperature"


def trials_of(num_trials: int, reason: str = "out of memory") -> list[Trial]:
    """Trials in which the learning rate matters most; every 13th failed, a third was stopped."""
    chance = random.Random(1)
    trials = []
    for number in range(num_trials):
        values = {
            RATE: 10 ** chance.uniform(-5, -2),
            OBJECTIVE: chance.choice(["minilmv2", "cilda"]),
            LAYERS: chance.choice([[2, 4, 6], {"1": 4, "2": 8}]),
        }
        if values[OBJECTIVE] == "cilda":
            values[TEMPERATURE] = chance.randint(1, 5)
        score = 0.8 - 0.1 * abs(math.log10(values[RATE]) + 3.5) + chance.gauss(0, 0.005)
        failed, whole = number % 13 == 5, number % 3 != 1
        num_epochs = 0 if failed else 10 if whole else 2
        curve = [[epoch, score - 0.2 / epoch] for epoch in range(1, num_epochs)]
        trials.append(
            Trial(
                number=number,
                values=values,
                epochs=num_epochs,
                score=None if failed else score,
                whole=whole and not failed,
                error=reason if failed else None,
                scores={} if failed else {"accuracy": score, "f1": score - 0.03},
                curve=[*curve, [num_epochs, score]] if num_epochs else [],
                seconds=36.0,
                num_cpus=2.0,
                num_gpus=0.5,
                num_parameters=66_000_000 if whole and not failed else None,
            )
        )
    return trials


def with_costs(trials: list[Trial]) -> list[Trial]:
    """The trials with students of four to eight layers; one with fewer layers scores less."""
    changed = []
    for trial in trials:
        layers = 4 + trial.number * 7 % 5
        if not trial.whole:
            changed.append(trial)
            continue
        score = (trial.score or 0.0) - 1.6 / layers
        changed.append(
            replace(
                trial,
                score=score,
                scores={**trial.scores, "accuracy": score},
                num_parameters=10_000_000 * layers,
                costs={"latency_ms": 0.8 * layers, "flops": 1e9 * layers},
            )
        )
    return changed


def study_of(trials: list[Trial], state: State = "complete", **changes: object) -> Study:
    """A study of these trials, each with a recipe of five lines."""
    values = {
        "name": "cola",
        "metric": "accuracy",
        "validation": "dev",
        "seed": 1,
        "variant": "contextualized",
        "num_planned": len(trials),
        "written": "2026-11-29 12:00 UTC",
        "keys": keys_of(trials, [RATE]),
        "recipe": ["name: cola", "adaptation:", "  learning_rate: 0.001", "  epochs: 3", "seeds:"],
        "edits": {
            trial.number: [(2, 1, [f"  learning_rate: {trial.values.get(RATE)}"])]
            for trial in trials
        },
    }
    return Study(trials=trials, state=state, **(values | changes))
