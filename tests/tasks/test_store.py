"""The stage `task`: skipped if completed, rerun if its settings or files changed."""

from pathlib import Path

import pytest

from raykd.errors import InputError
from raykd.tasks.config import TaskConfig
from raykd.tasks.store import hold_out, read_task, write_task

ROWS = "text,kind\na cat,cat\na dog,dog\n"


def config(**values):
    return TaskConfig.parse(
        {"name": "animals", "sentence_columns": ["text"], "label_column": "kind", **values},
        "recipe",
    )


@pytest.fixture
def files(tmp_path):
    """Write a train and a dev file of two rows each."""
    for split in ("train", "dev"):
        (tmp_path / f"{split}.csv").write_text(ROWS)
    return {split: str(tmp_path / f"{split}.csv") for split in ("train", "dev")}


def test_a_task_is_written_once(files, tmp_path):
    out = tmp_path / "task"
    first = write_task(config(**files), Path, out)
    written_at = (out / "train.parquet").stat().st_mtime_ns
    assert write_task(config(**files), Path, out) == first
    assert (out / "train.parquet").stat().st_mtime_ns == written_at


def test_a_removed_file_is_reported_even_if_the_task_is_completed(files, tmp_path):
    write_task(config(**files), Path, tmp_path / "task")
    Path(files["train"]).unlink()
    with pytest.raises(InputError, match=r"train\.csv: no such file"):
        write_task(config(**files), Path, tmp_path / "task")


def test_a_file_of_another_format_is_read_again(files, tmp_path):
    write_task(config(**files), Path, tmp_path / "task")
    as_tsv = tmp_path / "train.tsv"
    Path(files["train"]).rename(as_tsv)
    with pytest.raises(
        InputError, match=r"train\.tsv: its first line is a single column, 'text,kind'"
    ):
        write_task(config(**files | {"train": str(as_tsv)}), Path, tmp_path / "task")


def test_held_out_rows_are_removed_from_train(tmp_path):
    rows = [f"word {number},{'ab'[number % 2]}" for number in range(100)]
    (tmp_path / "all.csv").write_text("\n".join(["text,kind", *rows]))
    path = str(tmp_path / "all.csv")
    write_task(config(train=path, dev=path), Path, tmp_path / "task")
    hold_out(tmp_path / "task", 0.2, tmp_path / "held")
    task = read_task(tmp_path / "held")
    train, dev = (set(table["sentence1"].to_pylist()) for table in (task.train, task.dev))
    assert len(train) + len(dev) == len(train | dev) == 100
    assert 10 <= len(dev) <= 30


@pytest.mark.parametrize(("fraction", "num_taken"), [(1e-9, 0), (1 - 1e-9, 2)])
def test_a_task_too_small_to_hold_rows_out_is_refused(files, tmp_path, fraction, num_taken):
    write_task(config(**files), Path, tmp_path / "task")
    with pytest.raises(InputError, match=rf"of its 2 training rows takes {num_taken} of them; use"):
        hold_out(tmp_path / "task", fraction, tmp_path / "held")
    assert not (tmp_path / "held").exists()
