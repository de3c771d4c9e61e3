"""Probe of a model on a few short texts for the traits that objectives need.

A model of an untested family could be trained incorrectly without an error: the first token's
vector of a causal decoder does not depend on the rest of the text, a decoder may find the last
token by its padding, which word embeddings do not show, and a classifier that reads the last
position reads padding. The probe runs the model and reports this before training.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import ClassVar, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from raykd.errors import InputError
from raykd.models.encoder import Encoder, EncoderOutput, quiet_transformers
from raykd.models.families.layers import KNOWN_FAMILIES
from raykd.models.masked_lm import MaskedLm

# logits: it classifies texts of the required length. padding: logits do not depend on the number of
# padding tokens. gradients: the logits depend on every parameter. embeddings: word embeddings give
# the same logits as their tokens, with any embedding of padding. first_token: the first token's
# vectors depend on the tokens after it. relations: query, key and value vectors of its last layer
# can be read.
Trait = Literal["logits", "padding", "gradients", "embeddings", "first_token", "relations"]

ModelT = TypeVar("ModelT", Encoder, MaskedLm)

# Two texts; the second is shorter.
_LENGTHS = (9, 6)
_MORE_PADDING = 7
# Maximum difference, as a share of the difference between texts, or of the logits.
_SHARE_OF_TEXTS, _SHARE_OF_LOGITS = 1e-2, 1e-5
# Exceptions of models and exporters for unsupported inputs.
KINDS_OF_FAILURE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,  # NotImplementedError as well
    TypeError,
    ValueError,
)


class Framing(NamedTuple):
    """Special tokens that a tokenizer adds around a text, and its ordinary tokens."""

    before: list[int]
    after: list[int]
    words: Tensor  # (W,)
    pad_id: int


def framing_of(tokenizer: PreTrainedTokenizerBase, vocabulary_size: int) -> Framing:
    """Framing of a tokenizer with a pad token."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, marks = encoded["input_ids"], encoded["special_tokens_mask"]
    special = set(tokenizer.all_special_ids)
    words = [token for token in range(min(vocabulary_size, len(tokenizer))) if token not in special]
    first = next((at for at, mark in enumerate(marks) if not mark), len(ids))
    last = next((at for at, mark in enumerate(reversed(marks)) if not mark), 0)
    return Framing(ids[:first], ids[len(ids) - last :], torch.tensor(words), tokenizer.pad_token_id)


def check_pad_token(reference: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer without a pad token.

    Raises:
        InputError: names the model and what to do.
    """
    if tokenizer.pad_token_id is None:
        raise InputError(
            f"model {reference}: its tokenizer has no pad token; give it one (pad_token in "
            "tokenizer_config.json, its id as pad_token_id in config.json), or use a "
            f"{KNOWN_FAMILIES}"
        )


def probe(
    encoder: Encoder, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> dict[Trait, str]:
    """Traits that a model lacks, with the reason.

    Args:
        encoder: model with weights, on the CPU; left in evaluation mode.
        tokenizer: tokenizer of the model, with a pad token.
        max_length: tokens of the longest text to read.
    """
    framing = framing_of(tokenizer, len(encoder.embedding_weight))
    return _EncoderProbe(encoder.eval(), framing).run(max_length)


def widen(encoder: Encoder) -> None:
    """Scale random weights so that vectors keep their size through the layers.

    New weights have a standard deviation of 0.02, with which logits of texts hardly differ.
    """
    with torch.no_grad():
        for module in encoder.modules():
            for parameter in module.parameters(recurse=False):
                if parameter.ndim < 2:
                    continue
                size = 1.0 if isinstance(module, nn.Embedding) else parameter.shape[-1] ** -0.5
                spread = float(parameter.std())
                if spread > 0:
                    parameter.mul_(size / spread)


def check_traits(
    user: str,
    role: str,
    reference: str,
    needed: AbstractSet[Trait],
    missing: Mapping[Trait, str],
    *,
    remedy: str | None = None,
) -> None:
    """Refuse a model that lacks a trait.

    Args:
        user: feature that needs the traits, for messages.
        role: role of the model.
        reference: reference of the model.
        needed: required traits.
        missing: missing traits from `probe`.
        remedy: advice; None for another family, or an objective that reads logits.

    Raises:
        InputError: names the model, the reason and what works.
    """
    lacking = [trait for trait in missing if trait in needed]
    if not lacking:
        return
    if remedy is None:
        remedy = f"use a {KNOWN_FAMILIES}"
        if not missing.keys() & {"logits", "padding", "gradients"}:
            remedy = (
                f"choose vanilla_kd, annealing_kd or fine_tune, which read only logits, or {remedy}"
            )
    raise InputError(f"{user}: {role} {reference} does not fit: {missing[lacking[0]]}; {remedy}")


class Probe(ABC, Generic[ModelT]):
    """Probe of a model on short texts.

    Args:
        model: model in evaluation mode, on the CPU.
        framing: framing of its tokenizer.
    """

    # Traits to test.
    traits: ClassVar[tuple[Trait, ...]]

    def __init__(self, model: ModelT, framing: Framing) -> None:
        self._model: ModelT = model
        self._framing = framing
        self._random = torch.Generator().manual_seed(0)
        self._rows = [self._row(length) for length in _LENGTHS]

    def run(self, max_length: int) -> dict[Trait, str]:
        """Traits that the model lacks, with the reason."""
        with quiet_transformers():
            return self._run(max_length)

    def _run(self, max_length: int) -> dict[Trait, str]:
        try:
            layers = self._known_layers()
            plain = self._output(self._rows, layers=layers)
            others = [self._with_other_words(row) for row in self._rows]
            changed = self._output(others, layers=layers)
            self._output([self._row(max_length)])
        except KINDS_OF_FAILURE as error:
            reason = (
                f"it cannot read a short batch, or a text of {max_length} tokens "
                f"({one_line(error)})"
            )
            return dict.fromkeys(self.traits, reason)
        if not plain.logits.isfinite().all():
            return {"logits": "its logits are NaN or infinite"}
        spread = max(
            float((plain.logits - changed.logits).abs().max()),
            float((plain.logits[0] - plain.logits[1]).abs().max()),
        )
        self._tolerance = max(
            _SHARE_OF_TEXTS * spread, _SHARE_OF_LOGITS * (1 + float(plain.logits.abs().max()))
        )
        reasons: dict[str, str | None] = {
            "padding": self._padding(plain),
            "gradients": self._gradients(),
            "first_token": self._first_token(plain, changed),
        } | self._further(plain)
        return {trait: why for trait in self.traits if (why := reasons.get(trait)) is not None}

    @abstractmethod
    def _read(self, ids: Tensor, mask: Tensor, layers: Sequence[int]) -> EncoderOutput:
        """Logits of texts and vectors of layers."""

    def _known_layers(self) -> Sequence[int]:
        """Layers whose vectors `_read` can return."""
        return ()

    def _further(self, plain: EncoderOutput) -> dict[str, str | None]:
        """Reasons for missing traits that are specific to the kind of model."""
        return {}

    def _padding(self, plain: EncoderOutput) -> str | None:
        width = max(_LENGTHS) + _MORE_PADDING
        return self._difference(
            plain, lambda: self._output(self._rows, width=width), "depend on how wide it is padded"
        )

    def _difference(
        self, plain: EncoderOutput, run: Callable[[], EncoderOutput], what: str
    ) -> str | None:
        try:
            difference = float((run().logits - plain.logits).abs().max())
        except KINDS_OF_FAILURE as error:
            return f"its logits {what} ({one_line(error)})"
        if difference <= self._tolerance:
            return None
        return f"its logits {what} (they differ by {difference:.2g})"

    def _gradients(self) -> str | None:
        named = dict(self._model.model.named_parameters())
        required = [parameter.requires_grad for parameter in named.values()]
        try:
            self._model.model.requires_grad_(True)
            ids, mask = self._batch(self._rows)
            loss = self._read(ids, mask, ()).logits.square().sum()
            gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        except KINDS_OF_FAILURE as error:
            return f"its logits cannot be differentiated ({one_line(error)})"
        finally:
            for parameter, was_required in zip(named.values(), required, strict=True):
                parameter.requires_grad_(was_required)
        missing = [name for name, grad in zip(named, gradients, strict=True) if grad is None]
        if not missing:
            return None
        return f"its logits do not depend on {len(missing)} of its weights, such as {missing[0]}"

    def _first_token(self, plain: EncoderOutput, changed: EncoderOutput) -> str | None:
        for layer, states in plain.hidden_states.items():
            first = states[:, 0]
            difference = float((first - changed.hidden_states[layer][:, 0]).abs().max())
            if difference <= _SHARE_OF_LOGITS * float(first.abs().max()):
                return (
                    "its first token's vectors are the same whatever follows: it reads from left "
                    "to right"
                )
        return None

    def _output(
        self, rows: Sequence[Tensor], *, width: int = 0, layers: Sequence[int] = ()
    ) -> EncoderOutput:
        ids, mask = self._batch(rows, width)
        with torch.no_grad():
            return self._read(ids, mask, layers)

    def _batch(self, rows: Sequence[Tensor], width: int = 0) -> tuple[Tensor, Tensor]:
        """Token ids and mask (B, L), padded on the right."""
        width = max(width, *map(len, rows))
        ids = torch.full((len(rows), width), self._framing.pad_id)
        mask = torch.zeros_like(ids)
        for at, row in enumerate(rows):
            ids[at, : len(row)], mask[at, : len(row)] = row, 1
        return ids, mask

    def _row(self, length: int) -> Tensor:
        before, after, words, _ = self._framing
        drawn = torch.randint(
            len(words), (max(1, length - len(before) - len(after)),), generator=self._random
        )
        row = torch.cat([torch.tensor(before), words[drawn], torch.tensor(after)]).long()
        return row[:length]

    def _with_other_words(self, row: Tensor) -> Tensor:
        """Row with other words except the first, the only one that a causal decoder reads first."""
        first = len(self._framing.before) or 1
        other = self._row(len(row))
        return torch.cat([row[:first], other[first:]])


class _EncoderProbe(Probe[Encoder]):
    """Probe of an encoder, including layers, word embeddings and relations."""

    traits = ("logits", "padding", "embeddings", "gradients", "first_token", "relations")

    def _read(self, ids: Tensor, mask: Tensor, layers: Sequence[int]) -> EncoderOutput:
        output: EncoderOutput = self._model(ids, mask, layers=layers)
        return output

    def _further(self, plain: EncoderOutput) -> dict[str, str | None]:
        return {"embeddings": self._embeddings(plain), "relations": self._relations()}

    def _known_layers(self) -> Sequence[int]:
        try:
            self._model.blocks()
        except InputError:
            return []
        return list(range(1, self._model.num_layers + 1))

    def _embeddings(self, plain: EncoderOutput) -> str | None:
        def from_embeddings() -> EncoderOutput:
            ids, mask = self._batch(self._rows)
            # The embedding of padding must have no effect.
            filled = torch.where(mask == 1, ids, self._framing.words[-1])
            with torch.no_grad():
                embedded = self._model.embed(filled)
                output: EncoderOutput = self._model(ids, mask, word_embeddings=embedded)
            return output

        return self._difference(plain, from_embeddings, "from word embeddings are not its tokens'")

    def _relations(self) -> str | None:
        encoder = self._model
        ids, mask = self._batch(self._rows)
        try:
            with torch.no_grad():
                vectors = encoder.relations(ids, mask, layer=encoder.num_layers)
        except InputError:
            return None  # the objective's own check reports the reason
        except KINDS_OF_FAILURE as error:
            return f"its query, key and value vectors cannot be read ({one_line(error)})"
        expected = (*ids.shape, encoder.hidden_size)
        if all(part.shape == expected for part in vectors):
            return None
        shape = " x ".join(map(str, vectors.query.shape))
        return f"its query vectors are {shape} and not one per token"


def one_line(error: Exception) -> str:
    """Exception as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
