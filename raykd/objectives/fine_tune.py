"""Fine-tuning on gold labels, without a teacher.

    loss = CE(student, label), or squared error for regression; mean over rows

Source: Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding" (arXiv:1810.04805); the baseline "w/o KD" of the distillation papers.
Differs from the paper: nothing known.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor

from raykd.models.forward import run
from raykd.objectives.base import LossTerms, Objective, ObjectiveConfig
from raykd.objectives.losses.descriptions import of_labels


class FineTuneConfig(ObjectiveConfig):
    """Settings of fine-tuning: none except its name."""

    name: Literal["fine_tune"] = Field(
        "fine_tune",
        description='Fine-tuning: gold labels alone, no teacher (the papers\' baseline "w/o KD").',
    )


class FineTune(Objective):
    """Training on gold labels."""

    trains_classifier = True

    def describe(self) -> dict[str, str]:
        """See `Objective`."""
        return {"task": of_labels()}

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """Task loss of a labeled batch."""
        logits = run(self.student, batch).logits
        return LossTerms.weighted(task=(1.0, self.task_loss(logits, batch)))
