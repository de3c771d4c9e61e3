"""Settings of a general corpus: its source, and how documents are cut into units."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from raykd.config import Config
from raykd.corpus.dataset.readers import ReaderConfig
from raykd.corpus.shards import MAX_BAD_FRACTION, SHARD_BYTES, Empty
from raykd.corpus.units import UnitsConfig
from raykd.storage.delimited import Layout, Quoting
from raykd.storage.locations import location_of


class CorpusConfig(Config):
    """Files of the corpus, and how documents are cut into units."""

    paths: tuple[str, ...] = Field(
        (),
        description="Files, folders and patterns with *, ?, [abc] and ** (any folders); local or "
        "s3://, gs://, az:// and hf:// URLs. Either paths or reader is required.",
    )
    reader: ReaderConfig | None = Field(
        None,
        description="A source that Ray Data reads, instead of paths: other file formats, tables of "
        "Delta Lake, Iceberg, Lance or Hudi, datasets of the Hugging Face hub. Its documents are "
        "copied once into the output directory while the corpus is cut into units.",
    )
    exclude: tuple[str, ...] = Field(
        (),
        description="Patterns of files and folders to leave out: of a name, or of a path (with /) "
        "relative to the given folder.",
    )
    text_column: str = Field(
        "text", description="Column or field of the text in tables and JSON lines."
    )
    columns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Names of the columns of CSV and TSV files without a header line.",
    )
    quoting: Quoting = Field(
        "auto",
        description="Whether quotation marks enclose fields: standard, none, or auto (CSV: yes; "
        "TSV: where every line is as a writer with quotes would write it).",
    )
    empty: Empty = Field(
        "skip",
        description="Documents whose text is null, empty or white space: skip and count them, or "
        "error.",
    )
    max_bad_fraction: float = Field(
        MAX_BAD_FRACTION,
        ge=0,
        le=1,
        description="Largest share of records that cannot be read (0 to 1); they are counted, and "
        "ingest stops above it.",
    )
    max_dropped_fraction: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Largest share of the documents with text that may be dropped whole because "
        "all their pieces have fewer than units.min_words words (0 to 1); ingest stops above it.",
    )
    units: UnitsConfig = Field(
        UnitsConfig(),
        description="How a document is cut into units, the passages that are retrieved.",
    )
    shard_bytes: int = Field(
        SHARD_BYTES,
        ge=1,
        description="Size of a shard in bytes of text; a shard is what one task reads.",
    )

    @field_validator("paths")
    @classmethod
    def _name_places(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            location_of(path)
        return paths

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.reader is None and not self.paths:
            raise ValueError("give paths, or a reader")
        if self.reader is not None:
            for key in ("paths", "exclude", "columns"):
                if getattr(self, key):
                    raise ValueError(f"reader and {key}: a reader has no {key}; leave one out")
        return self

    @property
    def layout(self) -> Layout:
        """Format options of CSV and TSV files."""
        return Layout(self.columns, self.quoting)
