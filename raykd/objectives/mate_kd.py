"""MATE-KD: match the teacher's logits also on text that a generator writes to widen their gap.

With x the text, x' what the generator makes of it (see `generation`) and D the divergence of
teacher and student: the generator's turns minimise -D(x'), the student's
`1/3 CE(x) + 1/3 D(x) + 1/3 D(x')`.

Source: Rashid et al. 2021, "MATE-KD: Masked Adversarial TExt, a Companion to Knowledge
Distillation", equations 2 to 9.
Differs from the authors' code: D is the KL divergence, `divergence: soft_ce` gives their
cross-entropy, by which the generator also seeks text that the teacher is unsure of; AdamW for the
student as well, without a fixed number of warm-up steps; see also `generation`.
"""

from collections.abc import Mapping
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from raykd.models.forward import run
from raykd.objectives.base import LossTerms
from raykd.objectives.losses.descriptions import of_labels, of_logits
from raykd.objectives.losses.logits import kd_loss, task_loss
from raykd.objectives.shared.generation import GENERATOR, GeneratorConfig, GeneratorObjective

Divergence = Literal["kl", "soft_ce"]


class MateKdConfig(GeneratorConfig):
    """`task_weight * task + logit_weight * D(x) + aug_logit_weight * D(x')`, D at temperature 1."""

    name: Literal["mate_kd"] = Field(
        "mate_kd",
        description="MATE-KD (Rashid et al. 2021): match the teacher's logits also on text that a "
        "generator writes to widen their gap.",
    )
    aug_logit_weight: float = Field(
        1 / 3,
        gt=0,
        description="Weight of the divergence of teacher and student on generated text; 1/3 in "
        "the paper.",
    )
    divergence: Divergence = Field(
        "kl",
        description="kl: KL(teacher || student); soft_ce: cross-entropy, as in the authors' code, "
        "by which the generator also seeks text that the teacher is uncertain about.",
    )


class MateKd(GeneratorObjective):
    """Train the student on its text and on its generator's, by gold labels and by the teacher."""

    config: MateKdConfig

    def describe(self) -> dict[str, str]:
        """See `Objective`."""
        terms = {
            "logits": of_logits(1.0, cached=True),
            "aug_logits": of_logits(1.0, cached=False) + ", on generated text",
        }
        return terms | ({"task": of_labels()} if self.needs_labels else {})

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """The losses of a batch that carries teacher_logits, for the player whose turn it is."""
        assert self.teacher is not None
        config, text = self.config, self._generate(batch)
        student = run(self.student, batch, word_embeddings=text.word_embeddings(self.student))
        teacher = run(self.teacher, batch, word_embeddings=text.word_embeddings(self.teacher))
        gap = divergence(student.logits, teacher.logits, config.divergence)
        if self._player == GENERATOR:
            return LossTerms.weighted(aug_logits=(-1.0, gap))
        logits = run(self.student, batch).logits
        known_gap = divergence(logits, batch["teacher_logits"], config.divergence)
        terms = {
            "logits": (config.logit_weight, known_gap),
            "aug_logits": (config.aug_logit_weight, gap),
        }
        if self.needs_labels:
            terms["task"] = (config.task_weight, task_loss(logits, batch["labels"]))
        return LossTerms.weighted(**terms)


def divergence(student_logits: Tensor, teacher_logits: Tensor, kind: Divergence) -> Tensor:
    """KL divergence or cross-entropy of the student from the teacher, mean over rows.

    `soft_ce` is `-sum_c softmax(teacher)_c log softmax(student)_c`, KL plus the teacher's entropy:
    the same to the student, not to who writes the text. With one class both are squared error.
    Source: Rashid et al. 2021, equation 4, and the authors' code.

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C); (B,) will do where C is 1.
        kind: which.
    """
    if kind == "kl" or student_logits.size(-1) == 1:
        return kd_loss(student_logits, teacher_logits, temperature=1.0)
    return F.cross_entropy(student_logits, teacher_logits.softmax(-1))
