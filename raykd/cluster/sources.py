"""Sources that Ray Data reads: files, tables of other systems, the Hugging Face hub."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import Dataset as Dataset

from raykd.cluster.connection import connect
from raykd.cluster.datasets import shown
from raykd.errors import InputError

_BATCH_ROWS = 4096


def read(name: str, arguments: Mapping[str, Any]) -> Dataset:
    """Open a source by the reader of Ray Data with this name, or a dataset of the Hub.

    Args:
        name: name of the reader, such as "parquet", or "huggingface".
        arguments: its arguments.

    Raises:
        InputError: a package is missing, or the source cannot be opened.
    """
    connect()
    try:
        if name == "huggingface":
            return _hugging_face(**arguments)
        if name == "webdataset":
            # The default decoder fails on members that it would have to unpickle.
            arguments = {**arguments, "decoder": None}
        return getattr(ray.data, f"read_{name}")(**arguments)  # type: ignore[no-any-return]  # by name
    except ImportError as error:
        raise InputError(
            f"the reader {name!r} needs a package that is not installed ({error}); install it on "
            "every node"
        ) from error
    except InputError:
        raise
    except Exception as error:
        # Every reader has errors of its own.
        raise InputError(f"the reader {name!r} cannot open its source: {shown(error)}") from error


def is_dataset(value: object) -> bool:
    """Return whether a value is a dataset of Ray Data."""
    return isinstance(value, Dataset)


def read_parquet(folder: Path) -> Dataset:
    """Open Parquet files that raykd wrote."""
    connect()
    return ray.data.read_parquet(str(folder.absolute()))


def _hugging_face(
    path: str, split: str, config: str | None = None, revision: str | None = None
) -> Dataset:
    import datasets as hugging_face

    if revision is None and not Path(path).is_dir():
        raise InputError(
            f"the dataset {path!r} of the Hugging Face hub needs a revision, a commit or tag, so "
            "that a run can be repeated; if it is a folder, correct its path"
        )
    streamed = hugging_face.load_dataset(
        path, config, split=split, revision=revision, streaming=True
    )
    num_shards = streamed.num_shards

    # Not `ray.data.from_huggingface`: it reads the hub's current Parquet copy of any dataset of the
    # same name, without the revision.
    def rows_of_shard(batch: pa.Table) -> Iterator[pa.Table]:
        for number in batch["shard"].to_pylist():
            shard = streamed.shard(num_shards, number)
            yield from shard.with_format("arrow").iter(_BATCH_ROWS)

    shards = ray.data.from_arrow([pa.table({"shard": [number]}) for number in range(num_shards)])
    return shards.map_batches(rows_of_shard, batch_size=None, batch_format="pyarrow")
