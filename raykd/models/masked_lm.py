"""Masked language models of all families, with logits for masked tokens only.

Shapes: B batch, L tokens, n masked tokens, d width, V vocabulary.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

from raykd.errors import InputError
from raykd.models.encoder import LOADING, load_tokenizer, loading_quietly, takes_token_types
from raykd.models.resolve import resolve_model, weights_files

# Default remedy for a model without a head.
_REMEDY = (
    "name a masked language model, such as the pretrained one that yours was made from, or train "
    "a head with raykd train-head"
)
_PROBE_TOKENS = 6
_KIND = "a masked language model"


class SpecialTokens(NamedTuple):
    """Special tokens of a tokenizer, including the mask token."""

    mask_id: int
    ids: tuple[int, ...]


class MaskedLm(nn.Module):
    """Hugging Face masked language model.

    Args:
        model: an `AutoModelForMaskedLM` that is not an encoder-decoder.
        special_tokens: tokens that are never masked.
    """

    def __init__(self, model: PreTrainedModel, special_tokens: SpecialTokens) -> None:
        super().__init__()
        self.model = model
        self.mask_id = special_tokens.mask_id
        self.special_ids: Tensor
        self.register_buffer("special_ids", torch.tensor(special_tokens.ids), persistent=False)
        self._takes_token_types = takes_token_types(model)

    @property
    def vocabulary_size(self) -> int:
        """Vocabulary size V."""
        return int(self.model.config.vocab_size)

    def are_words(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Tokens that may be masked, (B, L): neither special tokens nor padding."""
        return (attention_mask != 0) & ~torch.isin(input_ids, self.special_ids)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None,
        is_masked: Tensor,
    ) -> Tensor:
        """Logits (n, V) float32 of the tokens selected by `is_masked` (B, L), in row order.

        The (B, L, V) logits of all tokens are never computed.
        """
        vectors = self.last_states(input_ids, attention_mask, token_type_ids)
        return self.predict(vectors[is_masked], input_ids)

    def last_states(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None
    ) -> Tensor:
        """Last hidden states of the encoder, (B, L, d)."""
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None and self._takes_token_types:
            inputs["token_type_ids"] = token_type_ids
        states: Tensor = self.model.base_model(**inputs, return_dict=True).last_hidden_state
        return states

    def predict(self, vectors: Tensor, input_ids: Tensor) -> Tensor:
        """Logits (n, V) float32 of last hidden states (n, d).

        They are computed by the family's own forward pass with an encoder that returns the vectors,
        since families name and order the modules of their heads differently.

        Args:
            vectors: last hidden states of the tokens to predict.
            input_ids: (B, L), any valid input.
        """
        with _body_returning(self.model, vectors[None]):
            logits: Tensor = self.model(input_ids=input_ids, return_dict=True).logits
        return logits[0].float()

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters of the head, without word embeddings shared with the encoder."""
        body = {id(parameter) for parameter in self.model.base_model.parameters()}
        return [p for p in self.model.parameters() if id(p) not in body]


@contextmanager
def _body_returning(model: PreTrainedModel, states: Tensor) -> Iterator[None]:
    """Context manager in which a model's encoder returns the given states (1, n, d)."""
    body: Any = model.base_model
    output = BaseModelOutputWithPoolingAndCrossAttentions(last_hidden_state=states)
    body.forward = lambda *_, **__: output
    try:
        yield
    finally:
        del body.forward


def load_masked_lm(
    reference: str, *, seed: int = 0, new_head: bool = False, remedy: str = _REMEDY
) -> MaskedLm:
    """Load a masked language model in float32, in evaluation mode, with its special tokens.

    Args:
        reference: see `resolve_model`.
        seed: seed of a random head; the process's random state is kept.
        new_head: whether a model without a head gets a random one, to be trained; its output layer
            is the word embeddings.
        remedy: advice for a missing head.

    Raises:
        InputError: the model cannot be found or read, or is of a family without masked tokens;
            its tokenizer is missing, or has no mask token; its checkpoint has no head.
    """
    special_tokens = load_special_tokens(reference)
    model, missing = _load(reference, seed=seed)
    if missing and not new_head:
        raise missing_head(reference, missing, remedy)
    return MaskedLm(model, special_tokens).eval()


def missing_head_weights(reference: str) -> tuple[str, ...]:
    """Weights of the masked-LM head that a checkpoint lacks, sorted; empty if it has a head.

    These are the weights that transformers would initialize at random.

    Raises:
        InputError: as `load_masked_lm`, except for the missing head.
    """
    return _load(reference, seed=0)[1]


def missing_head(reference: str, missing: tuple[str, ...], remedy: str) -> InputError:
    """Error for a model whose checkpoint lacks the head."""
    return InputError(
        f"model {reference}: its checkpoint has no masked-language-model head ({len(missing)} of "
        f"the head's weights are missing, {missing[0]} among them), so it would predict random "
        f"words; {remedy}"
    )


def load_special_tokens(reference: str) -> SpecialTokens:
    """Load the special tokens of a model's tokenizer.

    Raises:
        InputError: the tokenizer is missing, or has no mask token.
    """
    tokenizer = load_tokenizer(reference)
    if tokenizer.mask_token_id is None:
        raise InputError(
            f"model {reference}: its tokenizer has no mask token, which is needed to predict "
            "words; name a model that was trained to predict masked words, such as a BERT"
        )
    return SpecialTokens(tokenizer.mask_token_id, tuple(tokenizer.all_special_ids))


def check_family(reference: str, config: PreTrainedConfig) -> None:
    """Refuse families whose `AutoModelForMaskedLM` is not an encoder with a head (BART).

    Raises:
        InputError: names the model and what fits.
    """
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(
            f"model {reference}: model type {config.model_type!r} is an encoder-decoder, which "
            "fills masked words by generating the whole text; name an encoder, such as a BERT or "
            "RoBERTa"
        )


def _load(reference: str, *, seed: int) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Load the model; returns it and the names of the head's random weights."""
    folder = resolve_model(reference)
    weights_files(folder, reference)
    with loading_quietly(reference, _KIND, seed):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    check_family(reference, config)
    with loading_quietly(reference, _KIND, seed):
        model, missing = _from_files(folder, config)
        if missing and getattr(config, "legacy", False):
            # DeBERTa-v2 has two kinds of head, and published checkpoints have the other one.
            other = copy.deepcopy(config)
            other.legacy = False
            of_other = _from_files(folder, other)
            model, missing = (model, missing) if of_other[1] else of_other
        if missing and not config.tie_word_embeddings:
            config.tie_word_embeddings = True
            model, missing = _from_files(folder, config)
    prefix = f"{model.base_model_prefix}."
    if body := [name for name in missing if name.startswith(prefix)]:
        raise InputError(
            f"model {reference}: {len(body)} weights are missing, {body[0]} among them; the "
            "weights file does not belong to this config.json"
        )
    _check_predictions(reference, model)
    return model, missing


def _from_files(folder: Path, config: PreTrainedConfig) -> tuple[PreTrainedModel, tuple[str, ...]]:
    model, report = AutoModelForMaskedLM.from_pretrained(folder, config=config, **LOADING)
    return model, tuple(sorted(report["missing_keys"]))


def _check_predictions(reference: str, model: PreTrainedModel) -> None:
    """Refuse a family whose predictions are not a function of the last hidden states."""
    ids = torch.arange(1, 1 + _PROBE_TOKENS)[None] % model.config.vocab_size
    mask, lm = torch.ones_like(ids), MaskedLm(model, SpecialTokens(0, ())).eval()
    try:
        with torch.inference_mode():
            expected = model(input_ids=ids, attention_mask=mask).logits[0]
            logits = lm(ids, mask, None, mask != 0)
        agree = logits.shape == expected.shape and torch.allclose(logits, expected, atol=1e-4)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        agree = False
    if not agree:
        raise InputError(
            f"model {reference}: model type {model.config.model_type!r} predicts masked words in a "
            "way that is not supported; name a BERT, RoBERTa, DistilBERT, ELECTRA, ALBERT, MPNet, "
            "DeBERTa-v2 or ModernBERT"
        )
