"""Every table that crosses a stage: columns, types, and the order its rows stand in."""

import pyarrow as pa

# Retrieval units, sorted by (source file, position); an id depends on neither shards nor order.
UNITS = pa.schema([("unit_id", pa.string()), ("text", pa.string())])

# Rows that could not be read. `offset` is a byte offset for text and JSONL, a row for Parquet.
QUARANTINE = pa.schema([("source", pa.string()), ("offset", pa.int64()), ("reason", pa.string())])

# One row an anchor: the task sentence, and the query made of it (empty: no query could be made);
# `is_fallback` where no keyword was found in the sentence, so that the query is all of it.
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
    """Hits, sorted by (query in the order given, rank); rank counts from 1.

    Ids keep the type they were given with: string or int64.
    """
    return pa.schema(
        [
            ("query_id", query_id_type),
            ("unit_id", unit_id_type),
            ("score", pa.float64()),
            ("rank", pa.int32()),
        ]
    )


# The contextualized corpus, sorted by (rank, unit_id): `rank` and `query_id` are those of the
# unit's best hit. A random corpus and an augmented one have the same columns, with rank 0 and no
# query.
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

# Units left out that come before the last one kept, sorted by unit_id: `reason` is "duplicate" or
# "near_duplicate" (`partner`: a unit that is kept, `jaccard`: that of the two), "leak" or
# "leaked_ngram" (`partner`: the evaluation sentence that was found, or shares words in a row).
REMOVED = pa.schema(
    [
        ("unit_id", pa.string()),
        ("reason", pa.string()),
        ("partner", pa.string()),
        ("jaccard", pa.float64()),
    ]
)

# Units that hold an evaluation sentence where such units are not removed, sorted by unit_id:
# `reason` is "leak" or "leaked_ngram", `sentence` the evaluation sentence; `is_kept` is false for
# a unit removed as a duplicate.
CONTAMINATION = pa.schema(
    [
        ("unit_id", pa.string()),
        ("reason", pa.string()),
        ("sentence", pa.string()),
        ("is_kept", pa.bool_()),
    ]
)

# Task data as the engine sees it, sorted by row_id (position in the source). `sentence2` is null
# for single sentences. `label` is the index of the class, or the score of a regression task.
EXAMPLES = pa.schema(
    [
        ("row_id", pa.int64()),
        ("sentence1", pa.string()),
        ("sentence2", pa.string()),
        ("label", pa.float64()),
    ]
)

# Examples with words replaced, sorted by row_id, a number of their own; `source_row_id` is that of
# the example they were made of, which stands first.
AUGMENTED = EXAMPLES.append(pa.field("source_row_id", pa.int64()))

# What a model answered on an evaluation split, sorted by row_id.
PREDICTIONS = pa.schema(
    [
        ("row_id", pa.int64()),
        ("label", pa.float64()),
        ("prediction", pa.float64()),
        ("logits", pa.list_(pa.float32())),
    ]
)
