"""Arrow types of columns read from JSON and CSV rows, and one schema for all files.

A column of one kind of value keeps its type. Whole numbers and decimal ones become float64 where
that is exact. Lists, objects, and values of several kinds become strings: strings as they are,
other values as JSON.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from raykd.errors import InputError

# Field metadata of int64 columns with a value that float64 does not represent.
_WIDE = {b"raykd": b"wide"}
_MAX_EXACT = 1 << 53
_INT64 = range(-(1 << 63), 1 << 63)
_SCALARS = (pa.bool_(), pa.int64(), pa.float64(), pa.string())


def column_of_values(name: str, values: Sequence[Any]) -> tuple[pa.Field, pa.Array]:
    """Column of JSON values, with the narrowest type that holds them."""
    kinds = {type(value) for value in values} - {type(None)}
    numbers = [value for value in values if isinstance(value, int)]
    is_wide = kinds <= {int, float} and any(abs(number) > _MAX_EXACT for number in numbers)
    if not kinds:
        return pa.field(name, pa.null()), pa.nulls(len(values))
    if kinds == {bool}:
        type_ = pa.bool_()
    elif kinds == {int} and all(number in _INT64 for number in numbers):
        return pa.field(name, pa.int64(), metadata=_WIDE if is_wide else None), pa.array(
            values, pa.int64()
        )
    elif kinds <= {int, float} and not is_wide:
        type_ = pa.float64()
    else:
        return pa.field(name, pa.string()), pa.array(map(_as_text, values), pa.string())
    return pa.field(name, type_), pa.array(values, type_)


def merged_schema(schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
    """One schema for the rows of several files, columns in the order of their appearance.

    Args:
        schemas: pairs of a file's name for messages, and its schema.

    Raises:
        InputError: a column has types that no common one holds.
    """
    # Types of each column, with the first source of each; fields with other marks are equal.
    types: dict[str, dict[pa.DataType, str]] = {}
    wide = set()
    for source, schema in schemas:
        for field in schema:
            types.setdefault(field.name, {}).setdefault(field.type, source)
            if (field.metadata or {}).get(b"raykd") == b"wide":
                wide.add(field.name)
    return pa.schema([_merged(name, found, name in wide) for name, found in types.items()])


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Columns of a table cast to a schema of `merged_schema`; missing ones are null."""
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table[field.name]
        if field.type == pa.string() and column.type in _SCALARS and column.type != field.type:
            column = pa.array(map(_as_text, column.to_pylist()), pa.string())
        columns.append(column.cast(field.type))
    return pa.table(columns, schema=schema)


def _merged(name: str, found: Mapping[pa.DataType, str], is_wide: bool) -> pa.Field:
    types = [type_ for type_ in found if type_ != pa.null()]
    if len(types) < 2:
        return pa.field(name, types[0] if types else pa.null())
    has_decimals = any(pa.types.is_floating(type_) for type_ in types)
    if not (is_wide and has_decimals):
        try:
            schemas = [pa.schema([pa.field(name, type_)]) for type_ in types]
            merged = pa.unify_schemas(schemas, promote_options="permissive")
            return pa.field(name, merged.field(0).type)
        except pa.ArrowTypeError:
            pass
    if all(type_ in _SCALARS for type_ in types):
        return pa.field(name, pa.string())
    first, other = types[:2]
    raise InputError(
        f"{found[first]} and {found[other]}: the column {name!r} has the types {first} and "
        f"{other}, which no common type holds; predict the files one by one, or convert the column"
    )


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def table_of(rows: Sequence[Mapping[str, Any]], names: Iterable[str] = ()) -> pa.Table:
    """Table of JSON objects; `names` are columns that it has in any case."""
    keys = dict.fromkeys([*names, *(key for row in rows for key in row)])
    made = [column_of_values(name, [row.get(name) for row in rows]) for name in keys]
    return pa.table([array for _, array in made], schema=pa.schema([field for field, _ in made]))
