"""Maximum text length of a model."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from raykd.errors import InputError, reason_of
from raykd.models.resolve import resolve_model

# Names of position embeddings: BERT and most others, GPT-2, BART.
_TABLES = ("position_embeddings", "wpe", "embed_positions")
# Tokens of a row where a model's files name no smaller limit.
_MAX_LENGTH = 512


def num_positions(reference: str) -> int | None:
    """Maximum number of tokens of a text; None for no limit (relative positions).

    Only its configuration is read.

    Raises:
        InputError: the model cannot be found, or its configuration not read.
    """
    folder = resolve_model(reference)
    make_model: Callable[..., PreTrainedModel] = AutoModelForSequenceClassification.from_config
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            model = make_model(config)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file raises many types
        raise InputError(
            f"model {reference}: its config.json cannot be read: {reason_of(error)}"
        ) from None
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in _TABLES and isinstance(module, nn.Embedding):
            # RoBERTa's positions start after that of padding, BART's at 2.
            padding = module.padding_idx
            first = getattr(module, "offset", 0) if padding is None else padding + 1
            return module.num_embeddings - int(first)
    return None


def trained_length(reference: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens per row with which a model was trained, as far as its files have it; at most 512."""
    limits = (tokenizer.model_max_length, num_positions(reference), _MAX_LENGTH)
    return min(limit for limit in limits if limit is not None)


def set_model_max_length(folder: Path, max_length: int) -> None:
    """Make a saved tokenizer cut texts to `max_length` tokens where the caller names no length."""
    path = folder / "tokenizer_config.json"
    if path.is_file():
        settings = json.loads(path.read_text(encoding="utf-8"))
        settings["model_max_length"] = max_length
        path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def check_max_length(key: str, max_length: int, reference: str) -> None:
    """Refuse texts longer than a model reads; `key` is the recipe key of the length.

    Raises:
        InputError: names the key, the model and its limit.
    """
    limit = num_positions(reference)
    if limit is not None and max_length > limit:
        raise InputError(
            f"{key} {max_length}: model {reference} reads at most {limit} tokens; "
            f"set it to {limit} or less"
        )
