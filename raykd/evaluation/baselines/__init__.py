"""Models without distillation, which a user may take in place of a student."""

from typing import Literal, get_args

Baseline = Literal["tfidf", "embeddings", "static", "setfit", "int8_teacher"]
# In the order of the report.
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
# Those that begin with a pretrained encoder.
ON_ENCODERS: tuple[Baseline, ...] = ("embeddings", "static", "setfit")
