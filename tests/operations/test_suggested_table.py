"""The table of `raykd suggest`: formats that the task reads back."""

from pathlib import Path

import pytest

from raykd.errors import InputError
from raykd.operations.suggest import check_read_back
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
