"""Settings of dense retrieval: the encoder and the index."""

from typing import Literal, Self

from pydantic import Field, model_validator

from raykd.config import Config

Metric = Literal["inner_product", "l2"]


class FlatConfig(Config):
    """Exact index; the hits are the same for any shards."""

    name: Literal["flat"] = Field("flat", description="Exact search: every unit is compared.")


class IvfConfig(Config):
    """Inverted lists of units around centroids; approximate.

    A shard has at most one list per 39 units, since FAISS needs as many to train it.
    """

    name: Literal["ivf"] = Field(
        "ivf",
        description="Approximate search: units are in lists around centroids, and only the "
        "nearest lists are searched.",
    )
    num_lists: int = Field(256, ge=1, description="Lists per shard, at most one per 39 units.")
    num_probes: int = Field(16, ge=1, description="Lists searched per query; at most num_lists.")

    @model_validator(mode="after")
    def _enough_lists(self) -> Self:
        if self.num_probes > self.num_lists:
            raise ValueError(
                f"num_probes {self.num_probes} is larger than num_lists {self.num_lists}; lower it"
            )
        return self


class HnswConfig(Config):
    """Graph of neighbors; approximate."""

    name: Literal["hnsw"] = Field(
        "hnsw",
        description="Approximate search: a graph of neighbors, walked towards the query (Malkov "
        "and Yashunin 2016).",
    )
    num_neighbors: int = Field(32, ge=2, description="Neighbors per unit in the graph.")
    ef_construction: int = Field(
        80, ge=1, description="Candidates considered when a unit is added to the graph."
    )
    ef_search: int = Field(64, ge=1, description="Candidates considered when a query is searched.")


class DenseConfig(Config):
    """Encoder of units and queries, and the index of their embeddings."""

    model: str = Field(
        description="Encoder of units and queries: folder, package:NAME/FOLDER or hub name."
    )
    pooling: Literal["mean", "cls"] = Field(
        "mean", description="Embedding of a text: mean over its tokens, or cls (first token)."
    )
    normalize: bool = Field(
        True, description="Give embeddings length 1, so that the inner product is the cosine."
    )
    metric: Metric = Field(
        "inner_product",
        description="Similarity: inner_product (larger is nearer) or l2 (smaller distance is "
        "nearer).",
    )
    max_length: int = Field(
        128, ge=3, description="Tokens of a text that the encoder reads; the rest is cut."
    )
    batch_size: int = Field(32, ge=1, description="Texts per batch of the encoder.")
    query_prefix: str = Field(
        "", description='Text put before every query, as some models require ("query: ").'
    )
    unit_prefix: str = Field(
        "", description='Text put before every unit, as some models require ("passage: ").'
    )
    use_gpu: bool = Field(False, description="Encode on GPUs.")
    index: FlatConfig | IvfConfig | HnswConfig = Field(
        FlatConfig(),
        discriminator="name",
        description="Index of each shard: flat (exact), ivf or hnsw (faster, approximate).",
    )
