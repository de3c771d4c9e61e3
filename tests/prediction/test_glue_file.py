"""Files for the GLUE server, in the format that it states."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raykd.errors import InputError
from raykd.prediction.config import PredictConfig
from raykd.prediction.glue_file import GLUE_FILES, check_glue, check_glue_rows, write_glue_file

CONFIG = PredictConfig()


def written(tmp_path, name, values):
    half = len(values) // 2
    parts = []
    for number, rows in enumerate((values[:half], values[half:])):
        parts.append(tmp_path / f"{number}.parquet")
        pq.write_table(pa.table({"prediction": rows}), parts[-1])
    write_glue_file(name, parts, tmp_path, CONFIG)
    return (tmp_path / GLUE_FILES[name].name).read_text().splitlines()


def test_classes_are_numbers_or_names_and_scores_have_three_decimals(tmp_path):
    lines = written(tmp_path, "cola", ["acceptable", "unacceptable", *["acceptable"] * 1061])
    assert lines[:3] == ["index\tprediction", "0\t1", "1\t0"]
    assert len(lines) == 1064
    lines = written(tmp_path, "rte", ["entailment", "not_entailment"] * 1500)
    assert lines[1:3] == ["0\tentailment", "1\tnot_entailment"]
    lines = written(tmp_path, "stsb", [5.2, -0.1, 2.34567] + [1.0] * 1376)
    assert lines[1:4] == ["0\t5.000", "1\t0.000", "2\t2.346"]


def test_a_file_has_a_line_for_every_row_of_the_test_set_or_is_refused(tmp_path):
    with pytest.raises(InputError, match="the test set has 1,104 rows, the data 2"):
        check_glue_rows("ax", 2, 0)
    with pytest.raises(InputError, match="and 1 more that cannot be read"):
        check_glue_rows("ax", 1104, 1)
    check_glue_rows("ax", 1104, 0)
    with pytest.raises(InputError, match="row 1 has no text"):
        written(tmp_path, "ax", ["entailment", None])
    assert not (tmp_path / "AX.tsv").exists()


def test_a_model_of_another_task_is_refused():
    check_glue("mnli-mm", ["neutral", "entailment", "contradiction"])
    check_glue("stsb", [])
    with pytest.raises(InputError, match="the model's are a, b; give a model of 'cola'"):
        check_glue("cola", ["a", "b"])
    with pytest.raises(InputError, match="choose one of cola, sst2"):
        check_glue("wnli", ["a", "b"])
