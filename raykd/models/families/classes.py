"""Names of a classifier's outputs in a model's configuration."""

import json
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedConfig

# transformers leaves out of config.json what is its default for all families. BART's own is 3.
_UNSAVED_NUM_LABELS = 2


def classifier_options(folder: Path, num_labels: int | None) -> dict[str, int]:
    """What transformers needs to know of a classifier besides a readable config.json.

    Args:
        folder: has the config.json.
        num_labels: outputs that are wanted; None: as saved.
    """
    if num_labels is not None:
        return {"num_labels": num_labels}
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {} if saved.keys() & {"id2label", "num_labels"} else {"num_labels": _UNSAVED_NUM_LABELS}


def name_classes(config: PreTrainedConfig, names: Sequence[str]) -> None:
    """Write the names of the classes, in order, and the kind of task into a configuration.

    Args:
        config: with `num_labels` outputs, one for regression.
        names: empty to leave those that it has.
    """
    if names:
        assert len(names) == config.num_labels, (names, config.num_labels)
        config.id2label = dict(enumerate(names))
        config.label2id = {name: index for index, name in enumerate(names)}
    config.problem_type = "regression" if config.num_labels == 1 else "single_label_classification"
