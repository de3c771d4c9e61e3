"""Selection of augmented rows whose originals are in a run's train split."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raykd.errors import InputError
from raykd.storage.manifest import Draft, Manifest, digest_of_directory, digest_of_file, write_once
from raykd.storage.schemas import EXAMPLES_FILE
from raykd.tasks.store import read_task


def select_rows(augmented: Path, task_folder: Path, out: Path) -> Manifest:
    """Write `out/examples.parquet` with the augmented rows of the train split.

    Rows held out for tuning, and their variants, are excluded.

    Args:
        augmented: directory written by `pipeline.augment`.
        task_folder: task written by `tasks.store`.
        out: directory to write.

    Raises:
        InputError: the augmented rows were made from other rows or classes; names one.
    """
    path = augmented / EXAMPLES_FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file; run raykd augment --out {augmented}")
    inputs: Mapping[str, str] = {
        "augmented": digest_of_file(path),
        "task": digest_of_directory(task_folder),
    }

    def write(draft: Draft) -> None:
        rows, train = pq.read_table(path), read_task(task_folder).train
        _check_originals(path, rows, train)
        chosen = rows.filter(pc.is_in(rows["source_row_id"], value_set=train["row_id"]))
        pq.write_table(chosen, draft.directory / EXAMPLES_FILE, compression="zstd")
        draft.counts["num_examples"] = chosen.num_rows

    return write_once(out, "augmented_rows", {}, inputs, write)


def _check_originals(path: Path, rows: pa.Table, train: pa.Table) -> None:
    """Compare each train row with the original among its augmented rows."""
    sources = rows["source_row_id"].to_numpy()
    is_first = np.diff(sources, prepend=sources[:1] - 1) != 0
    originals = rows.filter(pa.array(is_first))
    positions = pc.index_in(train["row_id"], value_set=originals["source_row_id"])
    if positions.null_count:
        lost = train["row_id"][int(np.flatnonzero(positions.is_null())[0])].as_py()
        raise InputError(
            f"{path}: no rows for row {lost} of the train split; run raykd augment again "
            "on the file that task.train names"
        )
    compared = originals.take(positions)
    for column, reason in (
        ("sentence1", "it was made of another file"),
        ("sentence2", "it was made of another file"),
        ("label", "its classes are in another order: give raykd augment the task's --labels"),
    ):
        same = pc.fill_null(pc.equal(train[column], compared[column]), True)
        same = pc.and_(same, pc.equal(train[column].is_null(), compared[column].is_null()))
        if not pc.all(same).as_py():
            row = int(np.flatnonzero(~same.to_numpy(zero_copy_only=False))[0])
            raise InputError(
                f"{path}: {column} of row {train['row_id'][row].as_py()} is "
                f"{compared[column][row].as_py()!r:.60}, in the train split "
                f"{train[column][row].as_py()!r:.60}; {reason}; run raykd augment again"
            )
