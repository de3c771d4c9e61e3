"""Models of the right shape without weights, to check what fits before anything is loaded."""

from collections.abc import Callable

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from raykd.errors import InputError
from raykd.models.encoder import Encoder
from raykd.models.resolve import resolve_model, weights_files


def load_outline(reference: str) -> Encoder:
    """A model of the right shape without weights, on the device `meta`: to check what fits.

    Raises:
        InputError: the model cannot be found, or is of no known family.
    """
    folder = resolve_model(reference)
    try:
        for path in weights_files(folder, reference):
            with safe_open(path, "pt"):  # a truncated file does not open
                pass
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        make_model: Callable[..., PreTrainedModel] = AutoModelForSequenceClassification.from_config
        with torch.device("meta"):
            return Encoder(make_model(config, dtype=torch.float32)).eval()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"model {reference}: cannot be made as a sequence classifier: "
            f"{' '.join(str(error).split())}"
        ) from None
