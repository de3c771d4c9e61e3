"""Schemas of all tables that are exchanged between stages: columns, types and row order."""

import pyarrow as pa

# Retrieval units, sorted by (source file, position); an id depends on neither shards nor order.
UNITS = pa.schema([("unit_id", pa.string()), ("text", pa.string())])

# Unreadable rows. `offset` is a byte offset for text and JSONL, a row number for tables.
QUARANTINE = pa.schema([("source", pa.string()), ("offset", pa.int64()), ("reason", pa.string())])

# One row per task sentence: the sentence (`text`) and its query; `is_fallback`: the sentence has no
# keywords, so that the query is the whole sentence.
QUERIES = pa.schema(
    [
        ("query_id", pa.string()),
        ("text", pa.string()),
        ("query", pa.string()),
        ("is_fallback", pa.bool_()),
    ]
)


def hits_schema(
    query_id_type: pa.DataType = pa.string(),  # noqa: B008  # Arrow types are immutable
    unit_id_type: pa.DataType = pa.string(),  # noqa: B008  # Arrow types are immutable
) -> pa.Schema:
    """Schema of hits, sorted by (query in input order, rank); ranks count from 1.

    Ids keep the type of the input: string or int64.
    """
    return pa.schema(
        [
            ("query_id", query_id_type),
            ("unit_id", unit_id_type),
            ("score", pa.float64()),
            ("rank", pa.int32()),
        ]
    )


# Contextualized corpus: `rank` and `query_id` of the unit's best hit, sorted by rank, then by
# unit_id (with max_units, by a hash of it).
# Random and augmented corpora have the same columns, with rank 0 and no query.
TRAINING_TEXT = pa.schema(
    [
        ("unit_id", pa.string()),
        ("text", pa.string()),
        ("rank", pa.int32()),
        ("query_id", pa.string()),
    ]
)

# A training text of augmented pairs: `text` and `text_pair` are read together, as one input.
TRAINING_PAIRS = TRAINING_TEXT.append(pa.field("text_pair", pa.string()))

# Removed units before the last kept one, sorted by unit_id: `reason` is "duplicate" or
# "near_duplicate" (`partner`: the kept unit, `jaccard`: their similarity), "leak" or
# "leaked_ngram" (`partner`: the evaluation sentence that the unit contains in whole or in part).
REMOVED = pa.schema(
    [
        ("unit_id", pa.string()),
        ("reason", pa.string()),
        ("partner", pa.string()),
        ("jaccard", pa.float64()),
    ]
)

# Contaminated units, if these are not removed, sorted by unit_id: `reason` is "leak" or
# "leaked_ngram", `sentence` the evaluation sentence; `is_kept` is false for removed duplicates.
CONTAMINATION = pa.schema(
    [
        ("unit_id", pa.string()),
        ("reason", pa.string()),
        ("sentence", pa.string()),
        ("is_kept", pa.bool_()),
    ]
)

# Task data, sorted by row_id (position in the source). `sentence2` is null for single sentences.
# `label` is the index of the class, or the score of a regression task; of a multi-label task, see
# `examples_schema`.
EXAMPLES = pa.schema(
    [
        ("row_id", pa.int64()),
        ("sentence1", pa.string()),
        ("sentence2", pa.string()),
        ("label", pa.float64()),
    ]
)


def examples_schema(num_classes: int | None) -> pa.Schema:
    """`EXAMPLES`, or, with a number of classes C, those of a multi-label task.

    `label` then has C numbers per row, 1 for the row's classes and 0 for all others.
    """
    return _with_sets(EXAMPLES, ["label"], num_classes)


def is_multi_label(table: pa.Table) -> bool:
    """Return whether examples or predictions are those of a multi-label task."""
    return bool(pa.types.is_fixed_size_list(table.schema.field("label").type))


def _with_sets(schema: pa.Schema, names: list[str], num_classes: int | None) -> pa.Schema:
    if num_classes is None:
        return schema
    for name in names:
        field = pa.field(name, pa.list_(pa.uint8(), num_classes))
        schema = schema.set(schema.get_field_index(name), field)
    return schema


# Examples with replaced words, sorted by row_id; `source_row_id` is the row_id of the original
# example, which precedes its variants.
AUGMENTED = EXAMPLES.append(pa.field("source_row_id", pa.int64()))

# File names of a training text and of augmented examples.
TEXT_FILE = "text.parquet"
EXAMPLES_FILE = "examples.parquet"

# Files of a run directory without a manifest: planned outputs, and times of the stages. In the
# latter, the hours per stage, and the stage that runs now.
PLAN_FILE = "plan.json"
TIMES_FILE = "times.json"
USAGE = "usage"
RUNNING = "running"

# Predictions of a model on an evaluation split, sorted by row_id.
PREDICTIONS = pa.schema(
    [
        ("row_id", pa.int64()),
        ("label", pa.float64()),
        ("prediction", pa.float64()),
        ("logits", pa.list_(pa.float32())),
    ]
)


def predictions_schema(num_classes: int | None) -> pa.Schema:
    """`PREDICTIONS`, or, with a number of classes, those of a multi-label task.

    `label` and `prediction` then have as many numbers per row, 1 for its classes.
    """
    return _with_sets(PREDICTIONS, ["label", "prediction"], num_classes)
