"""Linear models on features that need no training, which a user may take in place of a student."""

from typing import Literal, get_args

LinearBaseline = Literal["tfidf", "embeddings", "static"]
# In the order of the report.
LINEAR_BASELINES: tuple[LinearBaseline, ...] = get_args(LinearBaseline)
