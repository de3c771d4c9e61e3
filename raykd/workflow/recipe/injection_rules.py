"""Rules on injections: each step of a variant has settings, and each setting a step."""

from collections.abc import Mapping, Sequence

from raykd.objectives import OBJECTIVES
from raykd.training.phase.injection_config import InjectionConfig, check_injection
from raykd.workflow.recipe.variants import Chain, Step


def check_task_da(task_da: str | None, steps: Sequence[Step]) -> None:
    """Check that there are augmented rows exactly where a variant has a step on them.

    Args:
        task_da: directory of augmented rows.
        steps: of all variants.

    Raises:
        ValueError: one is missing.
    """
    on_task_da = [step.name for step in steps if step.text.kind == "task_da"]
    if on_task_da and task_da is None:
        raise ValueError(
            f"variants with the step {on_task_da[0]} need the key task_da, the directory that "
            "raykd augment wrote"
        )
    if task_da is not None and not on_task_da:
        raise ValueError(
            "task_da: no variant has a step on augmented rows; add the variant task_da or "
            "contextualized_task_da, or remove the key"
        )


def check_steps(steps: Sequence[Step], sections: Mapping[str, InjectionConfig]) -> None:
    """Check that each step has settings, and that these have a meaning on unlabeled text.

    Args:
        steps: of all variants.
        sections: settings of injections, by their paths.

    Raises:
        ValueError: names the step or key.
    """
    missing = [step.name for step in steps if step.section not in sections]
    if missing:
        raise ValueError(f"the steps {', '.join(missing)} of variants need section injection")
    for section in dict.fromkeys(step.section for step in steps):
        check_injection(section, sections[section])


def check_task_da_injection(
    task_da: str | None, steps: Sequence[Step], sections: Mapping[str, InjectionConfig]
) -> None:
    """Check the section `task_da_injection`, which the recipe has.

    Args:
        task_da: directory of augmented rows.
        steps: of all variants.
        sections: settings of injections, by their paths.

    Raises:
        ValueError: no step takes its settings, or the objective is another one.
    """
    if task_da is None or "injection" not in sections:
        raise ValueError(
            "task_da_injection: nothing is injected on augmented rows; give the keys "
            "task_da and injection, and a variant with the step task_da"
        )
    check_injection("task_da_injection", sections["task_da_injection"])
    name, expected = (sections[key].objective.name for key in ("task_da_injection", "injection"))
    if name != expected:
        raise ValueError(
            f"task_da_injection.objective {name!r}: {expected!r}, as in injection, is "
            "expected, since the report compares their students; its settings are free"
        )
    if all(step.section != "task_da_injection" for step in steps):
        raise ValueError(
            "task_da_injection: it is for steps on augmented rows after another step, and "
            "the variants have none, for a first step takes the settings of injection; remove it, "
            "or add the variant contextualized_task_da"
        )


def check_left_as_it_is(chain: Chain, sections: Mapping[str, InjectionConfig]) -> None:
    """Check that students that are not adapted are classifiers of the task.

    Args:
        chain: injections of a variant, the last with `adapt: false`.
        sections: settings of injections, by their paths.

    Raises:
        ValueError: the last injection does not train the classifier.
    """
    section = chain.last.section
    objective = sections[section].objective.name
    if not OBJECTIVES[objective].trains_classifier:
        raise ValueError(
            f"{section}.adapt: false leaves students as this injection makes them, but objective "
            f"{objective!r} does not train their classifier; remove the key, or learn from the "
            "teacher's answers, as with vanilla_kd"
        )
