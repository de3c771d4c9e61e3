"""Transformer classifiers of all families with a common output: logits, hidden states, relations.

Shapes: B batch, L tokens, C classes (1: regression), d width, n layers.
"""

import inspect
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from raykd.errors import InputError, reason_of
from raykd.models.families.capture import first_outputs, input_of, outputs_of
from raykd.models.families.classes import MULTI_LABEL, classifier_options, name_classes
from raykd.models.families.classifier import reorder_classes
from raykd.models.families.layers import (
    KNOWN_FAMILIES,
    Projections,
    RelationVectors,
    blocks_of,
    projections_of,
)
from raykd.models.resolve import TOKENIZER_FILES, resolve_model, weights_files

# Options for loading models: no remote code, no pickles, only resolved local files.
LOADING: dict[str, Any] = {
    "dtype": torch.float32,
    "use_safetensors": True,
    "trust_remote_code": False,
    "local_files_only": True,
    "output_loading_info": True,
}


class EncoderOutput(NamedTuple):
    """Output of a forward pass; the dictionaries hold the requested layers."""

    logits: Tensor  # (B, C) float32
    hidden_states: dict[int, Tensor]  # (B, L, d); layer 0 is the embedding output
    relation_vectors: dict[int, RelationVectors]


class Encoder(nn.Module):
    """A Hugging Face sequence classifier as teacher or student.

    Args:
        model: an `AutoModelForSequenceClassification`; one label means regression.

    Raises:
        InputError: its configuration lacks a size, or it has no table of word embeddings.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        sizes = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
        if missing := [name for name in sizes if getattr(model.config, name, None) is None]:
            raise InputError(
                f"model type {model.config.model_type!r}: its configuration has no "
                f"{', '.join(missing)}, which a text encoder has; use a {KNOWN_FAMILIES}"
            )
        try:
            table = getattr(model.get_input_embeddings(), "weight", None)
        except NotImplementedError:
            table = None
        if not isinstance(table, Tensor):
            raise InputError(
                f"model type {model.config.model_type!r}: it has no table of word embeddings, "
                f"which a text encoder has; use a {KNOWN_FAMILIES}"
            )
        self.model = model
        self._takes_token_types = takes_token_types(model)

    @property
    def num_labels(self) -> int:
        """Number of classes, or 1 for regression."""
        num_labels = self.model.config.num_labels
        assert num_labels is not None
        return num_labels

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes in order; empty for regression."""
        names = sorted((self.model.config.id2label or {}).items())
        return tuple(str(name) for _, name in names) if self.num_labels > 1 else ()

    @property
    def is_multi_label(self) -> bool:
        """True if a row has any number of the classes, and probabilities are sigmoids."""
        return self.num_labels > 1 and self.model.config.problem_type == MULTI_LABEL

    @property
    def num_layers(self) -> int:
        """Number of transformer layers, without the embeddings."""
        return int(self.model.config.num_hidden_layers)

    @property
    def hidden_size(self) -> int:
        """Width d of the hidden states."""
        return int(self.model.config.hidden_size)

    @property
    def num_heads(self) -> int:
        """Attention heads per layer."""
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
            attention_mask: (B, L), 1 for tokens, 0 for padding on the right; None for no padding.
            token_type_ids: (B, L); families without token types ignore them.
            word_embeddings: (B, L, e), used instead of `embed(input_ids)`.
            layers: layers whose hidden states to return: 0 is the embedding output, 1 to n are the
                transformer layers.
            relation_layers: layers, from 1, whose relation vectors to return.

        Raises:
            InputError: the model has no such layer, or its family's projections are not known.
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
        # Longformer pads texts internally to a multiple of its attention window.
        length = input_ids.size(1)
        return EncoderOutput(
            logits=output.logits.float(),
            hidden_states={
                number: state[0] if state[0].size(1) == length else state[0][:, :length]
                for number, state in zip(numbers, states, strict=True)
            },
            relation_vectors={
                number: maps.vectors([parts[index] for index in sorted(parts)])
                for number, maps, parts in zip(relation_numbers, projections, vectors, strict=True)
            },
        )

    def _state(self, layer: int) -> AbstractContextManager[Mapping[int, Tensor]]:
        """Context manager that collects, as item 0, the hidden states after a layer.

        They are the next layer's input, so that modules between two layers belong to the first (a
        convolution in DeBERTa-v2 xlarge); the last layer's are the encoder's output, after a final
        norm if the family has one (ModernBERT, EuroBERT, MegatronBERT).
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
        """Relation vectors of one layer, from 1; later layers are not computed.

        Args:
            input_ids: (B, L); see `forward`.
            attention_mask: (B, L).
            token_type_ids: (B, L).
            layer: layer number.

        Raises:
            InputError: see `forward`.
        """
        modules, vectors = self.projections(layer)
        return vectors(
            first_outputs(modules, lambda: self(input_ids, attention_mask, token_type_ids))
        )

    def embed(self, input_ids: Tensor) -> Tensor:
        """Word embeddings of tokens, (B, L, e), before positions and normalization."""
        embedded: Tensor = self.model.get_input_embeddings()(input_ids)
        return embedded

    @property
    def embedding_weight(self) -> Tensor:
        """Word embeddings of the whole vocabulary, (V, e)."""
        weight = self.model.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight

    def block(self, layer: int) -> nn.Module:
        """Transformer layer by number, from 1.

        Raises:
            InputError: there is no such layer, or the family's layers are not known.
        """
        if not 1 <= layer <= self.num_layers:
            raise InputError(
                f"layer {layer} of a model with {self.num_layers} layers: "
                f"choose one from 1 to {self.num_layers}"
            )
        return self.blocks()[layer - 1]

    def blocks(self) -> nn.ModuleList:
        """Transformer layers, first to last.

        Raises:
            InputError: the family's layers are not known.
        """
        return blocks_of(self.model)

    def projections(self, layer: int) -> Projections:
        """Linear maps to query, key and value of a layer, from 1.

        Raises:
            InputError: there is no such layer, or its projections are not known.
        """
        return projections_of(self.model, self.block(layer))

    def reorder_classes(self, order: Sequence[int]) -> None:
        """Permute the classifier's weights so that class order[i] becomes class i; keep the names.

        Raises:
            InputError: the classifier's output layer cannot be found.
        """
        reorder_classes(self.model, order)

    def save(self, folder: Path) -> None:
        """Write configuration and safetensors for `AutoModelForSequenceClassification`."""
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
        num_labels: outputs of the classifier, 1 for regression; a missing classifier, or one of
            another size, is initialized at random. None to require the saved classifier.
        label_names: names of the classes in order, saved with the model.
        seed: seed of a random classifier; the process's random state is kept.

    Raises:
        InputError: the model cannot be found or read, or lacks a required classifier.
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
    """Write a tokenizer's files, independent of its earlier calls."""
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        # Reset truncation and padding of the last call, which would be saved.
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


def load_tokenizer(reference: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer in a model's folder.

    Raises:
        InputError: the model cannot be found, or has no tokenizer files.
    """
    folder = resolve_model(reference)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(
            f"model {reference}: no tokenizer in {folder} (one of {', '.join(TOKENIZER_FILES)}); "
            "save the tokenizer in the model's folder"
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except MemoryError:
        raise
    except Exception as error:  # damaged files raise many types, a plain Exception among them
        raise InputError(
            f"model {reference}: its tokenizer cannot be loaded: {reason_of(error)}"
        ) from None
    return tokenizer


def _check_weights(
    reference: str, model: PreTrainedModel, random: set[str], *, needs_head: bool
) -> None:
    """Refuse an encoder with random weights, and a random classifier if a trained one is needed."""
    # A sentence encoder may lack the pooler that classifiers use.
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
    """True if a model uses token types; False for DistilBERT, ModernBERT and RoBERTa."""
    return (
        "token_type_ids" in inspect.signature(model.forward).parameters
        and getattr(model.config, "type_vocab_size", 0) > 1
    )


@contextmanager
def loading_quietly(reference: str, kind: str, seed: int) -> Iterator[None]:
    """Context manager for loading a model: seeds random weights and translates errors.

    The process's random state is kept.

    Raises:
        InputError: the files are no such model.
    """
    generator_state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        with quiet_transformers():
            yield
    except MemoryError:
        raise
    except Exception as error:  # as for tokenizers
        raise InputError(
            f"model {reference}: cannot be loaded as {kind}: {reason_of(error)}"
        ) from None
    finally:
        torch.set_rng_state(generator_state)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Context manager that silences transformers (`_check_weights` checks missing weights)."""
    verbosity = transformers_logging.get_verbosity()
    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    _show_bars(False)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        _show_bars(had_bars)


def _show_bars(show: bool) -> None:
    switch: Callable[[], None] = (
        transformers_logging.enable_progress_bar
        if show
        else transformers_logging.disable_progress_bar
    )
    switch()
