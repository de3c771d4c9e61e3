"""Losses of hidden states and attention scores per token and layer.

TinyBERT uses only these losses; AD2 adds them as deep KD.
Shapes: B rows, L tokens, d_S and d_T widths, H attention heads.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from raykd.errors import InputError
from raykd.models.encoder import Encoder, EncoderOutput
from raykd.models.families.layers import RelationVectors
from raykd.objectives.losses.descriptions import of_pairs
from raykd.objectives.losses.logits import wide

ProjectionSharing = Literal["shared", "per_layer"]

# Families whose attention scores are only the scaled product of query and key.
_PLAIN_ATTENTION = (
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "distilbert",
    "electra",
    "megatron-bert",
    "roberta-prelayernorm",
    # Its scores add a distance bias, the same for all texts and layers, which is ignored.
    "mpnet",
)
_WHY_NOT = {
    "deberta-v2": "add relative positions to the product of query and key",
    "deberta": "add relative positions to the product of query and key",
    "modernbert": "rotate query and key by position before their product",
    "nomic_bert": "rotate query and key by position before their product",
    "eurobert": "rotate query and key by position before their product",
}


class TokenMaps(nn.Module):
    """Losses of linearly mapped hidden states and of attention scores in all layers.

    Student layer i of m learns from teacher layer i n / m of n; embedding outputs are compared as
    well. `check_token_maps` refuses models that do not fit.

    Args:
        student: model of width d_S.
        teacher: model of width d_T.
        hidden: whether to compare hidden states.
        attention: whether to compare attention scores.
        projection: one linear map to the teacher's width for all layers, or one per layer.
        mask_padding: whether to exclude padding.
    """

    def __init__(
        self,
        student: Encoder,
        teacher: Encoder,
        *,
        hidden: bool = True,
        attention: bool = True,
        projection: ProjectionSharing = "shared",
        mask_padding: bool = True,
    ) -> None:
        super().__init__()
        num_student, num_teacher = student.num_layers, teacher.num_layers
        pairs = [(i, i * num_teacher // num_student) for i in range(num_student + 1)]
        self._hidden = pairs if hidden else []
        self._attention = pairs[1:] if attention else []
        self._num_heads = student.num_heads
        self._mask_padding = mask_padding
        num_maps = len(self._hidden) if projection == "per_layer" else min(1, len(self._hidden))
        self.projections = nn.ModuleList(
            nn.Linear(student.hidden_size, teacher.hidden_size) for _ in range(num_maps)
        )

    @property
    def of_student(self) -> dict[str, list[int]]:
        """Student outputs to request, as options of `Encoder.forward`."""
        return {
            "layers": [layer for layer, _ in self._hidden],
            "relation_layers": [layer for layer, _ in self._attention],
        }

    @property
    def of_teacher(self) -> dict[str, list[int]]:
        """Teacher outputs to request, as options of `Encoder.forward`."""
        return {
            "layers": [layer for _, layer in self._hidden],
            "relation_layers": [layer for _, layer in self._attention],
        }

    def describe(self) -> dict[str, str]:
        """Description of each loss by name."""
        states = f"all tokens' hidden states, student <- teacher: {of_pairs(self._hidden)}"
        scores = f"attention scores, student <- teacher: {of_pairs(self._attention)}"
        terms = {"hidden": states} if self._hidden else {}
        return terms | ({"attention": scores} if self._attention else {})

    def forward(
        self, student: EncoderOutput, teacher: EncoderOutput, attention_mask: Tensor
    ) -> dict[str, Tensor]:
        """Losses `hidden` and `attention`, each summed over the layers."""
        losses: dict[str, list[Tensor]] = {}
        with torch.autocast(attention_mask.device.type, enabled=False):
            for at, (of_student, of_teacher) in enumerate(self._hidden):
                projection = self.projections[at % len(self.projections)]
                loss = hidden_loss(
                    projection(student.hidden_states[of_student].float()),
                    teacher.hidden_states[of_teacher],
                    attention_mask,
                    mask_padding=self._mask_padding,
                )
                losses.setdefault("hidden", []).append(loss)
            for of_student, of_teacher in self._attention:
                loss = attention_loss(
                    student.relation_vectors[of_student],
                    teacher.relation_vectors[of_teacher],
                    attention_mask,
                    self._num_heads,
                    mask_padding=self._mask_padding,
                )
                losses.setdefault("attention", []).append(loss)
            return {name: torch.stack(by_layer).sum() for name, by_layer in losses.items()}


def check_token_maps(name: str, student: Encoder, teacher: Encoder, *, attention: bool) -> None:
    """Refuse two models whose layers or attention scores cannot be paired.

    Args:
        name: the objective's name, for messages.
        student: model with m layers.
        teacher: model with n layers.
        attention: whether attention scores are compared.

    Raises:
        InputError: m does not divide n, the numbers of heads differ, or a family's scores are not
            just the product of query and key.
    """
    num_student, num_teacher = student.num_layers, teacher.num_layers
    if num_teacher % num_student:
        divisors = [str(m) for m in range(1, num_teacher + 1) if num_teacher % m == 0]
        raise InputError(
            f"{name}: the student's {num_student} layers do not divide the teacher's "
            f"{num_teacher}; give the student {', '.join(divisors)} layers"
        )
    student.blocks()
    teacher.blocks()
    if not attention:
        return
    for role, encoder in (("student", student), ("teacher", teacher)):
        model_type = encoder.model.config.model_type
        is_plain_deberta = model_type == "deberta" and not encoder.model.config.relative_attention
        if model_type not in _PLAIN_ATTENTION and not is_plain_deberta:
            why = _WHY_NOT.get(model_type, "are not known to be the product of query and key")
            raise InputError(
                f"{name}: attention scores of the {role}, a {model_type!r}, cannot be compared, "
                f"since they {why}; use a {', '.join(_PLAIN_ATTENTION)} or another objective"
            )
    if student.num_heads != teacher.num_heads:
        raise InputError(
            f"{name}: the student has {student.num_heads} attention heads, the teacher "
            f"{teacher.num_heads}, and heads are paired; give the student {teacher.num_heads}"
        )


def hidden_loss(
    student: Tensor, teacher: Tensor, attention_mask: Tensor, *, mask_padding: bool = True
) -> Tensor:
    """Mean squared error of hidden states, over a row's tokens and the width, then over rows.

    Source: TinyBERT, equations 8 and 9.

    Args:
        student: (B, L, d_T), projected to the teacher's width.
        teacher: (B, L, d_T).
        attention_mask: (B, L), 1 for tokens and 0 for padding.
        mask_padding: False to include padding, as the authors' code does.
    """
    assert student.shape == teacher.shape, (student.shape, teacher.shape)
    with torch.autocast(student.device.type, enabled=False):
        errors = (wide(student) - wide(teacher)).square().mean(-1)
        if not mask_padding:
            return errors.mean()
        return _mean_of_rows(errors, attention_mask)


def attention_loss(
    student: RelationVectors,
    teacher: RelationVectors,
    attention_mask: Tensor,
    num_heads: int,
    *,
    mask_padding: bool = True,
) -> Tensor:
    """Mean squared error of scaled attention scores before the softmax.

    The mean is taken over heads and pairs of a row's tokens, then over rows.
    Source: TinyBERT, equation 7.

    Args:
        student: query and key (B, L, d_S); the value is not used.
        teacher: query and key (B, L, d_T).
        attention_mask: (B, L), 1 for tokens and 0 for padding.
        num_heads: number of heads H of both.
        mask_padding: False to average over all L * L pairs, as the authors' code does, with scores
            0 where the key is padding.
    """
    mask = attention_mask
    with torch.autocast(student.query.device.type, enabled=False):
        difference = _scores(student, num_heads) - _scores(teacher, num_heads)
        difference = difference.masked_fill(mask[:, None, None, :] == 0, 0)
        errors = difference.square().mean(1)
        if not mask_padding:
            return errors.mean()
        pairs = mask[:, :, None] * mask[:, None, :]
        return _mean_of_rows(errors.flatten(1), pairs.flatten(1))


def _scores(vectors: RelationVectors, num_heads: int) -> Tensor:
    """Scaled products of queries and keys, (B, H, L, L)."""
    query, key = _heads(vectors.query, num_heads), _heads(vectors.key, num_heads)
    scores: Tensor = query @ key.transpose(-1, -2) / query.size(-1) ** 0.5
    return scores


def _heads(vectors: Tensor, num_heads: int) -> Tensor:
    num_rows, num_tokens, _ = vectors.shape
    return wide(vectors).reshape(num_rows, num_tokens, num_heads, -1).transpose(1, 2)


def _mean_of_rows(errors: Tensor, mask: Tensor) -> Tensor:
    """Mean over the unmasked entries of a row, then over rows; both (B, entries)."""
    counts = mask.to(errors.dtype)
    # Not only a multiplication by the mask, since values on padding may be infinite.
    errors = errors.masked_fill(mask == 0, 0)
    return (errors.sum(-1) / counts.sum(-1).clamp(min=1)).mean()
