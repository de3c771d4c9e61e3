"""Arguments of the functions: paths and datasets."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

StrPath = str | PathLike[str]


def is_dataset(value: object) -> bool:
    """Check whether a value is a dataset of Ray Data."""
    # Its type is known by name, so that a search of files does not import Ray Data here.
    return type(value).__module__.startswith("ray.data")


def listed_paths(paths: StrPath | Sequence[StrPath]) -> list[str]:
    """List one path or several as strings."""
    if isinstance(paths, str | PathLike):
        return [str(paths)]
    return [str(path) for path in paths]


def optional_path(out: StrPath | None) -> Path | None:
    """Convert an output path, if there is one."""
    return None if out is None else Path(out)
