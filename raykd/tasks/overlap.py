"""Evaluation rows whose text is that of a training row."""

import json

import pyarrow as pa

from raykd.text.normalize import normalize, words

_SENTENCES = ("sentence1", "sentence2")
# Maximum number of characters shown of a text.
_MAX_CHARS = 60


def rows_in(table: pa.Table, train: pa.Table) -> list[int]:
    """Positions of the evaluation rows whose text is that of a training row.

    Texts are compared without case, spacing and punctuation; those of a pair in their order.

    Args:
        table: evaluation rows as `schemas.EXAMPLES`.
        train: training rows.
    """
    keys = _keys(table)
    seen = set(keys).intersection(_keys(train))
    return [row for row, key in enumerate(keys) if key in seen]


def overlap_of(table: pa.Table, train: pa.Table) -> list[str]:
    """Remark about evaluation rows with the text of a training row; none without such rows."""
    shared = rows_in(table, train)
    if not shared:
        return []
    text = " / ".join(one for name in _SENTENCES if (one := table[name][shared[0]].as_py()))
    shown = text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS - 3]}..."
    number = table["row_id"][shared[0]].as_py()
    return [
        f"{len(shared):,} of {table.num_rows:,} rows have the text of a training row (first: row "
        f"{number}, {json.dumps(shown, ensure_ascii=False)}); their scores are not those of new "
        "text"
    ]


def _keys(table: pa.Table) -> list[tuple[str, ...]]:
    columns = [map(_key, table[name].to_pylist()) for name in _SENTENCES]
    return list(zip(*columns, strict=True))


def _key(text: str | None) -> str:
    normalized = normalize(text or "")
    # A text without any word, such as ":-)", is compared as it is.
    return " ".join(words(normalized)) or normalized
