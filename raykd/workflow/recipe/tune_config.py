"""Section `tune` of a recipe."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from raykd.config import Config
from raykd.report.tune.pick import parse_pick
from raykd.report.tune.targets import COSTS
from raykd.workflow.recipe.confirm_config import ConfirmConfig
from raykd.workflow.recipe.paper_space import PAPER
from raykd.workflow.recipe.tune_points import check_names, grid, in_order
from raykd.workflow.recipe.tune_space import Parameter

Sampler = Literal["tpe", "random", "grid", "gp", "cmaes", "nsga2"]
Scheduler = Literal["asha", "median", "none"]
StopUnit = Literal["epoch", "step"]

# A longer sweep is a mistake, and Optuna's samplers slow down with the number of trials.
MOST_TRIALS = 100_000
_DEFAULT_TRIALS = 8


def _or_paper(schema: dict[str, Any]) -> None:
    """Change the JSON schema of a space to one that takes the word `paper` too."""
    keys = schema.keys() & {"type", "additionalProperties", "minProperties"}
    mapping = {key: schema.pop(key) for key in sorted(keys)}
    schema["anyOf"] = [mapping, {"const": PAPER}]


class TuneConfig(Config):
    """Hyper-parameter search of `raykd tune`."""

    space: dict[str, Parameter] = Field(
        min_length=1,
        description="Ranges by the path of a key, such as adaptation.learning_rate: {float: "
        "[1e-5, 1e-3], log: true}. paper: the grid of the objective's paper, see docs/tune.md.",
        json_schema_extra=_or_paper,
    )
    num_trials: int | None = Field(
        None,
        ge=1,
        le=MOST_TRIALS,
        description="Trials, each of which trains and scores one student; fewer in a space with "
        "fewer points, since none is tried twice. Default: 8, or all points of a grid.",
    )
    sampler: Sampler = Field(
        "tpe",
        description="How values are chosen. tpe: tree-structured Parzen estimator (Bergstra et "
        "al. 2011, Falkner et al. 2018); random; grid: every point once, in random order; gp: "
        "Gaussian process; cmaes: CMA-ES, for ranges (extra `cmaes`); nsga2: NSGA-II (Deb et al. "
        "2002).",
    )
    targets: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="What trials are compared by: metrics of the task, of which more is better, "
        "and costs of the student, of which less is better: num_parameters; latency_ms, "
        "milliseconds per row on one CPU thread; flops, floating-point operations per row. The "
        "first is the score, a metric. Several make a search for the Pareto front, see "
        "docs/tune.md. Default: the task's main metric.",
    )
    pick: str | None = Field(
        None,
        description="Conditions on the trial that is chosen, such as `accuracy within 1%, "
        "latency_ms <= 5`: of the trials that meet them, the cheapest if the score may be within "
        "a distance of the best, else the one with the highest score. Default: the highest score.",
    )
    scheduler: Scheduler = Field(
        "asha",
        description="Which trials are stopped early, by their scores after each epoch, or every "
        "grace_steps steps. asha: all but the best quarter, after grace_epochs (or grace_steps), "
        "four times as many, and so on (Li et al. 2020); median: those below the median of the "
        "others' means; none, which is the default, and the only choice, with several targets or "
        "with folds.",
    )
    enqueue: bool = Field(
        True,
        description="Whether the first trial has the recipe's own values, if they are in the "
        "space.",
    )
    max_concurrent_trials: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="Trials that run at the same time. auto: as many as the cluster has room for.",
    )
    workers_per_trial: int = Field(
        1,
        ge=1,
        description="Processes that train the student of a trial together (DDP), which share the "
        "trial's CPUs and GPUs.",
    )
    cpus_per_trial: float | None = Field(
        None,
        gt=0,
        description="CPUs, and threads, of each trial. Default: workers.cpus_per_worker for each "
        "worker.",
    )
    gpus_per_trial: float | None = Field(
        None,
        ge=0,
        description="GPUs of each trial; trials share a GPU with a fraction such as 0.5. Default: "
        "1 for each worker if workers.use_gpu, else 0.",
    )
    seed: int = Field(1, ge=0, lt=2**32, description="Seed of the sampler of settings (Optuna).")
    max_failed_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of failed trials, from 4 trials on, above which the sweep is stopped. "
        "In a wide range of learning rates, up to a third may diverge; more than half is a mistake "
        "in the recipe or the machines. 1: never.",
    )
    grace_epochs: int | None = Field(
        None,
        ge=1,
        description="Epochs that every trial trains before it may be stopped early. Default: 1, "
        "unless grace_steps is given.",
    )
    grace_steps: int | None = Field(
        None,
        ge=1,
        description="Optimizer steps that every trial trains before it may be stopped early. The "
        "scheduler then compares trials after equally many steps, and each is scored every "
        "grace_steps steps, unless adaptation.score_every is given.",
    )
    folds: int | None = Field(
        None,
        ge=2,
        description="For few labeled rows: score trials by cross-validation. A trial trains one "
        "student for each of N folds of the training rows (at most as many as a class has "
        "rows), and its score is that of the held-out rows of all folds together. Default: on "
        "dev where a test split exists, else on a fifth of the training rows.",
    )
    confirm: ConfirmConfig | None = Field(
        None,
        description="Repeat the best trials with new seeds, and choose the winner by the means.",
    )
    variant: str | None = Field(
        None,
        description="Variant to tune. Default: the recipe's variant that learns from most text.",
    )

    @property
    def stop_unit(self) -> StopUnit:
        """Unit in which the scheduler measures the training of a trial."""
        return "epoch" if self.grace_steps is None else "step"

    @property
    def grace(self) -> int:
        """Epochs or steps that every trial trains before it may be stopped early."""
        return self.grace_steps or self.grace_epochs or 1

    @property
    def most_trials(self) -> int:
        """Number of trials, if the recipe refuses no point; none is tried twice."""
        wanted = self.num_trials or (MOST_TRIALS if self.sampler == "grid" else _DEFAULT_TRIALS)
        return len(grid(self.space, wanted)) if self.is_finite else wanted

    @property
    def is_finite(self) -> bool:
        """True if every parameter has choices or steps."""
        return all(p.all_assignments(name) is not None for name, p in self.space.items())

    @model_validator(mode="before")
    @classmethod
    def _no_early_stop_by_default(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "scheduler" not in values:
            targets = values.get("targets")
            has_several = isinstance(targets, list | tuple) and len(targets) > 1
            if has_several or values.get("folds") is not None:
                return {**values, "scheduler": "none"}
        return values

    @model_validator(mode="after")
    def _targets_fit(self) -> Self:
        targets = self.targets or ()
        repeated = sorted({target for target in targets if targets.count(target) > 1})
        if repeated:
            raise ValueError(f"targets: {repeated[0]!r} is named twice")
        if targets and targets[0] in COSTS:
            raise ValueError(
                f"targets: {targets[0]!r} is a cost; name a metric of the task first, the score"
            )
        if len(targets) > 1:
            self._refuse_with_several_targets()
        if self.pick is not None:
            if self.confirm is not None:
                raise ValueError(
                    "pick: with confirm, the winner is chosen by the means over new seeds; remove "
                    "one of the two"
                )
            parse_pick(self.pick)
        return self

    def _refuse_with_several_targets(self) -> None:
        if self.scheduler != "none":
            raise ValueError(
                f"scheduler {self.scheduler}: with several targets no trial is stopped early, "
                "because a low score does not keep a cheap student off the Pareto front, and its "
                "cost is known only at the end; set scheduler: none, or remove the key"
            )
        if self.sampler == "cmaes":
            raise ValueError(
                "sampler cmaes: CMA-ES minimizes one number; with several targets use tpe, nsga2, "
                "gp, random or grid"
            )
        if self.confirm is not None:
            raise ValueError(
                "confirm: it chooses by the score alone, so it needs a single target; remove it, "
                "and train the chosen trial's recipe with several seeds"
            )

    @model_validator(mode="after")
    def _folds_fit(self) -> Self:
        if self.folds is None:
            return self
        if self.scheduler != "none":
            raise ValueError(
                f"scheduler {self.scheduler}: with folds no trial is stopped early, because its "
                "score is known only when all folds are trained; set scheduler: none, or remove "
                "the key"
            )
        if self.workers_per_trial > 1:
            raise ValueError(
                "workers_per_trial: with folds, one process trains the students of a trial; remove "
                "the key, and run more trials at the same time"
            )
        if self.confirm is not None and self.confirm.held_out > 0:
            raise ValueError(
                "confirm.held_out: with folds, trials are scored on all training rows; remove the "
                "key"
            )
        return self

    @model_validator(mode="after")
    def _space_is_whole(self) -> Self:
        in_order(self.space)
        check_names(self.space)
        return self

    @model_validator(mode="after")
    def _one_grace(self) -> Self:
        if self.grace_steps is None:
            return self
        if self.grace_epochs is not None:
            raise ValueError("grace_epochs and grace_steps: trials are compared by one; give one")
        if self.scheduler == "none":
            raise ValueError("grace_steps: scheduler none stops no trial early; remove one of them")
        return self

    @model_validator(mode="after")
    def _sampler_fits(self) -> Self:
        if self.sampler == "grid":
            endless = [n for n, p in self.space.items() if p.all_assignments(n) is None]
            if endless:
                raise ValueError(
                    f"sampler grid: {', '.join(endless)} has no steps; give it a step or choices, "
                    "or use another sampler"
                )
            if self.num_trials is None and len(grid(self.space, MOST_TRIALS + 1)) > MOST_TRIALS:
                raise ValueError(
                    f"sampler grid: the space has more than {MOST_TRIALS:,} points; give fewer "
                    "values, or num_trials to try some of them"
                )
        if self.sampler == "cmaes":
            ranges = [
                parameter
                for parameter in self.space.values()
                if not parameter.when and (parameter.bounds or parameter.simplex)
            ]
            if len(ranges) < 2:
                raise ValueError(
                    "sampler cmaes: it needs two or more ranges without conditions, since it draws "
                    "everything else at random; use sampler tpe"
                )
        return self
