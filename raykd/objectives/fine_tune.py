"""Fine-tuning: gold labels alone, no teacher.

Source: Devlin et al. 2019, "BERT"; the baseline "w/o KD" of the distillation papers.
Differs from the paper: nothing known.
"""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from raykd.objectives.base import LossTerms, MethodConfig, Objective
from raykd.objectives.divergences import task_loss


class FineTuneConfig(MethodConfig):
    """Nothing to set: cross-entropy, or squared error for regression."""

    name: Literal["fine_tune"] = "fine_tune"


class FineTune(Objective):
    """Train the student on gold labels."""

    needs_teacher = "none"
    trains_classifier = True

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """The task loss of a labelled batch."""
        output = self.student(
            batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids")
        )
        return LossTerms.weighted(task=(1.0, task_loss(output.logits, batch["labels"])))
