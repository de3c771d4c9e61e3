"""Registry of the distillation objectives: a new one is a file that both lists name."""

from typing import Annotated

from pydantic import Field

from raykd.models.encoder import Encoder
from raykd.models.masked_lm import MaskedLm, SpecialTokens
from raykd.objectives.ad2 import Ad2, Ad2Config
from raykd.objectives.alp_kd import AlpKd, AlpKdConfig
from raykd.objectives.annealing_kd import AnnealingKd, AnnealingKdConfig
from raykd.objectives.base import Models, Objective
from raykd.objectives.cilda import Cilda, CildaConfig
from raykd.objectives.ckd import Ckd, CkdConfig
from raykd.objectives.codir import Codir, CodirConfig
from raykd.objectives.codir_pretraining import CodirPretraining, CodirPretrainingConfig
from raykd.objectives.fine_tune import FineTune, FineTuneConfig
from raykd.objectives.mate_kd import MateKd, MateKdConfig
from raykd.objectives.minilmv2 import MiniLmV2, MiniLmV2Config
from raykd.objectives.pkd import Pkd, PkdConfig
from raykd.objectives.rail_kd import RailKd, RailKdConfig
from raykd.objectives.tinybert import TinyBert, TinyBertConfig
from raykd.objectives.vanilla_kd import VanillaKd, VanillaKdConfig

OBJECTIVES: dict[str, type[Objective]] = {
    "ad2": Ad2,
    "alp_kd": AlpKd,
    "annealing_kd": AnnealingKd,
    "cilda": Cilda,
    "ckd": Ckd,
    "codir": Codir,
    "codir_pretraining": CodirPretraining,
    "fine_tune": FineTune,
    "mate_kd": MateKd,
    "minilmv2": MiniLmV2,
    "pkd": Pkd,
    "rail_kd": RailKd,
    "tinybert": TinyBert,
    "vanilla_kd": VanillaKd,
}

ObjectiveConfig = Annotated[
    Ad2Config
    | AlpKdConfig
    | AnnealingKdConfig
    | CildaConfig
    | CkdConfig
    | CodirConfig
    | CodirPretrainingConfig
    | FineTuneConfig
    | MateKdConfig
    | MiniLmV2Config
    | PkdConfig
    | RailKdConfig
    | TinyBertConfig
    | VanillaKdConfig,
    Field(discriminator="name"),
]


def build(
    config: ObjectiveConfig,
    student: Encoder,
    teacher: Encoder | None = None,
    generator: MaskedLm | None = None,
    special_tokens: SpecialTokens | None = None,
) -> Objective:
    """Build the objective named by the settings; it gets the teacher only if it runs it.

    Raises:
        InputError: the settings do not fit the models.
    """
    runs_teacher = "model" in config.needs_teacher
    models = Models(student, teacher if runs_teacher else None, generator, special_tokens)
    return OBJECTIVES[config.name](config, models)
