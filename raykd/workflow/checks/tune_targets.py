"""Checks of a recipe's targets, made before anything is trained."""

from raykd.errors import InputError
from raykd.report.tune.pick import check_pick, parse_pick
from raykd.report.tune.targets import COSTS, MEASURED_COSTS
from raykd.workflow.recipe.recipe import Recipe


def check_targets(recipe: Recipe) -> None:
    """Check that trials have all targets of the search, and all values that `pick` names.

    Raises:
        InputError: names the unknown target or value, and the choices.
    """
    config, metrics = recipe.tune, recipe.task.reported_metrics
    assert config is not None
    targets = config.targets or metrics[:1]
    choices = [*metrics, *COSTS]
    for target in targets:
        if target not in choices:
            raise InputError(
                f"tune.targets: {target!r} is no metric of the task and no cost of a student; "
                f"choose from {', '.join(choices)} (task.metrics adds metrics)"
            )
    if config.pick is None:
        return
    known = [name for name in choices if name not in MEASURED_COSTS or name in targets]
    try:
        check_pick(parse_pick(config.pick), targets, known)
    except ValueError as error:
        raise InputError(f"tune.pick: {error}") from None
