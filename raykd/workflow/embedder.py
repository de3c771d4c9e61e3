"""Encoder of a dense search."""

from pathlib import Path
from typing import TYPE_CHECKING

from raykd.cluster import capacity
from raykd.config import absolute, is_path
from raykd.errors import InputError
from raykd.retrieval.config import RetrievalConfig

if TYPE_CHECKING:
    from raykd.models.embedding import TextEmbedder


def load_embedder(
    key: str, config: RetrievalConfig, *, use_gpu: bool = False
) -> "TextEmbedder | None":
    """Load the encoder of `config.dense`; None if the ranker uses no embeddings.

    Args:
        key: key of the section `dense`, for error messages.
        config: settings of the search.
        use_gpu: use a GPU even if the section does not set it.

    Raises:
        InputError: the model cannot be found, has no weights or tokenizer, or does not read texts
            of `max_length`; there is no GPU where one is wanted.
    """
    section = config.dense
    if section is None:
        return None
    # Imported here, because it takes seconds and a BM25 search does not need it.
    from raykd.models.embedding import TextEmbedder

    use_gpu = use_gpu or section.use_gpu
    # A cluster of several machines may still grow.
    if use_gpu and capacity.num_nodes() == 1 and capacity.total_gpus() < 1:
        raise InputError(f"{key}: use_gpu is true, but Ray has no GPU; set use_gpu: false")
    return TextEmbedder.load(
        key,
        section.model,
        pooling=section.pooling,
        normalize=section.normalize,
        max_length=section.max_length,
        batch_size=section.batch_size,
        use_gpu=use_gpu,
    )


def with_absolute_model(config: RetrievalConfig, folder: Path) -> RetrievalConfig:
    """Replace a model path relative to `folder`, the folder of the recipe, by an absolute one."""
    section = config.dense
    # Other references are names of installed packages or hub names.
    if section is None or not is_path(folder, section.model):
        return config
    model = absolute(folder, section.model)
    return config.model_copy(update={"dense": section.model_copy(update={"model": model})})
