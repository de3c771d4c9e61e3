"""Settings of a search: its ranker, and the sections that the rankers read."""

from typing import Literal, Self

from pydantic import Field, model_validator

from raykd.config import Config
from raykd.retrieval.bm25.scoring import Bm25Config
from raykd.retrieval.dense.config import DenseConfig
from raykd.retrieval.fusion import FusionConfig
from raykd.retrieval.hits import MAX_TOP_K
from raykd.retrieval.queries import Keywords, StopWords
from raykd.text.analyzer import AnalyzerConfig

Ranker = Literal["bm25", "dense", "hybrid"]


class RetrievalConfig(Config):
    """Ranking of the units for each query.

    `dense` and `fusion` are sections of the rankers that read embeddings; `keywords`,
    `keyword_stop_words`, `bm25` and `analyzer` of those that read terms.
    """

    ranker: Ranker = Field(
        "bm25",
        description="bm25: exact BM25 on terms; dense: embeddings; hybrid: both, fused by their "
        "ranks.",
    )
    top_k: int = Field(
        ge=1,
        le=MAX_TOP_K,
        description="Hits per query. Liu et al. 2022 take 10 (MNLI) to 1000 (RTE) from a corpus "
        "of 160 GB.",
    )
    keywords: Keywords = Field(
        "rake",
        description="Queries of terms: rake (the sentence's RAKE keywords, as in TLM's code) or "
        "none (the whole sentence).",
    )
    keyword_stop_words: StopWords = Field(
        "nltk",
        description="Words at which RAKE ends a keyword phrase: nltk (NLTK's English list, as "
        "rake-nltk 1.0.6 takes it), raykd (a longer list of English function words), or a list of "
        "words.",
    )
    bm25: Bm25Config = Field(
        Bm25Config(),
        description="Parameters of BM25; the defaults are those of Lucene and Elasticsearch.",
    )
    analyzer: AnalyzerConfig = Field(
        AnalyzerConfig(),
        description="Processing of words after lower-casing: stop words and stemming.",
    )
    dense: DenseConfig | None = Field(
        None,
        description="Encoder and index of a search by embeddings; required by dense and hybrid.",
    )
    fusion: FusionConfig = Field(
        FusionConfig(), description="How hybrid joins the two rankings (reciprocal rank fusion)."
    )

    @property
    def query_keywords(self) -> Keywords:
        """Keyword extraction of the queries; a dense search uses the whole sentences."""
        return "none" if self.ranker == "dense" else self.keywords

    @model_validator(mode="after")
    def _keys_of_the_ranker(self) -> Self:
        for key, rankers in _RANKERS_OF_KEYS.items():
            default = type(self).model_fields[key].default
            if self.ranker not in rankers and getattr(self, key) != default:
                raise ValueError(
                    f"ranker {self.ranker!r} does not read the key {key!r}; remove it, or set "
                    f"ranker: {' or '.join(rankers)}"
                )
        if self.ranker in _RANKERS_OF_KEYS["dense"] and self.dense is None:
            raise ValueError(
                f"ranker {self.ranker!r} needs the section dense, with the model that embeds: "
                "dense: {model: ...}"
            )
        return self


# The keys that not all rankers read.
_RANKERS_OF_KEYS = {
    "keywords": ("bm25", "hybrid"),
    "keyword_stop_words": ("bm25", "hybrid"),
    "bm25": ("bm25", "hybrid"),
    "analyzer": ("bm25", "hybrid"),
    "dense": ("dense", "hybrid"),
    "fusion": ("hybrid",),
}
