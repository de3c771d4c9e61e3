"""What every objective is: a module whose forward pass is the training step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from torch import Tensor, nn

from raykd.config import Config
from raykd.models.encoder import Encoder


class MethodConfig(Config):
    """Base of the objectives' settings; `name` is the key in `OBJECTIVES`."""

    name: str

    @property
    def needs_labels(self) -> bool:
        """Whether the batches must carry gold labels."""
        return True


@dataclass(frozen=True)
class LossTerms:
    """The loss to minimise, and its unweighted terms for the log."""

    total: Tensor
    parts: dict[str, Tensor]

    @classmethod
    def weighted(cls, **terms: tuple[float, Tensor]) -> Self:
        """Sum of `weight * loss` over the named terms."""
        assert terms, "an objective has at least one term"
        weighted = [weight * loss for weight, loss in terms.values()]
        return cls(
            total=sum(weighted[1:], start=weighted[0]),
            parts={name: loss.detach() for name, (_, loss) in terms.items()},
        )


class Objective(nn.Module, ABC):
    """Student, frozen teacher and heads of one method.

    `forward(batch)` returns the loss of a batch with the keys input_ids (B, L), attention_mask
    (B, L), row_ids (B,) and, where there are any, token_type_ids (B, L), labels (B,) (int64;
    float32 for regression) and teacher_logits (B, C) float32. Losses are means over the rows of
    the batch, independent of padding.

    Every parameter that requires a gradient gets one in every step, on every worker.

    Args:
        config: the method's settings.
        student: is trained; all its parameters are made trainable, then the method freezes those
            that its loss does not reach.
        teacher: is frozen and stays in evaluation mode; None where `needs_teacher` is not "model".
    """

    # "logits": batches carry teacher_logits; "model": the teacher itself runs in the step.
    needs_teacher: ClassVar[Literal["none", "logits", "model"]]
    # Whether the student can classify after this objective alone.
    trains_classifier: ClassVar[bool]
    # Whether a row's loss depends on the other rows of its batch.
    mixes_examples: ClassVar[bool] = False

    def __init__(self, config: MethodConfig, student: Encoder, teacher: Encoder | None) -> None:
        super().__init__()
        assert (teacher is None) or self.needs_teacher == "model", "this method runs no teacher"
        assert (teacher is not None) or self.needs_teacher != "model", "this method runs a teacher"
        self.config = config
        self.student = student.requires_grad_(True)
        self.teacher = None if teacher is None else teacher.requires_grad_(False)

    @classmethod
    def check(cls, config: MethodConfig, student: Encoder, teacher: Encoder) -> None:
        """Refuse settings that do not fit the two models, whose weights are not looked at.

        Raises:
            InputError: names the setting and what would fit.
        """

    @property
    def needs_labels(self) -> bool:
        """Whether the batches must carry gold labels."""
        return self.config.needs_labels

    def train(self, mode: bool = True) -> Self:
        """Switch student and heads; the teacher stays in evaluation mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    @abstractmethod
    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """The loss of a batch."""
