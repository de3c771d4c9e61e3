"""Static embeddings of an encoder by Model2Vec: a vector per token, a text is their mean.

Tulkens and van Dongen 2024, "Model2Vec: Fast State-of-the-Art Static Embeddings",
https://github.com/MinishLab/model2vec: each token goes through the encoder once, then principal
components and weights by frequency. It needs the extra `baselines`.
"""

import importlib
import io
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from raykd.errors import InputError
from raykd.evaluation.baselines.embeddings import Embed
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.threads import one_thread

# Principal components, the default of Model2Vec.
NUM_DIMENSIONS = 256


def check_static_installed() -> None:
    """Check that Model2Vec can be imported.

    Raises:
        InputError: it is not installed.
    """
    try:
        importlib.import_module("model2vec.distill")
    except ImportError:
        raise InputError(
            "variants: 'static' needs the package model2vec, which is not installed; pip install "
            '".[baselines]", or remove the variant'
        ) from None


def make_static(model: str, folder: Path) -> None:
    """Make static embeddings of a pretrained encoder, and write them to `folder`.

    Args:
        model: model reference, see `resolve_model`.
        folder: folder to write.

    Raises:
        InputError: Model2Vec cannot read the model's tokenizer.
    """
    from model2vec.distill import distill_from_model  # an extra

    # The classifier is random and not used.
    body: Any = load_encoder(model, num_labels=1).model.base_model
    tokenizer = load_tokenizer(model)
    try:
        # Its progress bar would mix with ours.
        with one_thread(), redirect_stderr(io.StringIO()):
            static = distill_from_model(
                body,
                tokenizer,
                pca_dims=NUM_DIMENSIONS,
                quantize_to="float32",
                device="cpu",
            )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(
            f"variants: 'static': Model2Vec cannot make static embeddings of {model} "
            f"({type(error).__name__}: {error}); remove the variant"
        ) from error
    static.save_pretrained(folder)


def load_static(folder: Path) -> tuple[Embed, int]:
    """Load static embeddings that `make_static` wrote, and the number of their parameters."""
    from model2vec import StaticModel  # an extra

    model = StaticModel.from_pretrained(str(folder))
    embed: Embed = lambda texts: model.encode(list(texts), use_multiprocessing=False)  # noqa: E731
    return embed, model.embedding.size
