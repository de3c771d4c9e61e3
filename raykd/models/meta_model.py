"""Meta models: models without weights on the device `meta`, for checks before loading."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from raykd.errors import InputError, reason_of
from raykd.models.encoder import Encoder, quiet_transformers
from raykd.models.families.classes import classifier_options, name_classes
from raykd.models.masked_lm import MaskedLm, check_family, load_special_tokens
from raykd.models.resolve import resolve_model, weights_files


def load_meta_model(
    reference: str, *, num_labels: int | None = None, label_names: Sequence[str] = ()
) -> Encoder:
    """Create a classifier without weights on the device `meta`.

    Args:
        reference: see `resolve_model`.
        num_labels: outputs of the classifier, 1 for regression; None for the saved number.
        label_names: names of the classes in order; empty for the saved names.

    Raises:
        InputError: the model cannot be found, or is of no known family.
    """
    kind = "a sequence classifier"
    model = _meta_model(reference, AutoModelForSequenceClassification, kind, num_labels)
    if num_labels is not None:
        name_classes(model.config, label_names)
    return Encoder(model).eval()


def load_meta_masked_lm(reference: str) -> MaskedLm:
    """Create a masked language model without weights, with its tokenizer's special tokens.

    Raises:
        InputError: the model cannot be found, is of no known family, or has no mask token.
    """
    model = _meta_model(reference, AutoModelForMaskedLM, "a masked language model")
    return MaskedLm(model, load_special_tokens(reference)).eval()


def _meta_model(
    reference: str, auto_class: Any, kind: str, num_labels: int | None = None
) -> PreTrainedModel:
    folder = resolve_model(reference)
    try:
        options = classifier_options(folder, num_labels)
        for path in weights_files(folder, reference):
            with safe_open(path, "pt"):  # a truncated file does not open
                pass
        with quiet_transformers():
            config = AutoConfig.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True, **options
            )
        if auto_class is AutoModelForMaskedLM:
            check_family(reference, config)
        make_model: Callable[..., PreTrainedModel] = auto_class.from_config
        with torch.device("meta"):
            return make_model(config, dtype=torch.float32)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged file raises many types
        raise InputError(
            f"model {reference}: cannot be made as {kind}: {reason_of(error)}"
        ) from None
