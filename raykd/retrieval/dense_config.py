"""Settings of a search by embeddings: the encoder and the index."""

from typing import Literal, Self

from pydantic import Field, model_validator

from raykd.config import Config

Metric = Literal["inner_product", "l2"]


class FlatConfig(Config):
    """Every unit is looked at: exact, and the same for any shards."""

    name: Literal["flat"] = "flat"


class IvfConfig(Config):
    """Units in lists around centroids, of which the nearest are looked at; not exact.

    A shard has at most one list for 39 units, as FAISS needs so many to train it.
    """

    name: Literal["ivf"] = "ivf"
    num_lists: int = Field(256, ge=1)
    num_probes: int = Field(16, ge=1)

    @model_validator(mode="after")
    def _enough_lists(self) -> Self:
        if self.num_probes > self.num_lists:
            raise ValueError(
                f"num_probes {self.num_probes}: there are only num_lists {self.num_lists} to look "
                "at; lower it"
            )
        return self


class HnswConfig(Config):
    """A graph of neighbours, walked towards the query (Malkov and Yashunin 2016); not exact."""

    name: Literal["hnsw"] = "hnsw"
    num_neighbours: int = Field(32, ge=2)
    ef_construction: int = Field(80, ge=1)
    ef_search: int = Field(64, ge=1)


class DenseConfig(Config):
    """The encoder of units and queries, and how the nearest are found.

    `model` is a folder, package:NAME/FOLDER, or a name on the hub. Prefixes are put before the
    texts, as some models want it ("query: ").
    """

    model: str
    pooling: Literal["mean", "cls"] = "mean"
    normalise: bool = True
    metric: Metric = "inner_product"
    max_length: int = Field(128, ge=3)
    batch_size: int = Field(32, ge=1)
    query_prefix: str = ""
    unit_prefix: str = ""
    use_gpu: bool = False
    index: FlatConfig | IvfConfig | HnswConfig = Field(FlatConfig(), discriminator="name")
