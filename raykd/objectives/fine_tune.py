"""Fine-tuning: gold labels alone, no teacher.

    loss = CE(student, label), for regression the squared error; mean over rows

Source: Devlin et al. 2019, "BERT"; the baseline "w/o KD" of the distillation papers.
Differs from the paper: nothing known.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor

from raykd.models.forward import run
from raykd.objectives.base import LossTerms, MethodConfig, Objective
from raykd.objectives.losses.descriptions import of_labels
from raykd.objectives.losses.logits import task_loss


class FineTuneConfig(MethodConfig):
    """Nothing to set: cross-entropy, or squared error for regression."""

    name: Literal["fine_tune"] = Field(
        "fine_tune",
        description='Fine-tuning: gold labels alone, no teacher (the papers\' baseline "w/o KD").',
    )


class FineTune(Objective):
    """Train the student on gold labels."""

    trains_classifier = True
    allows_other_tokenizer = True

    def describe(self) -> dict[str, str]:
        """See `Objective`."""
        return {"task": of_labels()}

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """The task loss of a labelled batch."""
        logits = run(self.student, batch).logits
        return LossTerms.weighted(task=(1.0, task_loss(logits, batch["labels"])))
