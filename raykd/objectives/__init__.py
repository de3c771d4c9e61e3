"""The distillation objectives: to add one, write its file and name it in both lists."""

from typing import Annotated

from pydantic import Field

from raykd.models.encoder import Encoder
from raykd.models.masked_lm import MaskedLm
from raykd.objectives.base import Models, Objective
from raykd.objectives.fine_tune import FineTune, FineTuneConfig
from raykd.objectives.minilmv2 import MiniLmV2, MiniLmV2Config
from raykd.objectives.vanilla_kd import VanillaKd, VanillaKdConfig

OBJECTIVES: dict[str, type[Objective]] = {
    "fine_tune": FineTune,
    "minilmv2": MiniLmV2,
    "vanilla_kd": VanillaKd,
}

ObjectiveConfig = Annotated[
    FineTuneConfig | MiniLmV2Config | VanillaKdConfig, Field(discriminator="name")
]


def build(
    config: ObjectiveConfig,
    student: Encoder,
    teacher: Encoder | None = None,
    generator: MaskedLm | None = None,
) -> Objective:
    """Make the objective that the settings name; it gets the teacher only if it runs it.

    Raises:
        InputError: the settings do not fit the models.
    """
    runs_teacher = "model" in config.needs_teacher
    models = Models(student, teacher if runs_teacher else None, generator)
    return OBJECTIVES[config.name](config, models)
