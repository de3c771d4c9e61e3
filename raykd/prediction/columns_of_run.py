"""Number of texts per row that the student of a run reads."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from raykd.errors import InputError
from raykd.tasks.store import task_folder_of


def check_columns_of_run(reference: str, text_columns: Sequence[str]) -> None:
    """Refuse one text per row for a student of pairs, and two for a student of single texts.

    Args:
        reference: run directory, or a cross-validation's; nothing is known of other models.
        text_columns: columns of the text.

    Raises:
        InputError: names both numbers and the remedy.
    """
    run = Path(reference).expanduser()
    task = task_folder_of(run)
    if task is None:
        return
    second = pq.read_table(task / "train.parquet", columns=["sentence2"])["sentence2"]
    num_read = 1 if second.null_count == len(second) else 2
    if num_read != len(text_columns):
        kinds = {1: "one text", 2: "a pair of texts"}
        raise InputError(
            f"predict: a row of the task of {reference} is {kinds[num_read]}, and the text "
            f"columns name {kinds[len(text_columns)]} ({', '.join(text_columns)}); name "
            f"{'both columns' if num_read == 2 else 'one column'} with --text-columns, or, if "
            f"this is intended, give the model's folder, {run / 'student'}"
        )
