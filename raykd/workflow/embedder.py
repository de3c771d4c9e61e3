"""The encoder of a dense search: where the search meets the models."""

from pathlib import Path
from typing import TYPE_CHECKING

from raykd.cluster import tasks as cluster
from raykd.config import absolute, is_path
from raykd.errors import InputError
from raykd.retrieval.config import RetrievalConfig

if TYPE_CHECKING:
    from raykd.models.embedding import TextEmbedder


def load_embedder(
    key: str, config: RetrievalConfig, *, use_gpu: bool = False
) -> "TextEmbedder | None":
    """The encoder that `config.dense` names; None where the ranker reads no embeddings.

    Args:
        key: of the section `dense`, for the user.
        config: settings of the search.
        use_gpu: also where the section does not ask for it.

    Raises:
        InputError: the model cannot be found, has no weights or tokenizer, or does not read texts
            of `max_length`; there is no GPU where one is wanted.
    """
    section = config.dense
    if section is None:
        return None
    # Seconds of imports, which a search of terms is spared.
    from raykd.models.embedding import TextEmbedder

    use_gpu = use_gpu or section.use_gpu
    # A cluster of more machines may grow.
    if use_gpu and cluster.num_nodes() == 1 and cluster.total_gpus() < 1:
        raise InputError(f"{key}: a GPU is to embed, and Ray has none here; set use_gpu: false")
    return TextEmbedder.load(
        key,
        section.model,
        pooling=section.pooling,
        normalize=section.normalise,
        max_length=section.max_length,
        batch_size=section.batch_size,
        use_gpu=use_gpu,
    )


def with_absolute_model(config: RetrievalConfig, folder: Path) -> RetrievalConfig:
    """The settings, with a model that stands beside the recipe, in `folder`, by its whole path."""
    section = config.dense
    # Any other reference is a name: of an installed package, or on the hub.
    if section is None or not is_path(folder, section.model):
        return config
    model = absolute(folder, section.model)
    return config.model_copy(update={"dense": section.model_copy(update={"model": model})})
