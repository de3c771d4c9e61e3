"""Optuna's samplers by their names in a recipe."""

import importlib.util
import warnings

import optuna
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)

from raykd.errors import InputError
from raykd.workflow.recipe.tune_config import TuneConfig

# Trials per generation: Optuna's 50 would leave most sweeps of students in the first, random one.
_POPULATION_SIZE = 20


def check_sampler(config: TuneConfig) -> None:
    """Check that the packages of the recipe's sampler are installed.

    Raises:
        InputError: names the package and the command that installs it.
    """
    if config.sampler == "cmaes" and importlib.util.find_spec("cmaes") is None:
        raise InputError(
            "tune.sampler cmaes: the package cmaes is not installed; run pip install "
            "'raykd[cmaes]', or use another sampler"
        )


def make_sampler(config: TuneConfig, seed: int) -> BaseSampler:
    """The recipe's sampler.

    A grid's points are enqueued, so that its sampler is asked for nothing.
    """
    with warnings.catch_warnings():
        # `group` is marked as experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match config.sampler:
            case "tpe":
                # Jointly, in the groups that conditions make; trials that run count as bad ones, so
                # that concurrent trials differ.
                return TPESampler(
                    seed=seed,
                    multivariate=True,
                    group=True,
                    constant_liar=True,
                )
            case "gp":
                return GPSampler(seed=seed, warn_independent_sampling=False)
            case "cmaes":
                return CmaEsSampler(seed=seed, warn_independent_sampling=False)
            case "nsga2":
                return NSGAIISampler(seed=seed, population_size=_POPULATION_SIZE)
            case "random" | "grid":
                return RandomSampler(seed=seed)
