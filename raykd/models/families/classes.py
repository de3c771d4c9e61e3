"""Names of a classifier's outputs in a model's configuration."""

from collections.abc import Sequence

from transformers import PreTrainedConfig


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
