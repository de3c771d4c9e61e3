"""Sources of a corpus that Ray Data reads: tables of other systems, hubs and archives.

The settings are plain data. Credentials come from the environment of every node, as for URLs.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pyarrow import fs
from pydantic import Field, field_validator

from raykd.config import Config, is_path
from raykd.storage.locations import (
    Remote,
    absolute_reference,
    explained,
    file_system_of,
    is_url,
    location_of,
)

_PATH_KEYS = ("paths", "uri", "path", "table_uri")
_SECRETS = ("secret", "password", "token", "credential", "access-key", "access_key")
_Paths = Annotated[tuple[str, ...], Field(min_length=1)]
_LISTED = ("s3", "gs", "az", "abfss")
_PATHS = "Files and folders, or URLs of object stores."


class ParquetReader(Config):
    """Parquet files, of which only the column of the text is read."""

    name: Literal["parquet"] = Field("parquet", description="Parquet files.")
    paths: _Paths = Field(description=_PATHS)


class JsonReader(Config):
    """JSON lines."""

    name: Literal["json"] = Field("json", description="JSON lines.")
    paths: _Paths = Field(description=_PATHS)


class CsvReader(Config):
    """CSV files with a header line."""

    name: Literal["csv"] = Field("csv", description="CSV files with a header line.")
    paths: _Paths = Field(description=_PATHS)


class OrcReader(Config):
    """ORC files."""

    name: Literal["orc"] = Field("orc", description="ORC files.")
    paths: _Paths = Field(description=_PATHS)


class AvroReader(Config):
    """Avro files."""

    name: Literal["avro"] = Field("avro", description="Avro files; needs the package fastavro.")
    paths: _Paths = Field(description=_PATHS)


class TFRecordsReader(Config):
    """TFRecord files of tf.train.Example."""

    name: Literal["tfrecords"] = Field(
        "tfrecords", description="TFRecord files; needs the package tensorflow or crc32c."
    )
    paths: _Paths = Field(description=_PATHS)


class WebDatasetReader(Config):
    """Tar archives of WebDataset; the column of the text is the suffix of its files."""

    name: Literal["webdataset"] = Field(
        "webdataset",
        description="Tar archives of WebDataset; text_column is the suffix of the files with the "
        "text, such as txt. Members are not unpickled or decoded otherwise than as UTF-8.",
    )
    paths: _Paths = Field(description=_PATHS)


class LanceReader(Config):
    """A Lance dataset."""

    name: Literal["lance"] = Field("lance", description="Lance dataset; needs the package pylance.")
    uri: str = Field(description="Folder or URL of the dataset.")
    version: int | None = Field(
        None, ge=1, description="Version to read, for repeatable runs. Default: the latest."
    )


class DeltaReader(Config):
    """A table of Delta Lake."""

    name: Literal["delta"] = Field(
        "delta", description="Delta Lake table; needs the package deltalake."
    )
    path: str = Field(description="Folder or URL of the table.")
    version: int | None = Field(
        None, ge=0, description="Version to read, for repeatable runs. Default: the latest."
    )


class HudiReader(Config):
    """A table of Apache Hudi."""

    name: Literal["hudi"] = Field("hudi", description="Apache Hudi table; needs the package hudi.")
    table_uri: str = Field(description="Folder or URL of the table.")


class IcebergReader(Config):
    """A table of Apache Iceberg."""

    name: Literal["iceberg"] = Field(
        "iceberg", description="Apache Iceberg table; needs the package pyiceberg."
    )
    table_identifier: str = Field(description="Table, as in database.table.")
    snapshot_id: int | None = Field(
        None, description="Snapshot to read, for repeatable runs. Default: the latest."
    )
    catalog_kwargs: dict[str, str] = Field(
        {},
        description="Properties of the catalog, such as name, type, uri and warehouse. Secrets "
        "belong into the environment (PYICEBERG_CATALOG__...).",
    )

    @field_validator("catalog_kwargs")
    @classmethod
    def _without_secrets(cls, values: dict[str, str]) -> dict[str, str]:
        for key in values:
            if any(part in key.lower() for part in _SECRETS):
                raise ValueError(
                    f"{key}: a recipe must not contain secrets; set the variable "
                    "PYICEBERG_CATALOG__NAME__KEY on every node"
                )
        return values


class HuggingFaceReader(Config):
    """A dataset of the Hugging Face hub, or a local folder that `datasets` can load."""

    name: Literal["huggingface"] = Field(
        "huggingface", description="Dataset of the Hugging Face hub, streamed, or a local folder."
    )
    path: str = Field(description="Name of the dataset, as in ORGANIZATION/NAME, or a folder.")
    config: str | None = Field(None, description="Configuration (subset) of the dataset.")
    split: str = Field("train", description="Split of the dataset.")
    revision: str | None = Field(
        None, description="Commit or tag, for repeatable runs; required for datasets of the hub."
    )


ReaderConfig = Annotated[
    AvroReader
    | CsvReader
    | DeltaReader
    | HudiReader
    | HuggingFaceReader
    | IcebergReader
    | JsonReader
    | LanceReader
    | OrcReader
    | ParquetReader
    | TFRecordsReader
    | WebDatasetReader,
    Field(discriminator="name"),
]


def references_of(reader: ReaderConfig) -> dict[str, list[str]]:
    """Paths and URLs of a reader as written, by key; for the hub, a name or a folder."""
    given = {key: getattr(reader, key, None) for key in _PATH_KEYS}
    return {
        key: list(value) if isinstance(value, tuple) else [value]
        for key, value in given.items()
        if value is not None
    }


def files_of(reader: ReaderConfig) -> list[tuple[str, int, int | None]]:
    """List the files of a reader with size in bytes and time of change in nanoseconds.

    A changed source is noticed by them. Names on the hub and URLs that raykd does not read itself
    have none.

    Raises:
        InputError: a store does not answer.
    """
    found: list[tuple[str, int, int | None]] = []
    for reference in (name for names in references_of(reader).values() for name in names):
        path = Path(reference)
        if reader.name == "huggingface" and not path.is_dir():
            continue
        if not is_url(reference):
            files = [path] if path.is_file() else sorted(path.rglob("*"))
            states = [(str(file), file.stat()) for file in files if file.is_file()]
            found += [(name, state.st_size, state.st_mtime_ns) for name, state in states]
        elif reference.partition("://")[0] in _LISTED:
            location = location_of(reference)
            assert isinstance(location, Remote)
            found += _objects_at(location)
    return found


def _objects_at(location: Remote) -> list[tuple[str, int, int | None]]:
    with explained(location):
        system = file_system_of(location)
        below = system.get_file_info(
            fs.FileSelector(location.key, recursive=True, allow_not_found=True)
        )
        infos = [system.get_file_info(location.key), *below]
    files = sorted((info for info in infos if info.is_file), key=lambda info: info.path)
    return [(info.path, info.size, info.mtime_ns) for info in files]


def with_absolute_paths(reader: ReaderConfig, folder: Path) -> ReaderConfig:
    """Make the paths of a reader absolute that are relative to a recipe in `folder`."""
    values: dict[str, str | tuple[str, ...]] = {}
    for key in _PATH_KEYS:
        value = getattr(reader, key, None)
        if isinstance(value, tuple):
            values[key] = tuple(absolute_reference(folder, reference) for reference in value)
        # The name of a dataset on the hub is no path.
        elif value is not None and (reader.name != "huggingface" or is_path(folder, value)):
            values[key] = absolute_reference(folder, value)
    return reader.model_copy(update=values)


def arguments_of(reader: ReaderConfig) -> dict[str, Any]:
    """The arguments of a reader, without its name and without what is not given."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in reader.model_dump(exclude={"name"}, exclude_none=True).items()
    }
