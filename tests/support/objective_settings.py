"""Settings of every objective for tiny models. Add a new objective here."""

from raykd.models.masked_lm import SpecialTokens
from raykd.objectives.ad2 import Ad2Config
from raykd.objectives.alp_kd import AlpKdConfig
from raykd.objectives.annealing_kd import AnnealingKdConfig
from raykd.objectives.cilda import CildaConfig
from raykd.objectives.ckd import CkdConfig
from raykd.objectives.codir import CodirConfig
from raykd.objectives.codir_pretraining import CodirPretrainingConfig
from raykd.objectives.fine_tune import FineTuneConfig
from raykd.objectives.mate_kd import MateKdConfig
from raykd.objectives.minilmv2 import MiniLmV2Config
from raykd.objectives.pkd import PkdConfig
from raykd.objectives.rail_kd import RailKdConfig
from raykd.objectives.tinybert import TinyBertConfig
from raykd.objectives.vanilla_kd import VanillaKdConfig

# Special tokens of the tokenizer of tiny models.
SPECIAL_TOKENS = SpecialTokens(mask_id=4, ids=tuple(range(5)))
SETTINGS = {
    "ad2": Ad2Config(),
    "alp_kd": AlpKdConfig(),
    "annealing_kd": AnnealingKdConfig(),
    "cilda": CildaConfig(mask_probability=1.0),
    "ckd": CkdConfig(),
    "codir": CodirConfig(label_margin=0.2),
    "codir_pretraining": CodirPretrainingConfig(mask_probability=0.5, num_negatives=8),
    "fine_tune": FineTuneConfig(),
    "mate_kd": MateKdConfig(mask_probability=1.0),
    "minilmv2": MiniLmV2Config(relation_heads=6),
    "pkd": PkdConfig(),
    "rail_kd": RailKdConfig(),
    "tinybert": TinyBertConfig(),
    "vanilla_kd": VanillaKdConfig(temperature=2.0),
}
