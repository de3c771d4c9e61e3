"""Selection of the augmented rows for adaptation: from the run's train split, labels checked."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_models import save_tiny_model

from raykd.augment.rows import select_rows
from raykd.errors import InputError
from raykd.models.encoder import load_tokenizer
from raykd.models.tokenization.tokens import tokenize_table
from raykd.storage.schemas import AUGMENTED, EXAMPLES_FILE, TRAINING_PAIRS
from raykd.tasks.config import TaskConfig
from raykd.tasks.store import hold_out, write_task

ROWS = [(f"first {row}", f"second {row}", float(row % 2)) for row in range(20)]


def write_augmented(folder, rows):
    """Write each row and one variant of it."""
    made = [
        (first + end, second, label, row)
        for row, (first, second, label) in enumerate(rows)
        for end in ("", " changed")
    ]
    columns = list(zip(*made, strict=True))
    folder.mkdir(exist_ok=True)
    table = pa.table([list(range(len(made))), *map(list, columns)], schema=AUGMENTED)
    pq.write_table(table, folder / EXAMPLES_FILE)
    return folder


@pytest.fixture
def task(tmp_path):
    names = ("sentence1", "sentence2", "label")
    table = pa.table(dict(zip(names, map(list, zip(*ROWS, strict=True)), strict=True)))
    pq.write_table(table, tmp_path / "rows.parquet")
    path = str(tmp_path / "rows.parquet")
    config = TaskConfig(name="own", train=path, dev=path, sentence_columns=names[:2])
    write_task(config, lambda reference: tmp_path / reference, tmp_path / "task")
    return tmp_path / "task"


def test_every_row_and_its_variants_are_kept(tmp_path, task):
    select_rows(write_augmented(tmp_path / "da", ROWS), task, tmp_path / "out")
    kept = pq.read_table(tmp_path / "out" / EXAMPLES_FILE)
    assert kept.num_rows == 40
    assert kept["label"].to_pylist() == [row % 2 for row in range(20) for _ in range(2)]


def test_variants_of_held_out_rows_are_removed(tmp_path, task):
    hold_out(task, 0.3, tmp_path / "less")
    select_rows(write_augmented(tmp_path / "da", ROWS), tmp_path / "less", tmp_path / "out")
    kept = pq.read_table(tmp_path / "out" / EXAMPLES_FILE)
    left = pq.read_table(tmp_path / "less" / "train.parquet")["row_id"].to_pylist()
    assert len(left) < 20
    assert sorted(set(kept["source_row_id"].to_pylist())) == left


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[:-1], ("row 19", "no rows for")),
        (lambda rows: [*rows[:3], ("other", "x", 0.0), *rows[4:]], ("row 3", "sentence1")),
        (lambda rows: [(a, b, 1 - label) for a, b, label in rows], ("row 0", "--labels")),
    ],
)
def test_rows_of_another_file_or_with_other_classes_are_refused(tmp_path, task, change, words):
    folder = write_augmented(tmp_path / "da", change(ROWS))
    with pytest.raises(InputError) as caught:
        select_rows(folder, task, tmp_path / "out")
    for word in words:
        assert word in str(caught.value)


def test_a_unit_of_a_pair_is_tokenized_like_the_example(tmp_path):
    save_tiny_model(tmp_path / "model")
    tokenizer = load_tokenizer(str(tmp_path / "model"))
    unit = pa.table([["u"], ["the film"], [0], [None], ["a plot"]], schema=TRAINING_PAIRS)
    example = pa.table({"sentence1": ["the film"], "sentence2": ["a plot"], "label": [1.0]})
    read = [tokenize_table(tokenizer, table, max_length=16) for table in (unit, example)]
    assert read[0].input_ids.tolist() == read[1].input_ids.tolist()
    assert read[0].token_type_ids.tolist() == read[1].token_type_ids.tolist()
    assert max(read[0].token_type_ids) == 1
