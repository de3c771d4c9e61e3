"""Specification of a new student in a training job."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from raykd.models.encoder import Encoder, load_encoder, load_tokenizer
from raykd.models.meta_model import load_meta_model
from raykd.models.student.init import Init, StudentConfig, make_student


@dataclass(frozen=True)
class NewStudent:
    """Student to create before training.

    Attributes:
        config: sizes of the student.
        init: initialization, one of `config.inits`.
        source: reference of the model that defines family, vocabulary and default sizes, and from
            which weights are copied.
        of_teacher: whether the source is the run's fine-tuned teacher.
        with_classifier: whether the classifier is copied along with the layers.
    """

    config: StudentConfig
    init: Init
    source: str
    of_teacher: bool = False
    with_classifier: bool = False

    def settings(self) -> dict[str, Any]:
        """Settings that determine the initial weights, together with source and seed."""
        copied = self.config.copies_layers(self.init)
        return {
            "student": self.config.model_dump(
                mode="json", exclude={"model", "inits", "layers", "init_from"}
            )
            | {"num_layers": self.config.depth},
            "init": self.init,
            **({"layers": self.config.layers} if self.init == "layers" else {}),
            **({"of_teacher": self.of_teacher} if copied else {}),
            **({"with_classifier": self.with_classifier} if copied else {}),
        }

    def make(self, num_labels: int, label_names: Sequence[str], seed: int) -> Encoder:
        """Create the student with a classifier of `num_labels` outputs, 1 for regression."""
        if self.init == "random":
            source = load_meta_model(self.source, num_labels=num_labels, label_names=label_names)
        else:
            source = load_encoder(
                self.source, num_labels=num_labels, label_names=label_names, seed=seed
            )
        return make_student(
            source, self.config, self.init, seed, with_classifier=self.with_classifier
        )

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the source's tokenizer."""
        return load_tokenizer(self.source)
