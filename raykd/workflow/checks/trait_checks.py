"""Preflight: short runs of teachers, student and generators, compared with what objectives need."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from raykd.models.encoder import Encoder, load_encoder, load_tokenizer
from raykd.models.masked_lm import load_masked_lm
from raykd.models.masked_lm_probe import TRAINED, check_masked_lm
from raykd.models.meta_model import load_meta_model
from raykd.models.probe import Trait, check_traits, probe, widen
from raykd.models.tokenization.positions import num_positions
from raykd.objectives import OBJECTIVES
from raykd.objectives.base import ObjectiveConfig, Role
from raykd.objectives.fine_tune import FineTuneConfig
from raykd.training.phase.config import PhaseConfig
from raykd.training.settings import TrainingConfig
from raykd.workflow.recipe.model_rules import student_reference
from raykd.workflow.recipe.recipe import Recipe


def check_model_traits(
    recipe: Recipe,
    phases: Mapping[str, PhaseConfig],
    teachers: Mapping[str, str],
    student: Encoder,
) -> None:
    """Run the models on a few short texts and refuse objectives that they do not fit.

    Args:
        recipe: of the run.
        phases: of the students, by name.
        teachers: reference of each phase's teacher, by the same names.
        student: without weights; students of a run differ in weights alone.

    Raises:
        InputError: names the objective, the model, the reason and what works.
    """
    reference = student_reference(recipe.teacher, recipe.student)
    trained = [*phases.values(), *([recipe.alone] if recipe.alone is not None else [])]
    missing = _probe_student(recipe, student, _longest(trained))
    for name, phase in phases.items():
        _check(name, phase.objective, "student", reference, missing)
    if "alone" in recipe.variants:
        _check("alone", FineTuneConfig(), "student", reference, missing)
    if recipe.teacher.model is None:
        return  # a file of scores, which the recipe has checked for its objectives
    reading = {name: phase for name, phase in phases.items() if phase.objective.needs_teacher}
    for teacher in dict.fromkeys([recipe.teacher.model, *(teachers[name] for name in reading)]):
        own = {name: phase for name, phase in reading.items() if teachers[name] == teacher}
        is_own = teacher == recipe.teacher.model
        lengths: list[TrainingConfig] = [*own.values(), *([recipe.teacher] if is_own else [])]
        missing = _probe_teacher(recipe, teacher, _longest(lengths))
        if is_own and not recipe.teacher.fine_tuned:
            _check("teacher", FineTuneConfig(), "student", teacher, missing)
        for name, phase in own.items():
            _check(name, phase.objective, "teacher", teacher, missing)
    _check_generators(phases, recipe.teacher.model)


def _check(
    phase: str, objective: ObjectiveConfig, role: Role, reference: str, missing: Mapping[Trait, str]
) -> None:
    needed = OBJECTIVES[objective.name].traits(objective, role)
    user = f"{phase}.objective {objective.name}"
    check_traits(user, f"{role} model", reference, needed, missing)


def _check_generators(phases: Mapping[str, PhaseConfig], teacher: str) -> None:
    """Probe each generator once, at the longest text that a phase lets it read."""
    users: dict[str, list[tuple[str, PhaseConfig]]] = defaultdict(list)
    for name, phase in phases.items():
        if generator := phase.objective.generator_reference(teacher):
            users[generator].append((name, phase))
    for generator, of_phases in users.items():
        lengths = [phase.max_length for _, phase in of_phases]
        heads = [head for _, phase in of_phases if (head := phase.objective.head_training)]
        longest = max([*lengths, *(head.max_length for head in heads)])
        name, phase = of_phases[0]
        check_masked_lm(
            f"{name}.objective {phase.objective.name}",
            generator,
            load_masked_lm(generator, new_head=True),
            load_tokenizer(generator),
            _limit(generator, longest),
            TRAINED,
        )


def _longest(phases: Iterable[TrainingConfig]) -> int:
    return max(phase.max_length for phase in phases)


def _probe_student(recipe: Recipe, meta_model: Encoder, max_length: int) -> dict[Trait, str]:
    config = recipe.student
    reference = student_reference(recipe.teacher, config)
    limit = _limit(reference, max_length)
    if config.inits == ("pretrained",):
        student = load_encoder(reference, num_labels=meta_model.num_labels)
    else:
        state = torch.get_rng_state()
        torch.default_generator.manual_seed(0)
        try:
            model: PreTrainedModel = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]  # untyped in transformers
                meta_model.model.config, dtype=torch.float32
            )
        finally:
            torch.set_rng_state(state)
        student = Encoder(model)
        widen(student)
    return probe(student, load_tokenizer(reference), limit)


def _probe_teacher(recipe: Recipe, reference: str, max_length: int) -> dict[Trait, str]:
    has_head = recipe.teacher.fine_tuned and reference == recipe.teacher.model
    num_labels = None if has_head else load_meta_model(reference).num_labels
    teacher = load_encoder(reference, num_labels=num_labels)
    return probe(teacher, load_tokenizer(reference), _limit(reference, max_length))


def _limit(reference: str, max_length: int) -> int:
    """Tokens of the longest text that a model will read."""
    limit = num_positions(reference)
    return max_length if limit is None else min(max_length, limit)
