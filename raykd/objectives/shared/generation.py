"""Adversarial text generation for MATE-KD and CILDA, with alternating generator and student steps.

The generator, a masked language model, replaces randomly masked tokens; it is trained to maximize
the divergence of student and teacher on its text, the student to minimize it. Tokens are sampled
from the generator's distribution. In student steps they are plain text; in generator steps they
are sampled by Gumbel-softmax with straight-through gradients: the gradient is that of the mean
embedding under its probabilities.

Source: Rashid et al. 2021, "MATE-KD: Masked Adversarial TExt, a Companion to Knowledge
Distillation" (arXiv:2105.05912), section 3; Jang et al. 2017, "Categorical Reparameterization with
Gumbel-Softmax" (arXiv:1611.01144).
Differs from the authors' code: only masked tokens are multiplied with the vocabulary's embeddings,
instead of all; the generator gets no gradient in student steps, student and heads get none in
generator steps; each player's schedule has the length of its own steps.

Shapes: B rows, L tokens, n masked tokens, V vocabulary, e width of the word embeddings.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from raykd.errors import InputError
from raykd.models.encoder import Encoder
from raykd.models.masked_lm import MaskedLm
from raykd.objectives.base import STUDENT, Models, Objective, ObjectiveConfig, Player, TeacherPart
from raykd.objectives.shared.generator_model import GeneratorModelConfig, TrainHeadConfig
from raykd.objectives.shared.settings import TaskWeightConfig

GENERATOR = "generator"


class GeneratorConfig(TaskWeightConfig):
    """Settings shared by MATE-KD and CILDA; defaults are those of the published code.

    The student's gradients are clipped to the phase's `max_grad_norm` (5 in MATE-KD's code).
    """

    generator: GeneratorModelConfig = Field(
        default_factory=GeneratorModelConfig,
        description="Masked language model that generates text, with the teacher's vocabulary: a "
        "name, or a section {model, train_head}.",
    )
    generator_learning_rate: float = Field(
        5e-7,
        gt=0,
        description="Peak learning rate of the generator (AdamW, linear schedule); 5e-7 in "
        "MATE-KD's code.",
    )
    generator_max_grad_norm: float = Field(
        5.0,
        gt=0,
        description="Norm to which the generator's gradients are clipped; 5 in MATE-KD's code.",
    )
    generator_steps: int = Field(
        10,
        ge=1,
        description="Consecutive batches that train the generator, before the student's turn; 10 "
        "in both papers (CILDA: 20 for CoLA, MRPC and RTE).",
    )
    student_steps: int = Field(
        100,
        ge=1,
        description="Consecutive batches that train the student, before the generator's turn; 100 "
        "in both papers.",
    )
    mask_probability: float = Field(
        0.3,
        gt=0,
        le=1,
        description="Probability of each token to be masked and regenerated; 0.3 in both papers.",
    )
    gumbel_temperature: float = Field(
        1.0,
        gt=0,
        description="Temperature of the Gumbel-softmax that samples the generated tokens; 1 in "
        "MATE-KD's code.",
    )
    task_weight: float = Field(
        1 / 3,
        ge=0,
        description="Weight of the task loss on gold labels (cross-entropy; squared error for "
        "regression); 0 for unlabeled text; 1/3 in both papers.",
    )
    logit_weight: float = Field(
        1 / 3,
        gt=0,
        description="Weight of the logit loss, T^2 KL(teacher || student) (squared error for "
        "regression) on the original text; 1/3 in both papers.",
    )

    @property
    def needs_teacher(self) -> frozenset[TeacherPart]:
        """Logits of the original text, and the model for generated text."""
        return frozenset({"logits", "model"})

    def generator_reference(self, teacher: str) -> str:
        """Reference of the generator; by default the teacher's pretrained model."""
        return self.generator.model or teacher

    @property
    def head_training(self) -> TrainHeadConfig | None:
        """Training of the generator's head, if it is configured."""
        return self.generator.train_head


class GeneratedText(NamedTuple):
    """Batch in which masked tokens are replaced by generated ones.

    Attributes:
        input_ids: (B, L).
        is_masked: (B, L) positions of generated tokens.
        probabilities: (n, V) of the masked tokens in row order, whose maxima are the generated
            tokens; None if the generator gets no gradient.
    """

    input_ids: Tensor
    is_masked: Tensor
    probabilities: Tensor | None

    def word_embeddings(self, encoder: Encoder) -> Tensor:
        """Word embeddings (B, L, e) of the text, differentiable in the probabilities."""
        embeddings = encoder.embed(self.input_ids)
        if self.probabilities is None:
            return embeddings
        with torch.autocast(embeddings.device.type, enabled=False):
            chosen = chosen_rows(self.probabilities, encoder.embedding_weight)
            return embeddings.masked_scatter(self.is_masked[..., None], chosen)


def generate(
    generator: MaskedLm, batch: Mapping[str, Tensor], mask_probability: float, temperature: float
) -> GeneratedText:
    """Mask words at random and replace them by generated ones.

    The result depends on the random state but not on the width of the padding.

    Args:
        generator: masked language model.
        batch: batch with the original text.
        mask_probability: probability of each word to be masked, independent of the others.
        temperature: temperature of the Gumbel-softmax.
    """
    ids, attention_mask = batch["input_ids"], batch["attention_mask"]
    are_words = generator.are_words(ids, attention_mask)
    draws = torch.rand(int(are_words.sum()), device=ids.device)
    is_masked = torch.zeros_like(are_words).masked_scatter(are_words, draws < mask_probability)
    masked_ids = ids.masked_fill(is_masked, generator.mask_id)
    logits = generator(masked_ids, attention_mask, batch.get("token_type_ids"), is_masked)
    if not logits.requires_grad:
        return GeneratedText(ids.masked_scatter(is_masked, drawn(logits)), is_masked, None)
    probabilities = F.gumbel_softmax(logits, temperature)
    chosen_ids = ids.masked_scatter(is_masked, probabilities.argmax(-1))
    return GeneratedText(chosen_ids, is_masked, probabilities)


def drawn(logits: Tensor) -> Tensor:
    """Sample a token per row from the softmax of its logits, (n,).

    Equal in distribution to Gumbel-max at any temperature, with one random number per row, not V.

    Args:
        logits: (n, V).
    """
    # In float32 the cumulative sum over a vocabulary would lose rare tokens.
    cumulative = logits.softmax(-1).cumsum(-1, dtype=torch.float64)
    levels = torch.rand(len(logits), 1, dtype=torch.float64, device=logits.device)
    places = torch.searchsorted(cumulative, levels * cumulative[:, -1:], right=True)
    return places.flatten().clamp(max=logits.size(-1) - 1)


def chosen_rows(probabilities: Tensor, weight: Tensor) -> Tensor:
    """Embedding of the most probable token, (n, e), with the gradient of `probabilities @ weight`.

    This is the straight-through estimator of one-hot rows times `weight`, but with exact embeddings
    and without a further (n, V) tensor. Only `probabilities` gets a gradient.

    Args:
        probabilities: (n, V).
        weight: (V, e).
    """
    rows: Tensor = _ChosenRows.apply(probabilities, weight)  # type: ignore[no-untyped-call]  # untyped in torch
    return rows


class _ChosenRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return weight[probabilities.argmax(-1)]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return gradient @ weight.T, None


class GeneratorObjective(Objective):
    """Base class of objectives that train a student on original and generated text."""

    trains_classifier = True
    student_traits = Objective.student_traits | {"embeddings"}
    teacher_traits = Objective.teacher_traits | {"embeddings"}
    config: GeneratorConfig

    @classmethod
    def check(cls, config: ObjectiveConfig, student: Encoder, teacher: Encoder) -> None:
        """Refuse a student whose vocabulary is not the teacher's."""
        _check_vocabulary(config, "student", len(student.embedding_weight), teacher)

    def __init__(self, config: GeneratorConfig, models: Models) -> None:
        student, teacher, generator = models[:3]
        assert teacher is not None
        assert generator is not None
        self.check(config, student, teacher)
        check_generator(config, generator, teacher)
        super().__init__(config, models)

    def student_parameters(self) -> tuple[nn.Parameter, ...]:
        """Parameters trained in student steps."""
        return tuple(self.student.parameters())

    def players(self) -> dict[str, Player]:
        """Student with its heads, and generator."""
        assert self.generator is not None
        generator = Player(
            tuple(self.generator.parameters()),
            self.config.generator_learning_rate,
            self.config.generator_max_grad_norm,
        )
        return {STUDENT: Player(self.student_parameters()), GENERATOR: generator}

    def player_of(self, step: int) -> str:
        """Generator for the first steps of a cycle, then the student."""
        config = self.config
        position = (step - 1) % (config.generator_steps + config.student_steps)
        return GENERATOR if position < config.generator_steps else STUDENT

    def _generate(self, batch: Mapping[str, Tensor]) -> GeneratedText:
        """Generate text, with gradients to the generator in its own steps only."""
        assert self.generator is not None
        config = self.config
        with torch.set_grad_enabled(self._player == GENERATOR):
            return generate(
                self.generator, batch, config.mask_probability, config.gumbel_temperature
            )


def check_generator(config: ObjectiveConfig, generator: MaskedLm, teacher: Encoder) -> None:
    """Refuse a generator whose vocabulary is not the teacher's; meta models suffice.

    Raises:
        InputError: names the setting and what would fit.
    """
    _check_vocabulary(config, GENERATOR, generator.vocabulary_size, teacher)


def _check_vocabulary(config: ObjectiveConfig, role: str, size: int, teacher: Encoder) -> None:
    if size != (teacher_size := len(teacher.embedding_weight)):
        setting = "student.model" if role == STUDENT else "objective.generator.model"
        raise InputError(
            f"{config.name}: the {role} has word embeddings of {size} tokens, the teacher of "
            f"{teacher_size}, and all must read the same generated text; choose a {role} with the "
            f"teacher's vocabulary, or remove {setting} to make one from the teacher"
        )
