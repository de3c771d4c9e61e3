"""Traits that objectives need by their settings: labels, parts of the teacher, cached layers."""

import pytest

from raykd.objectives.ad2 import Ad2Config
from raykd.objectives.alp_kd import AlpKdConfig
from raykd.objectives.cilda import CildaConfig
from raykd.objectives.codir import CodirConfig
from raykd.objectives.codir_pretraining import CodirPretrainingConfig
from raykd.objectives.minilmv2 import MiniLmV2Config
from raykd.objectives.pkd import PkdConfig
from raykd.objectives.rail_kd import RailKdConfig
from raykd.objectives.tinybert import TinyBertConfig
from raykd.objectives.vanilla_kd import VanillaKdConfig


@pytest.mark.parametrize(
    "config", [Ad2Config, AlpKdConfig, CildaConfig, CodirConfig, PkdConfig, VanillaKdConfig]
)
def test_labels_are_needed_only_if_they_have_a_weight(config):
    assert config().needs_labels
    assert not config(task_weight=0).needs_labels


@pytest.mark.parametrize(
    ("config", "pooling"),
    [(AlpKdConfig, "cls"), (CodirConfig, "mean"), (RailKdConfig, "mean"), (MiniLmV2Config, None)],
)
def test_a_cached_teacher_gives_logits_and_pooled_layers(config, pooling):
    assert config().needs_teacher == {"model"}
    assert config().teacher_features is None
    assert config(cached_teacher=True).needs_teacher == {"model", "logits"}
    assert config(cached_teacher=True).teacher_features == pooling


@pytest.mark.parametrize("config", [CodirPretrainingConfig, MiniLmV2Config, TinyBertConfig])
def test_objectives_on_layers_read_neither_labels_nor_logits(config):
    assert (config().needs_labels, config().reads_logits) == (False, False)
    assert config().needs_teacher == {"model"}
