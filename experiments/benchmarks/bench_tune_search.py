"""Do TPE and ASHA find random search's best student sooner? Searches repeated on a table.

    raykd tune experiments/recipes/local/tune_grid.yaml --out RUN
    python experiments/benchmarks/bench_tune_search.py RUN

RUN is a sweep with `sampler: grid` and `scheduler: none`: every point of its space was really
trained to its end. A search here asks raykd's study and Ray Tune's scheduler as `raykd tune` does,
but looks the scores of each epoch up instead of training. Two trials run at a time; an epoch is the
unit of time. Prints JSON: for each search, the epochs of all its trials until a complete trial is
as good as the best of the random search with the same seed, as a share of that search's epochs.
"""

import argparse
import heapq
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from ray.tune.schedulers import ASHAScheduler

from raykd.report.tune.trials import Trial
from raykd.workflow.recipe.recipe_file import load_recipe
from raykd.workflow.recipe.tune_config import TuneConfig
from raykd.workflow.tune.sampling.study import Study
from raykd.workflow.tune.sweep import Sweep

NUM_WORKERS = 2
SEARCHES = {
    "random": ("random", "none"),
    "random, asha": ("random", "asha"),
    "tpe": ("tpe", "none"),
    "tpe, asha": ("tpe", "asha"),
}


@dataclass(frozen=True)
class Found:
    """Score of the best complete trial so far, after some epochs of all trials."""

    epochs: int
    score: float


def key_of(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


class Search:
    """A search that looks the scores of its trials up.

    Args:
        table: trained trials by `key_of` their values.
        config: space and seed of the search.
        sampler: how values are chosen.
        scheduler: `asha` or `none`.
        folder: empty folder for the journal of the study.
    """

    def __init__(
        self,
        table: dict[str, Trial],
        config: TuneConfig,
        sampler: str,
        scheduler: str,
        folder: Path,
    ) -> None:
        config = config.model_copy(update={"sampler": sampler, "scheduler": scheduler})
        self._table, self._study = table, Study("search", folder / "journal", config)
        self._asha = None
        if scheduler == "asha":
            longest = max(trial.epochs for trial in table.values())
            self._asha = ASHAScheduler(time_attr="epoch", max_t=longest, grace_period=config.grace)
            self._asha.set_search_properties("score", "max")
        # End of the next epoch, number in the study, epochs with it, trial.
        self._running: list[tuple[int, int, int, Trial]] = []

    def run(self, num_epochs: int) -> list[Found]:
        """Train until `num_epochs` epochs of all trials; return each new best complete trial."""
        best: list[Found] = []
        for _ in range(NUM_WORKERS):
            self._start(0)
        for epochs in range(1, num_epochs + 1):
            if not self._running:
                break
            now, number, epoch, trial = heapq.heappop(self._running)
            score = trial.curve[epoch - 1][1]
            self._study.report(number, epoch, score)
            if epoch == trial.epochs:
                self._study.end(number, "whole", [score])
                if not best or score > best[-1].score:
                    best.append(Found(epochs, score))
            elif self._is_stopped(number, epoch, score):
                self._study.end(number, "stopped")
            else:
                heapq.heappush(self._running, (now + 1, number, epoch + 1, trial))
                continue
            self._start(now)
        return best

    def _start(self, now: int) -> None:
        if (proposed := self._study.ask()) is None:
            return
        number, values = proposed
        if self._asha is not None:
            self._asha.on_trial_add(None, SimpleNamespace(trial_id=number))
        heapq.heappush(self._running, (now + 1, number, 1, self._table[key_of(values)]))

    def _is_stopped(self, number: int, epoch: int, score: float) -> bool:
        if self._asha is None:
            return False
        result = {"epoch": epoch, "score": score}
        trial = SimpleNamespace(trial_id=number)
        return self._asha.on_trial_result(None, trial, result) == ASHAScheduler.STOP


def compare(run: Path, *, num_trials: int, num_repeats: int) -> dict[str, Any]:
    trials = Sweep(run / "tune", "").trials()
    recipe = load_recipe(run / "recipe.yaml")
    config = recipe.tune
    assert config is not None
    assert len(trials) == config.most_trials, f"{run}: {len(trials)} trials are not the whole grid"
    failed = [trial.number for trial in trials if trial.failed]
    assert not failed, f"{run}: trials {failed} have no score"
    table = {key_of(trial.values): trial for trial in trials}
    longest = max(trial.epochs for trial in trials)
    budget = num_trials * longest
    shares: dict[str, list[float]] = {name: [] for name in SEARCHES}
    finals: dict[str, list[float]] = {name: [] for name in SEARCHES}
    for seed in range(1, num_repeats + 1):
        seeded = config.model_copy(update={"seed": seed, "num_trials": None})
        found = {}
        for name, (sampler, scheduler) in SEARCHES.items():
            with tempfile.TemporaryDirectory() as folder:
                one = Search(table, seeded, sampler, scheduler, Path(folder))
                found[name] = one.run(budget)
        goal = found["random"][-1].score
        for name, steps in found.items():
            reached = [step.epochs for step in steps if step.score >= goal]
            shares[name].append(reached[0] / budget if reached else float("inf"))
            finals[name].append(steps[-1].score if steps else float("-inf"))
    scores = sorted(trial.score for trial in trials if trial.score is not None)
    return {
        "points": len(table),
        "scores_lowest_median_best": [scores[0], statistics.median(scores), scores[-1]],
        "repeats": num_repeats,
        "epochs_of_a_search": budget,
        "median_share_of_epochs_to_the_best_of_random": {
            name: statistics.median(values) for name, values in shares.items()
        },
        "repeats_that_reach_it_within_half_the_epochs": {
            name: sum(value <= 0.5 for value in values) for name, values in shares.items()
        },
        "mean_final_score": {name: statistics.fmean(values) for name, values in finals.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run directory of the grid sweep")
    parser.add_argument("--num-trials", type=int, default=24, help="trials of the random search")
    parser.add_argument("--num-repeats", type=int, default=31)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    result = compare(
        arguments.run, num_trials=arguments.num_trials, num_repeats=arguments.num_repeats
    )
    # Infinity is no JSON: the goal was not reached within the epochs.
    text = json.dumps(result, indent=2).replace("Infinity", "null")
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
