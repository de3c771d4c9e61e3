"""A masked language model of any family that answers only where it is asked to.

Shapes: B batch, L tokens, n masked tokens, d width, V vocabulary.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PreTrainedModel

from raykd.errors import InputError
from raykd.models.encoder import LOADING, load_tokenizer, loading_quietly, takes_token_types
from raykd.models.resolve import resolve_model, weights_files

# What a family calls the modules between the last hidden state and the logits, one after the other.
_HEADS: tuple[tuple[str, ...], ...] = (
    ("cls",),  # BERT, DeBERTa
    ("lm_head",),  # RoBERTa, XLM-R, CamemBERT
    ("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),  # DistilBERT
    ("generator_predictions", "generator_lm_head"),  # ELECTRA
    ("head", "decoder"),  # ModernBERT
)


class SpecialTokens(NamedTuple):
    """A tokenizer's tokens that are no words, the one that stands for a masked word among them."""

    mask_id: int
    ids: tuple[int, ...]


class MaskedLm(nn.Module):
    """A Hugging Face masked language model as generator.

    Args:
        model: an `AutoModelForMaskedLM`.
        special_tokens: are never masked.

    Raises:
        InputError: the head of its family is not known.
    """

    def __init__(self, model: PreTrainedModel, special_tokens: SpecialTokens) -> None:
        super().__init__()
        self.model = model
        self.mask_id = special_tokens.mask_id
        self._special_ids: Tensor
        self.register_buffer("_special_ids", torch.tensor(special_tokens.ids), persistent=False)
        self._takes_token_types = takes_token_types(model)
        self.head_names = _head_names(model)

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return int(self.model.config.vocab_size)

    def are_words(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Which tokens may be masked, (B, L): neither special ones nor padding."""
        return (attention_mask != 0) & ~torch.isin(input_ids, self._special_ids)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None,
        is_masked: Tensor,
    ) -> Tensor:
        """Logits (n, V) float32 of the tokens where `is_masked` (B, L) holds, row after row.

        The (B, L, V) logits of all tokens, the largest tensor of such a step, are never made.
        """
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None and self._takes_token_types:
            inputs["token_type_ids"] = token_type_ids
        vectors: Tensor = self.model.base_model(**inputs, return_dict=True).last_hidden_state
        vectors = vectors[is_masked]
        for name in self.head_names:
            vectors = self.model.get_submodule(name)(vectors)
        return vectors.float()


def load_masked_lm(reference: str, *, seed: int = 0, needs_head: bool = False) -> MaskedLm:
    """Load a masked language model in float32, in evaluation mode, with its tokenizer's marks.

    A model without the head of one (a classifier, a sentence encoder) gets a random one, of which
    the last map is the word embeddings, as everywhere.

    Args:
        reference: see `resolve_model`.
        seed: of a random head; the process's random state is left alone.
        needs_head: refuse a model without a trained head.

    Raises:
        InputError: the model cannot be found or read, or is of a family without masked tokens;
            its tokenizer is missing, or has no mask token; a head is needed, and it has none.
    """
    folder = resolve_model(reference)
    weights_files(folder, reference)
    with loading_quietly(reference, "a masked language model", seed):
        model, report = AutoModelForMaskedLM.from_pretrained(folder, **LOADING)
    prefix = f"{model.base_model_prefix}."
    if body := {name for name in report["missing_keys"] if name.startswith(prefix)}:
        raise InputError(
            f"model {reference}: {len(body)} weights are missing, {min(body)} among them; the "
            "weights file does not belong to this config.json"
        )
    if needs_head and report["missing_keys"]:
        raise InputError(
            f"model {reference}: it was not trained to predict masked tokens "
            f"({min(report['missing_keys'])} is missing), so its predictions would be random; name "
            "a masked language model, such as the one that yours was made of (bert-base-uncased)"
        )
    return MaskedLm(model, load_special_tokens(reference)).eval()


def load_special_tokens(reference: str) -> SpecialTokens:
    """The special tokens of the tokenizer that stands beside a model.

    Raises:
        InputError: the tokenizer is missing, or has no mask token.
    """
    tokenizer = load_tokenizer(reference)
    if tokenizer.mask_token_id is None:
        raise InputError(
            f"model {reference}: its tokenizer has no mask token; name a masked language model as "
            "generator"
        )
    return SpecialTokens(tokenizer.mask_token_id, tuple(tokenizer.all_special_ids))


def _head_names(model: PreTrainedModel) -> tuple[str, ...]:
    for names in _HEADS:
        if all(hasattr(model, name) for name in names):
            return names
    raise InputError(
        f"model type {model.config.model_type!r}: it predicts no masked tokens in a way that is "
        "known here; use a BERT, RoBERTa, DistilBERT, ELECTRA, DeBERTa-v2 or ModernBERT"
    )
