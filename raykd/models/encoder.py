"""A transformer classifier of any family behind one output: logits, hidden states, relations.

Shapes: B batch, L tokens, C classes (1: regression), d width, n blocks.
"""

import inspect
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from raykd.errors import InputError
from raykd.models.families.capture import first_outputs, input_of, outputs_of
from raykd.models.families.classes import classifier_options, name_classes
from raykd.models.families.classifier import reorder_classes
from raykd.models.families.layers import (
    KNOWN_FAMILIES,
    Projections,
    RelationVectors,
    blocks_of,
    projections_of,
)
from raykd.models.resolve import TOKENIZER_FILES, resolve_model, weights_files

# How every model is loaded: no code of others, no pickles, nothing that was not resolved before.
LOADING: dict[str, Any] = {
    "dtype": torch.float32,
    "use_safetensors": True,
    "trust_remote_code": False,
    "local_files_only": True,
    "output_loading_info": True,
}


class EncoderOutput(NamedTuple):
    """Output of a forward pass; the dictionaries hold what was asked for, by layer."""

    logits: Tensor  # (B, C) float32
    hidden_states: dict[int, Tensor]  # (B, L, d); layer 0 is the embeddings' output
    relation_vectors: dict[int, RelationVectors]


class Encoder(nn.Module):
    """A Hugging Face sequence classifier as teacher or student.

    Args:
        model: an `AutoModelForSequenceClassification`; one label means regression.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        sizes = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
        if missing := [name for name in sizes if getattr(model.config, name, None) is None]:
            raise InputError(
                f"model type {model.config.model_type!r}: its configuration has no "
                f"{', '.join(missing)}, which a text encoder has; use a {KNOWN_FAMILIES}"
            )
        self.model = model
        self._takes_token_types = takes_token_types(model)

    @property
    def num_labels(self) -> int:
        """Classes, or 1 for regression."""
        num_labels = self.model.config.num_labels
        assert num_labels is not None
        return num_labels

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes in order; none for regression."""
        names = sorted((self.model.config.id2label or {}).items())
        return tuple(str(name) for _, name in names) if self.num_labels > 1 else ()

    @property
    def num_layers(self) -> int:
        """Transformer blocks, the embeddings not counted."""
        return int(self.model.config.num_hidden_layers)

    @property
    def hidden_size(self) -> int:
        """Width d of the hidden states."""
        return int(self.model.config.hidden_size)

    @property
    def num_heads(self) -> int:
        """Attention heads of a block."""
        return int(self.model.config.num_attention_heads)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None = None,
        *,
        word_embeddings: Tensor | None = None,
        layers: Collection[int] = (),
        relation_layers: Collection[int] = (),
    ) -> EncoderOutput:
        """Classify a batch.

        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, L), 1 for tokens and 0 for padding, which stands on the right;
                None: there is no padding.
            token_type_ids: (B, L); families without token types ignore them.
            word_embeddings: (B, L, e) to take the place of `embed(input_ids)`.
            layers: also return the hidden states of these: 0 is the output of the embeddings,
                1 to n are the blocks.
            relation_layers: also return the relation vectors of these blocks, counted from 1.

        Raises:
            InputError: the model has no such block, or its family's projections are not known.
        """
        inputs: dict[str, Any] = {"attention_mask": attention_mask}
        if word_embeddings is None:
            inputs["input_ids"] = input_ids
        else:
            inputs["inputs_embeds"] = word_embeddings
        if token_type_ids is not None and self._takes_token_types:
            inputs["token_type_ids"] = token_type_ids
        numbers, relation_numbers = sorted(set(layers)), sorted(set(relation_layers))
        projections = [self.projections(number) for number in relation_numbers]
        with ExitStack() as stack:
            states = [stack.enter_context(self._state(number)) for number in numbers]
            vectors = [stack.enter_context(outputs_of(maps.modules)) for maps in projections]
            output = self.model(**inputs, return_dict=True)
        # Longformer pads a text inside to a multiple of its attention window.
        length = input_ids.size(1)
        return EncoderOutput(
            logits=output.logits.float(),
            hidden_states={
                number: state[0] if state[0].size(1) == length else state[0][:, :length]
                for number, state in zip(numbers, states, strict=True)
            },
            relation_vectors={
                number: maps.vectors([parts[at] for at in sorted(parts)])
                for number, maps, parts in zip(relation_numbers, projections, vectors, strict=True)
            },
        )

    def _state(self, layer: int) -> AbstractContextManager[Mapping[int, Tensor]]:
        """Collect, as item 0, the hidden states after a layer while the block runs.

        They are what the next layer reads, so that all between two layers is part of the first
        (a convolution in DeBERTa-v2 xlarge); the last layer's are what the body returns, after the
        final norm of families that have one (ModernBERT, EuroBERT, MegatronBERT).
        """
        if layer < self.num_layers:
            return input_of(self.block(layer + 1))
        self.block(layer)
        return outputs_of([self.model.base_model])

    def relations(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None = None,
        *,
        layer: int,
    ) -> RelationVectors:
        """The relation vectors of one block, counted from 1; nothing behind them is computed.

        Args:
            input_ids: (B, L), as `attention_mask` and `token_type_ids`: see `forward`.
            attention_mask: (B, L).
            token_type_ids: (B, L).
            layer: of the block.

        Raises:
            InputError: as `forward`.
        """
        modules, vectors = self.projections(layer)
        return vectors(
            first_outputs(modules, lambda: self(input_ids, attention_mask, token_type_ids))
        )

    def embed(self, input_ids: Tensor) -> Tensor:
        """The word embeddings of tokens, (B, L, e), before positions and normalisation."""
        embedded: Tensor = self.model.get_input_embeddings()(input_ids)
        return embedded

    @property
    def embedding_weight(self) -> Tensor:
        """The word embeddings of the whole vocabulary, (V, e)."""
        weight = self.model.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight

    def block(self, layer: int) -> nn.Module:
        """A transformer block, counted from 1.

        Raises:
            InputError: there is no such block, or the family's blocks are not known.
        """
        if not 1 <= layer <= self.num_layers:
            raise InputError(
                f"layer {layer} of a model with {self.num_layers} layers: "
                f"choose one from 1 to {self.num_layers}"
            )
        return self.blocks()[layer - 1]

    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, first to last.

        Raises:
            InputError: the family keeps them in a place that is not known here.
        """
        return blocks_of(self.model)

    def projections(self, layer: int) -> Projections:
        """The linear maps to query, key and value of a block counted from 1.

        Raises:
            InputError: there is no such block, or its projections are not known.
        """
        return projections_of(self.model, self.block(layer))

    def reorder_classes(self, order: Sequence[int]) -> None:
        """Make class order[i] of the classifier its class i, in its weights; names stay as set.

        Raises:
            InputError: the weights that make the logits cannot be found.
        """
        reorder_classes(self.model, order)

    def save(self, folder: Path) -> None:
        """Write configuration and safetensors, as `AutoModelForSequenceClassification` reads."""
        with quiet_transformers():
            self.model.save_pretrained(folder)


def load_encoder(
    reference: str,
    *,
    num_labels: int | None = None,
    label_names: Sequence[str] = (),
    seed: int = 0,
) -> Encoder:
    """Load a pretrained or fine-tuned model in float32, in evaluation mode.

    Args:
        reference: see `resolve_model`.
        num_labels: outputs of the classifier, 1 for regression; a saved classifier of another
            size, or none, gives way to a random one. None: the saved classifier is needed.
        label_names: names of the classes in order; kept with the model when it is saved.
        seed: of a random classifier; the process's random state is left alone.

    Raises:
        InputError: the model cannot be found or read, or lacks a classifier that is needed.
    """
    folder = resolve_model(reference)
    weights_files(folder, reference)
    with loading_quietly(reference, "a sequence classifier", seed):
        options: dict[str, Any] = classifier_options(folder, num_labels)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            **options,
            **LOADING,
            ignore_mismatched_sizes=True,  # `_check_weights` names them
        )
    random = set(report["missing_keys"]) | {name for name, *_ in report["mismatched_keys"]}
    _check_weights(reference, model, random, needs_head=num_labels is None)
    name_classes(model.config, label_names)
    return Encoder(model).eval()


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer's files, the same whatever it has tokenized before."""
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        # Each call leaves its truncation and padding behind, and they would be saved.
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


def load_tokenizer(reference: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer that stands beside a model.

    Raises:
        InputError: the model cannot be found, or has no tokenizer files.
    """
    folder = resolve_model(reference)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(
            f"model {reference}: no tokenizer in {folder} (one of {', '.join(TOKENIZER_FILES)}); "
            "save the tokenizer beside the model"
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"model {reference}: its tokenizer cannot be loaded: {' '.join(str(error).split())}"
        ) from None
    return tokenizer


def _check_weights(
    reference: str, model: PreTrainedModel, random: set[str], *, needs_head: bool
) -> None:
    """Refuse a body with random weights, and a random classifier where a trained one is needed."""
    # A sentence encoder may come without the pooler that classifiers put on top of the body.
    prefix = f"{model.base_model_prefix}."
    body = {name for name in random if name.startswith(prefix) and ".pooler." not in name}
    if body:
        raise InputError(
            f"model {reference}: {len(body)} weights are missing or of another shape, {min(body)} "
            "among them; the weights file does not belong to this config.json"
        )
    if random and needs_head:
        raise InputError(
            f"model {reference}: has no trained classifier ({min(random)} is missing or of "
            "another shape); name a model that was fine-tuned on the task"
        )


def takes_token_types(model: PreTrainedModel) -> bool:
    """True if token types mean anything to a model: not to DistilBERT, ModernBERT, RoBERTa."""
    return (
        "token_type_ids" in inspect.signature(model.forward).parameters
        and getattr(model.config, "type_vocab_size", 0) > 1
    )


@contextmanager
def loading_quietly(reference: str, kind: str, seed: int) -> Iterator[None]:
    """Load a model in the block: random weights come from the seed, mistakes get one message.

    The process's random state is left alone.

    Raises:
        InputError: what the block raised means that the files are no such model.
    """
    generator_state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        with quiet_transformers():
            yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"model {reference}: cannot be loaded as {kind}: {' '.join(str(error).split())}"
        ) from None
    finally:
        torch.set_rng_state(generator_state)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence its bars and warnings in the block (`_check_weights` judges missing weights)."""
    verbosity = transformers_logging.get_verbosity()
    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    _show_bars(False)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        _show_bars(had_bars)


def _show_bars(wanted: bool) -> None:
    switch: Callable[[], None] = (
        transformers_logging.enable_progress_bar
        if wanted
        else transformers_logging.disable_progress_bar
    )
    switch()
