"""Description of a phase before it starts: trained parameters, losses and data."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

from torch import nn
from transformers import PreTrainedModel

from raykd.models.encoder import Encoder
from raykd.objectives.base import STUDENT, Objective
from raykd.training.phase.config import TeacherConfig
from raykd.training.settings import TrainingConfig
from raykd.workflow.presets import preset_row

_MODELS = ("student.", "teacher.", "generator.")


def describe_models(
    student: Encoder, teacher: Encoder | TeacherConfig, starts: Mapping[str, str]
) -> list[str]:
    """A line for teacher and student each, and what the student starts from, a line per init."""
    width = max(map(len, starts))
    known = _shape(teacher.model) if isinstance(teacher, Encoder) else describe_scores(teacher)
    return [
        f"teacher       {known}",
        f"student       {_shape(student.model)}",
        *(f"  {init:{width}}  {start}" for init, start in starts.items()),
    ]


def describe_scores(teacher: TeacherConfig) -> str:
    """The files of scores of a teacher, or of an ensemble with its weights if they differ."""
    members = teacher.members
    named = [
        f"scores of {', '.join(PurePath(path).name for path in member.scores.paths)}"
        for member in members
    ]
    if len(members) == 1:
        return named[0]
    if len({member.weight for member in members}) > 1:
        named = [
            f"{name} (weight {member.weight:g})"
            for name, member in zip(named, members, strict=True)
        ]
    return f"mean of {' and '.join(named)}"


def describe_preset(name: str | None) -> list[str]:
    """A line on the row of a paper's table that a preset is; none without a preset."""
    return [] if name is None else [f"preset        {name}: {preset_row(name)}"]


def describe_phase(name: str, objective: Objective) -> list[str]:
    """Lines on a phase: each loss term and what it is made of, and what is trained.

    Args:
        name: name of the phase.
        objective: objective, possibly on the device `meta`.
    """
    rows = [*objective.describe().items(), *_trained(objective)]
    width = max(len(key) for key, _ in rows)
    return [
        f"{name:13} {objective.config.name}",
        *(f"  {key:{width}}  {what}" for key, what in rows),
    ]


def describe_gold_labels(phases: Mapping[str, TrainingConfig]) -> list[str]:
    """Lines on trainings whose gold labels are weighted or smoothed.

    Args:
        phases: trainings on labeled rows, by their paths in the recipe.
    """
    lines = []
    for section, phase in phases.items():
        parts, weights = [], phase.class_weights
        if isinstance(weights, Mapping):
            of_each = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
            parts.append(f"class weights {of_each}")
        elif weights is not None:
            parts.append(f"class weights {weights}")
        if phase.label_smoothing:
            parts.append(f"label smoothing {phase.label_smoothing:g}")
        if parts:
            lines.append(f"gold labels   {section}: {'; '.join(parts)}")
    return lines


def _trained(objective: Objective) -> Iterator[tuple[str, str]]:
    """For each player what its steps train; and the maps that nobody trains."""
    names = {id(parameter): name for name, parameter in objective.named_parameters()}
    for player, settings in objective.players().items():
        own = [p for p in settings.parameters if names[id(p)].startswith(f"{player}.")]
        heads = [p for p in settings.parameters if not names[id(p)].startswith(_MODELS)]
        parts = [f"{_millions(own)} parameters of the {player}"]
        parts += [f"{names[id(p)]} {' x '.join(map(str, p.shape))}" for p in heads]
        label = "trained" if player == STUDENT else f"{player}'s"
        yield label, ", ".join(parts)
    trained = {id(p) for player in objective.players().values() for p in player.parameters}
    fixed = [
        f"{name} {' x '.join(map(str, p.shape))}"
        for name, p in objective.named_parameters()
        if id(p) not in trained and not name.startswith(_MODELS)
    ]
    if fixed:
        yield "fixed", ", ".join(fixed)


def _shape(model: PreTrainedModel) -> str:
    config = model.config
    return (
        f"{config.model_type}, {config.num_hidden_layers} layers of width {config.hidden_size}, "
        f"{config.num_attention_heads} heads: {_millions(list(model.parameters()))} parameters"
    )


def _millions(parameters: Sequence[nn.Parameter]) -> str:
    return f"{sum(p.numel() for p in parameters) / 1e6:.1f} million"
