"""Parts of the input: every row once, in order, whatever the files and row groups."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raykd.errors import InputError
from raykd.prediction import parts
from raykd.prediction.parts import RowFile, plan_parts, read_ranges, schema_of


@given(st.lists(st.integers(0, 300_000), max_size=6))
def test_every_row_is_in_one_part_in_order(sizes):
    files = [RowFile(Path(str(number)), "", size) for number, size in enumerate(sizes)]
    planned = plan_parts(files)
    ranges = [rows for part in planned for rows in part]
    found = [(rows.file.path, row) for rows in ranges for row in (rows.start, rows.stop - 1)]
    assert found == sorted(found, key=lambda place: (int(str(place[0])), place[1]))
    assert sum(rows.stop - rows.start for rows in ranges) == sum(sizes)
    of_parts = [sum(rows.stop - rows.start for rows in part) for part in planned]
    assert len(set(of_parts[:-1])) <= 1
    assert all(0 < size <= 65_536 for size in of_parts)


def test_small_files_share_a_part_and_large_ones_have_several():
    files = [RowFile(Path(name), name, size) for name, size in (("a", 10), ("b", 1200))]
    keys = [[rows.key() for rows in part] for part in plan_parts(files)]
    assert keys == [
        [["a", 0, 10], ["b", 0, 502]],
        [["b", 502, 1014]],
        [["b", 1014, 1200]],
    ]


@pytest.mark.parametrize(("start", "stop"), [(0, 1000), (0, 1), (99, 100), (100, 701), (999, 1000)])
def test_a_range_has_its_rows_with_all_columns(tmp_path, monkeypatch, start, stop):
    monkeypatch.setattr(parts, "_BATCH_ROWS", 300)
    table = pa.table(
        {
            "text": [f"row {number}" for number in range(1000)],
            "tags": [[number] for number in range(1000)],
            "kind": pa.array([f"k{n % 7}" for n in range(1000)]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=100)
    file = RowFile(tmp_path / "rows.parquet", "", 1000)
    read = list(read_ranges([parts.RowRange(file, start, stop)]))
    assert all(part.num_rows <= 300 + 256 for part in read)
    assert pa.concat_tables(read).to_pylist() == table.slice(start, stop - start).to_pylist()


def test_a_file_without_text_is_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [1], "title": ["a"]}), path)
    assert schema_of(path, ["title"])[1] == 1
    with pytest.raises(InputError, match="column 'text' has type int64, text is expected"):
        schema_of(path, ["text"])
    with pytest.raises(InputError, match="no column 'body'; the columns are text, title"):
        schema_of(path, ["body"])
