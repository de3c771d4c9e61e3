"""The table of `raykd suggest`: formats that the task reads back."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raykd.cli.models.suggest import _summary
from raykd.errors import InputError
from raykd.operations.suggest import Suggested, _candidates, check_read_back
from raykd.prediction.config import PredictConfig
from raykd.tasks.config import TaskConfig

TASK = {"name": "mine", "train": "train.tsv", "dev": "dev.tsv", "sentence_columns": ["text"]}


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"quoting": "none"}, "task.quoting: none"),
        ({"columns": ["text", "label"]}, "task.columns"),
    ],
)
def test_csv_is_refused_where_the_task_would_read_its_quotes_or_header_as_text(settings, key):
    task = TaskConfig.model_validate(TASK | settings)
    with pytest.raises(InputError, match=f"{key} is for all its CSV files.*name a .jsonl file"):
        check_read_back(Path("next.csv"), task)
    check_read_back(Path("next.jsonl"), task)


@pytest.mark.parametrize("quoting", ["auto", "standard"])
def test_csv_is_written_where_fields_may_be_quoted(quoting):
    check_read_back(Path("next.csv"), TaskConfig.model_validate(TASK | {"quoting": quoting}))


def test_a_missing_text_of_a_pair_is_an_empty_one_as_in_the_task(tmp_path):
    table = {
        "q": ["known", "new", "new", None],
        "a": [None, None, "", ""],
        "prediction": ["good", "good", "good", None],
        "probabilities": [{"bad": 0.25, "good": 0.75}] * 4,
        "embedding": pa.array([[1.0, 2.0]] * 4, pa.list_(pa.float32(), 2)),
    }
    pq.write_table(pa.table(table), tmp_path / "part-00000.parquet")
    found, num_texts = _candidates(tmp_path, PredictConfig(("q", "a")), {("known", "")})
    assert found.texts == [("new", "")]
    assert num_texts == 1


@pytest.mark.parametrize(("num_texts", "has_remark"), [(10, False), (11, True)])
def test_other_texts_are_called_equal_only_if_there_are_some(num_texts, has_remark):
    printed = _summary(Path("next.csv"), Suggested(10, num_texts, {"good": 10}), 50)
    assert f"10 rows to label, of {num_texts} new texts; predicted as good 10" in printed
    assert ("the other texts are equal for the student" in printed) == has_remark
