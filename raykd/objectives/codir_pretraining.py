"""CoDIR pre-training: masked language modeling with contrastive distillation of layers.

    total = masked_word_weight masked_words + contrastive_weight contrastive
    masked_words: mean over the masked words of a row, then over rows, of -log p(word)
    contrastive:  -log( e(t, s) / (e(t, s) + sum_k e(t, s_k)) ),   e(x, y) = exp(<x, y> / tau)

Both networks read the masked text. s and t are the mean-pooled hidden states of all layers of
student and teacher, concatenated, mapped linearly to width u and normalized; both maps are trained.
The s_k are the student's vectors of the last K rows, in a queue; a row's own older vectors are
skipped. The teacher is the pretrained model (`teacher: pretrained` in a recipe).

The head that predicts words is a linear map, GELU and layer norm to the width of the word
embeddings, then the student's word embeddings and a bias; it is discarded with the projections
after training.

Source: Sun et al. 2020, "Contrastive Distillation on Intermediate Representations for Language
Model Compression" (arXiv:2009.14167), section 3: InfoNCE with the teacher as anchor, mean pooling
over all layers, a queue of negatives as in He et al. 2020, "Momentum Contrast for Unsupervised
Visual Representation Learning" (arXiv:1911.05722), and the masked-language-model loss [P]. The
authors published only the fine-tuning part; their
code [C] gives the embedding maps and tau = 0.07. Not in either source, or from memory of the paper
only [K]: the weight of the contrastive loss, K, the masking (15 % of the words; of these 80 %
become the mask token, 10 % a random one, 10 % stay, as in Devlin et al. 2019, "BERT",
arXiv:1810.04805), and that teacher and student read the same masked text.
Differs from MoCo: the queue holds the student's own vectors; there is no second, slower encoder,
since the teacher is the anchor.

Shapes: B rows, L tokens, n masked tokens, V vocabulary, d width, e width of the word embeddings.
"""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from raykd.errors import InputError
from raykd.models.encoder import Encoder, EncoderOutput
from raykd.models.forward import run
from raykd.models.masked_lm import SpecialTokens
from raykd.models.pooling import pooled_layers
from raykd.objectives.base import (
    LossTerms,
    Models,
    Objective,
    ObjectiveConfig,
    freeze_beyond,
)
from raykd.objectives.losses.descriptions import of_layers
from raykd.objectives.losses.memory_bank import Queue, random_numbers, random_vectors
from raykd.objectives.losses.memory_contrastive import QueueContrast
from raykd.objectives.shared.settings import LayersOnlyConfig

_MASK_SHARE, _RANDOM_SHARE = 0.8, 0.1


class CodirPretrainingConfig(LayersOnlyConfig):
    """Settings of CoDIR pre-training, which needs neither labels nor a fine-tuned teacher."""

    name: Literal["codir_pretraining"] = Field(
        "codir_pretraining",
        description="CoDIR, pre-training (Sun et al. 2020, section 3): masked words and a "
        "contrastive loss; reads neither logits nor labels.",
    )
    masked_word_weight: float = Field(
        1.0, gt=0, description="Weight of the masked-language-model loss."
    )
    contrastive_weight: float = Field(
        0.1, gt=0, description="Weight of the contrastive loss; the authors published no value."
    )
    contrastive_temperature: float = Field(
        0.07,
        gt=0,
        description="Temperature tau of the contrastive loss; 0.07 is the authors' fine-tuning "
        "code's.",
    )
    mask_probability: float = Field(
        0.15,
        gt=0,
        le=1,
        description="Probability of each word to be masked; 0.15 is BERT's (Devlin et al. 2019).",
    )
    projection_size: int = Field(
        128,
        ge=1,
        description="Width u of the compared vectors; 128 in the authors' fine-tuning code.",
    )
    num_negatives: int = Field(4096, ge=1, description="Vectors K in the queue of negatives.")

    @property
    def masks_words(self) -> bool:
        """True."""
        return True


class MaskedWordHead(nn.Module):
    """Masked-LM head that predicts words through the student's word embeddings.

    Args:
        hidden_size: width d of the hidden states.
        embedding_weight: word embeddings (V, e), for their shape.
    """

    def __init__(self, hidden_size: int, embedding_weight: Tensor) -> None:
        super().__init__()
        vocabulary_size, width = embedding_weight.shape
        self.transform = nn.Linear(hidden_size, width)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, vectors: Tensor, embedding_weight: Tensor) -> Tensor:
        """Logits (n, V) float32.

        Args:
            vectors: hidden states (n, d) of the masked tokens.
            embedding_weight: word embeddings (V, e).
        """
        transformed = self.norm(F.gelu(self.transform(vectors)))
        return F.linear(transformed, embedding_weight, self.bias).float()


def masked_word_loss(logits: Tensor, words: Tensor, is_masked: Tensor) -> Tensor:
    """Mean -log p(word) over the masked words of a row, then over rows; 0 for a row without any.

    Args:
        logits: (n, V) logits of the masked tokens, in row order.
        words: (n,) original words.
        is_masked: (B, L) positions of the masked tokens.
    """
    num_masked = is_masked.sum(1)
    surprises = F.cross_entropy(logits, words, reduction="none")
    weights = (1 / num_masked.clamp(min=1)).repeat_interleave(num_masked)
    return (surprises * weights).sum() / len(is_masked)


def mask_words(
    input_ids: Tensor,
    attention_mask: Tensor,
    special_tokens: SpecialTokens,
    vocabulary_size: int,
    probability: float,
) -> tuple[Tensor, Tensor]:
    """Mask words at random, as in BERT's pre-training.

    The masked words depend on the random state but not on the width of the padding.

    Args:
        input_ids: (B, L).
        attention_mask: (B, L).
        special_tokens: tokens that are never masked.
        vocabulary_size: V, the upper bound of random tokens.
        probability: probability of each word, independent of the others.

    Returns:
        The masked text (B, L), and the positions of the words to predict (B, L).
    """
    special_ids = torch.tensor(special_tokens.ids, device=input_ids.device)
    are_words = (attention_mask != 0) & ~torch.isin(input_ids, special_ids)
    num_words = int(are_words.sum())
    draws = torch.rand(num_words, device=input_ids.device)
    kinds = torch.rand(num_words, device=input_ids.device)
    random_ids = torch.randint(vocabulary_size, (num_words,), device=input_ids.device)
    words = input_ids[are_words]
    is_chosen = draws < probability
    is_replaced = is_chosen & (kinds < _MASK_SHARE + _RANDOM_SHARE)
    masked = torch.where(is_replaced, random_ids, words)
    masked = masked.masked_fill(is_chosen & (kinds < _MASK_SHARE), special_tokens.mask_id)
    is_masked = torch.zeros_like(are_words).masked_scatter(are_words, is_chosen)
    return input_ids.masked_scatter(are_words, masked), is_masked


class CodirPretraining(Objective):
    """Training of the student's encoder on masked words and teacher layers."""

    trains_classifier = False
    mixes_examples = True
    config: CodirPretrainingConfig
    contrast: QueueContrast

    @classmethod
    def check(cls, config: ObjectiveConfig, student: Encoder, teacher: Encoder) -> None:
        """Refuse models with unknown layers or different vocabularies."""
        student.blocks()
        teacher.blocks()
        sizes = [len(encoder.embedding_weight) for encoder in (student, teacher)]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"codir_pretraining: the student has word embeddings of {sizes[0]} tokens, the "
                f"teacher of {sizes[1]}, and both must read the same masked text; choose a student "
                "with the teacher's vocabulary"
            )

    def __init__(self, config: CodirPretrainingConfig, models: Models) -> None:
        student, teacher = models.student, models.teacher
        assert teacher is not None
        assert models.special_tokens is not None
        self.check(config, student, teacher)
        super().__init__(config, models)
        self._special_tokens = models.special_tokens
        freeze_beyond(student, layers=[student.num_layers])
        self._student_layers = tuple(range(1, student.num_layers + 1))
        self._teacher_layers = tuple(range(1, teacher.num_layers + 1))
        width = config.projection_size
        self.student_projection = nn.Linear(student.num_layers * student.hidden_size, width)
        self.teacher_projection = nn.Linear(teacher.num_layers * teacher.hidden_size, width)
        self.head = MaskedWordHead(student.hidden_size, student.embedding_weight)

    def start_training(self, num_rows: int, labels: Tensor | None, seed: int) -> None:
        """Initialize the queue with random vectors."""
        config = self.config
        vectors = random_vectors(
            config.num_negatives, config.projection_size, random_numbers(seed, 0)
        )
        contrast = QueueContrast(Queue(vectors), config.contrastive_temperature)
        self.contrast = contrast.to(self.student_projection.weight.device)

    def describe(self) -> dict[str, str]:
        """See `Objective`."""
        config = self.config
        return {
            "masked_words": (
                f"{config.mask_probability:.0%} of the words, predicted from the student's layer "
                f"{self.student.num_layers} through its word embeddings"
            ),
            "contrastive": (
                f"tokens' mean vectors of the student's layers {of_layers(self._student_layers)} "
                f"and of the teacher's {of_layers(self._teacher_layers)}, negatives from a queue "
                f"of {config.num_negatives}"
            ),
        }

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """Weighted losses of a batch, whose vectors are then stored in the queue."""
        assert self.teacher is not None
        config, mask = self.config, batch["attention_mask"]
        weight = self.student.embedding_weight
        masked_ids, is_masked = mask_words(
            batch["input_ids"], mask, self._special_tokens, len(weight), config.mask_probability
        )
        masked = {**batch, "input_ids": masked_ids}
        student = run(self.student, masked, layers=self._student_layers)
        with torch.no_grad():
            teacher = run(self.teacher, masked, layers=self._teacher_layers)
        last = student.hidden_states[self.student.num_layers]
        words = masked_word_loss(
            self.head(last[is_masked], weight), batch["input_ids"][is_masked], is_masked
        )
        # In bfloat16 the rounding errors of the scores, scaled by 1 / tau, would be too large.
        with torch.autocast(mask.device.type, enabled=False):
            contrast, num_candidates = self.contrast(
                _vectors(self.student_projection, student, self._student_layers, mask),
                _vectors(self.teacher_projection, teacher, self._teacher_layers, mask),
                batch["row_ids"],
            )
        return LossTerms.weighted(
            masked_words=(config.masked_word_weight, words),
            contrastive=(config.contrastive_weight, contrast),
        ).measuring(num_candidates=num_candidates, share_masked=is_masked.sum() / mask.sum())


def _vectors(
    projection: nn.Linear, output: EncoderOutput, layers: tuple[int, ...], mask: Tensor
) -> Tensor:
    """Unit vector per row, (B, u)."""
    features = pooled_layers(output.hidden_states, layers, mask, "mean")
    return F.normalize(projection(features.flatten(1)), dim=-1)
