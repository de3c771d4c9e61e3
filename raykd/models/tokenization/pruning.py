"""Models without the word embeddings of tokens that a text does not contain.

Word embeddings are most of a small student's weights, and a text of one subject contains a part of
the vocabulary. Single characters, special tokens and, so that positions stay the same, all tokens
before the padding token are kept: other text is cut into smaller pieces of words, not lost.

A tokenizer that takes the longest matching piece (WordPiece) or the most probable pieces (Unigram)
cuts the text as before: the chosen pieces are kept, and their rivals are a part of those they were
preferred to. A word that has no pieces at all may get some. Byte-pair encoding (BPE) builds its
pieces from others that appear in no text, and is refused.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from raykd.errors import InputError
from raykd.models.encoder import load_encoder, load_tokenizer, save_tokenizer

_PRUNABLE = ("WordPiece", "Unigram")
_CONTINUING = "##"
_WORD_START = "\u2581"
# Texts per call of the tokenizer.
_TEXTS_AT_ONCE = 1000


def check_prunable(model: str) -> None:
    """Check that tokens of a model's vocabulary can be left out.

    Raises:
        InputError: its tokenizer is of another kind, or its embeddings are no plain table.
    """
    tokenizer = load_tokenizer(model)
    kind = "slow"
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        kind = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["type"]
    if kind not in _PRUNABLE:
        raise InputError(
            f"model {model}: its tokenizer is of the kind {kind}, and tokens can be left out of "
            f"{' and '.join(_PRUNABLE)} only; export the model with its whole vocabulary"
        )
    encoder = load_encoder(model).model
    if type(encoder.get_input_embeddings()) is not nn.Embedding:
        raise InputError(
            f"model {model}: its word embeddings are no plain table; export the model with its "
            "whole vocabulary"
        )


def count_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], num_tokens: int
) -> NDArray[np.int64]:
    """Count each token of a vocabulary in texts, (num_tokens,); texts are not truncated."""
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    counts = np.zeros(num_tokens, np.int64)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        rows = backend.encode_batch(list(texts[start : start + _TEXTS_AT_ONCE]))
        for row in rows:
            np.add.at(counts, row.ids, 1)
    return counts


def kept_tokens(model: str, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ids of the tokens to keep, ascending.

    Args:
        model: model reference, see `resolve_model`.
        counts: result of `count_tokens`.
    """
    tokenizer = load_tokenizer(model)
    kept = counts > 0
    kept[: (tokenizer.pad_token_id or 0) + 1] = True
    kept[[token for token in tokenizer.all_special_ids if token < len(kept)]] = True
    for text, token in tokenizer.get_vocab().items():
        if token < len(kept) and len(text.removeprefix(_CONTINUING).removeprefix(_WORD_START)) <= 1:
            kept[token] = True
    return np.flatnonzero(kept)


def write_pruned(model: str, kept: NDArray[np.int64], folder: Path) -> None:
    """Write a model and its tokenizer with some tokens of its vocabulary only.

    Args:
        model: model reference, see `resolve_model`.
        kept: ids of the tokens to keep, ascending, see `kept_tokens`.
        folder: folder to write.
    """
    encoder, tokenizer = load_encoder(model), load_tokenizer(model)
    table = encoder.model.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    places = {int(token): place for place, token in enumerate(kept)}
    part = nn.Embedding(len(kept), table.embedding_dim, table.padding_idx)
    part.weight = nn.Parameter(table.weight.detach()[torch.from_numpy(kept)].clone())
    encoder.model.set_input_embeddings(part)
    config = encoder.model.config
    config.vocab_size = len(kept)
    for name, value in config.to_dict().items():
        if name.endswith("_token_id") and isinstance(value, int):
            setattr(config, name, places.get(value))
    encoder.save(folder)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    state = _without(json.loads(tokenizer.backend_tokenizer.to_str()), places)
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    pruned = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # it has no types
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        truncation_side=tokenizer.truncation_side,
        **special,
    )
    save_tokenizer(pruned, folder)


def _without(state: dict[str, Any], places: Mapping[int, int]) -> dict[str, Any]:
    """State of a tokenizer with some of its tokens only, which get other ids.

    Args:
        state: as `tokenizers` writes it.
        places: new id of each token that is kept.
    """
    model = state["model"]
    vocabulary = model["vocab"]
    if model["type"] == "WordPiece":
        model["vocab"] = {text: places[i] for text, i in vocabulary.items() if i in places}
    else:
        model["vocab"] = [entry for i, entry in enumerate(vocabulary) if i in places]
        if model.get("unk_id") is not None:
            model["unk_id"] = places[model["unk_id"]]
    state["added_tokens"] = [
        {**token, "id": places[token["id"]]}
        for token in state["added_tokens"]
        if token["id"] in places
    ]
    if state["post_processor"] is not None:
        _renumber(state["post_processor"], places)
    state["truncation"] = state["padding"] = None
    return state


def _renumber(processor: dict[str, Any], places: Mapping[int, int]) -> None:
    """Give the special tokens that a post-processor adds their new ids."""
    for one in processor.get("processors", ()):
        _renumber(one, places)
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [places[i] for i in token["ids"]]
    for name in ("cls", "sep"):
        if name in processor:
            text, token = processor[name]
            processor[name] = [text, places[token]]
