"""Names of a classifier's outputs in a model's configuration."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from transformers import PreTrainedConfig

# transformers omits its general default from config.json, although BART's own default is 3.
_UNSAVED_NUM_LABELS = 2
# Values of `problem_type`, by which transformers chooses sigmoid or softmax.
MULTI_LABEL: Final = "multi_label_classification"
_SINGLE_LABEL: Final = "single_label_classification"


def classifier_options(folder: Path, num_labels: int | None) -> dict[str, int]:
    """Options for transformers to load a classifier.

    Args:
        folder: folder with the config.json.
        num_labels: number of outputs; None for that of the config.
    """
    if num_labels is not None:
        return {"num_labels": num_labels}
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {} if saved.keys() & {"id2label", "num_labels"} else {"num_labels": _UNSAVED_NUM_LABELS}


def name_classes(config: PreTrainedConfig, names: Sequence[str]) -> None:
    """Write class names and kind of task into a configuration; one that is multi-label stays so.

    Args:
        config: configuration with `num_labels` outputs, one for regression.
        names: class names in order; empty to keep those of the configuration.
    """
    if names:
        assert len(names) == config.num_labels, (names, config.num_labels)
        config.id2label = dict(enumerate(names))
        config.label2id = {name: index for index, name in enumerate(names)}
    if config.num_labels == 1:
        config.problem_type = "regression"
    elif config.problem_type != MULTI_LABEL:
        config.problem_type = _SINGLE_LABEL


def mark_kind(config: PreTrainedConfig, *, multi_label: bool) -> None:
    """Write whether a row has any number of the classes, or one; no effect for regression."""
    if config.num_labels != 1:
        config.problem_type = MULTI_LABEL if multi_label else _SINGLE_LABEL


def saved_kind(folder: Path) -> str | None:
    """`problem_type` in a model's config.json; None if it has none."""
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = saved.get("problem_type")
    return kind if isinstance(kind, str) else None
