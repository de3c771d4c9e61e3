"""Splits of a task from the Hugging Face hub, or from a folder that `datasets` can load."""

from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from raykd.config import Config, is_path
from raykd.errors import InputError
from raykd.storage.locations import absolute_reference
from raykd.storage.manifest import digest_of, digest_of_directory
from raykd.storage.remote import hub

_BATCH_ROWS = 4096


class TaskDatasetConfig(Config):
    """A dataset with the splits of a task; its rows are streamed, no code of it is run."""

    path: str = Field(
        description="Name of a dataset of the Hugging Face hub, as in ORGANIZATION/NAME, or a "
        "folder."
    )
    config: str | None = Field(None, description="Configuration (subset) of the dataset.")
    revision: str | None = Field(
        None, description="Commit or tag, for repeatable runs; required for datasets of the hub."
    )
    train: str | None = Field("train", description="Split with the training rows.")
    dev: str | None = Field(
        None, description="Split on which models are scored and chosen, such as validation."
    )
    test: str | None = Field(None, description="Split that is scored once, at the end.")


def with_absolute_path(config: TaskDatasetConfig, folder: Path) -> TaskDatasetConfig:
    """Make the path absolute if it is a folder, relative to a recipe in `folder`."""
    if not is_path(folder, config.path):
        return config
    return config.model_copy(update={"path": absolute_reference(folder, config.path)})


def read_split(config: TaskDatasetConfig, split: Literal["train", "dev", "test"]) -> pa.Table:
    """Read the rows of a split; class numbers become the names that the dataset gives them.

    Raises:
        InputError: the revision is missing, the hub does not answer, or there is no such split.
    """
    # Imported here: the import takes most of a second, and files do not need it.
    import datasets as hugging_face

    name = getattr(config, split)
    is_folder = Path(config.path).is_dir()
    if not is_folder:
        if config.revision is None:
            raise InputError(
                f"task.dataset: {config.path!r} of the Hugging Face hub needs a revision, a commit "
                "or tag, so that a run can be repeated; if it is a folder, correct its path"
            )
        # Checked first, because `datasets` itself waits for half a minute.
        if problem := hub.problem_with(config.path, config.revision):
            raise InputError(
                f"task.dataset: {config.path!r} was looked for at the hub ({hub.endpoint()}) and "
                f"could not be read: {problem}; check name, revision and network, or give files "
                "with task.train and task.dev"
            )
    try:
        streamed = hugging_face.load_dataset(
            config.path, config.config, split=name, revision=config.revision, streaming=True
        )
        features = streamed.features
        batches = list(streamed.with_format("arrow").iter(_BATCH_ROWS))
        table = pa.concat_tables(batches, promote_options="permissive") if batches else None
    except Exception as error:
        # Which errors there are depends on the format of the dataset and on the hub's client.
        raise InputError(
            f"task.dataset: the split {name!r} of {config.path!r} cannot be read: "
            f"{hub.explained(error)}"
        ) from error
    if table is None:
        raise InputError(f"task.dataset: the split {name!r} of {config.path!r} has no rows")
    for column, feature in (features or {}).items():
        is_list = isinstance(feature, hugging_face.List)
        feature = feature.feature if is_list else feature
        if isinstance(feature, hugging_face.ClassLabel):
            table = _with_names(table, column, feature, f"the split {name!r} of {config.path!r}")
    return table


def digest_of_dataset(config: TaskDatasetConfig) -> str:
    """Digest of a folder's files; the revision pins the contents of a dataset of the hub."""
    folder = Path(config.path)
    if folder.is_dir():
        return digest_of_directory(folder)
    return digest_of([config.path, config.config, config.revision])


def _with_names(table: pa.Table, column: str, feature: Any, source: str) -> pa.Table:
    """Replace the numbers of classes, or lists of them, by their names; -1 means no label.

    Raises:
        InputError: a number is that of no class.
    """
    names: dict[int | None, str | None] = {None: None, -1: None, **dict(enumerate(feature.names))}
    values: list[Any] = []
    for row, cell in enumerate(table[column].to_pylist()):
        numbers = cell if isinstance(cell, list) else [cell]
        if wrong := [number for number in numbers if number not in names]:
            raise InputError(
                f"task.dataset: {source}: row {row}, column {column!r}: the class {wrong[0]}, and "
                f"there are {len(feature.names)}; correct the dataset"
            )
        found = [names[number] for number in numbers]
        values.append(found if isinstance(cell, list) else found[0])
    is_list = pa.types.is_nested(table.schema.field(column).type)
    position = table.schema.get_field_index(column)
    type_ = pa.list_(pa.string()) if is_list else pa.string()
    return table.set_column(position, column, pa.array(values, type_))
