"""Types of columns of JSON rows, and one schema for several files."""

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raykd.errors import InputError
from raykd.prediction.types import conformed, merged_schema, table_of

WIDE = 2**53 + 1


@pytest.mark.parametrize(
    ("values", "type_", "kept"),
    [
        ([None, None], "null", [None, None]),
        ([True, None], "bool", [True, None]),
        ([1, 2], "int64", [1, 2]),
        ([1, 2.5], "double", [1.0, 2.5]),
        (["a", None], "string", ["a", None]),
        (["a", 1], "string", ["a", "1"]),
        ([True, 1], "string", ["true", "1"]),
        ([WIDE, 2], "int64", [WIDE, 2]),
        ([WIDE, 2.5], "string", ["9007199254740993", "2.5"]),
        ([2**70], "string", ["1180591620717411303424"]),
        ([{"é": [1]}], "string", ['{"é": [1]}']),
    ],
)
def test_a_column_has_the_narrowest_type_that_holds_its_values(values, type_, kept):
    table = table_of([{"x": value} for value in values])
    assert str(table.schema.field("x").type) == type_
    assert table["x"].to_pylist() == kept


def schema_of(*columns):
    return pa.schema([pa.field(name, type_) for name, type_ in columns])


def test_columns_are_in_the_order_of_appearance_and_nulls_take_the_other_type():
    first = schema_of(("a", pa.null()), ("b", pa.int64()))
    second = schema_of(("c", pa.string()), ("a", pa.bool_()))
    merged = merged_schema([("one", first), ("two", second)])
    assert merged == schema_of(("a", pa.bool_()), ("b", pa.int64()), ("c", pa.string()))
    table = conformed(second.empty_table(), merged)
    assert table.schema == merged


def test_whole_and_decimal_numbers_are_decimal_unless_that_would_change_one():
    whole, decimal = table_of([{"x": 3}]), table_of([{"x": 0.5}])
    wide = table_of([{"x": WIDE}])
    merged = merged_schema([("a", whole.schema), ("b", decimal.schema)])
    assert conformed(whole, merged)["x"].to_pylist() == [3.0]
    merged = merged_schema([("a", wide.schema), ("b", decimal.schema)])
    assert conformed(wide, merged)["x"].to_pylist() == [str(WIDE)]
    assert conformed(decimal, merged)["x"].to_pylist() == ["0.5"]
    merged = merged_schema([("a", whole.schema), ("b", wide.schema), ("c", decimal.schema)])
    assert conformed(wide, merged)["x"].to_pylist() == [str(WIDE)]
    merged = merged_schema([("a", whole.schema), ("b", wide.schema)])
    assert conformed(wide, merged)["x"].to_pylist() == [WIDE]


def test_types_of_parquet_files_are_promoted_or_refused_by_name():
    merged = merged_schema(
        [("a", schema_of(("x", pa.int32()))), ("b", schema_of(("x", pa.int64())))]
    )
    assert merged.field("x").type == pa.int64()
    lists = schema_of(("x", pa.list_(pa.int64())))
    with pytest.raises(InputError, match="a and b: the column 'x' has the types int32 and list"):
        merged_schema([("a", schema_of(("x", pa.int32()))), ("b", lists)])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)


@given(st.lists(st.lists(JSON_VALUES, min_size=1, max_size=4), min_size=1, max_size=3))
def test_no_value_is_lost_in_any_division_into_files(files):
    tables = [table_of([{"x": value} for value in values]) for values in files]
    schema = merged_schema([(str(number), table.schema) for number, table in enumerate(tables)])
    for values, table in zip(files, tables, strict=True):
        for value, kept in zip(values, conformed(table, schema)["x"].to_pylist(), strict=True):
            if isinstance(kept, str) and not isinstance(value, str):
                kept = json.loads(kept)
            assert kept == value
            assert (kept is None) == (value is None)
