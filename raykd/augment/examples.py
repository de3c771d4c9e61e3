"""Examples in; out come augmented examples, and the same as units of a training text."""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from raykd.augment.candidates import CandidateFinder
from raykd.augment.task_da import TaskDaConfig, augmented_pairs, variants
from raykd.errors import InputError
from raykd.storage.delimited import AS_NAMED, Layout
from raykd.storage.locations import Location
from raykd.storage.schemas import AUGMENTED, TRAINING_PAIRS, TRAINING_TEXT
from raykd.storage.tables import read_table
from raykd.tasks.examples import Examples, to_examples
from raykd.tasks.glue import GLUE
from raykd.tasks.labels.cells import label_name
from raykd.tasks.labels.classes import class_names, label_column, require_label_column
from raykd.tasks.labels.rules import LabelRules, UnlabeledRows

# Default names of the sentence columns.
_PLAIN_COLUMNS = (("sentence1", "sentence2"), ("sentence",), ("text",))


class AugmentedRows(NamedTuple):
    """Augmented rows of some examples; `examples` are numbered from 0."""

    examples: pa.Table
    units: pa.Table
    counts: dict[str, int]


def read_examples(
    path: Location,
    *,
    task: str | None = None,
    sentence_columns: Sequence[str] | None = None,
    column: str = "label",
    labels: Sequence[str] | None = None,
    unlabeled_rows: UnlabeledRows = "error",
    regression: bool = False,
    layout: Layout = AS_NAMED,
) -> Examples:
    """Read labeled rows as `schemas.EXAMPLES`.

    Args:
        path: Parquet, JSONL, CSV or TSV.
        task: name of a GLUE task, which defines columns, classes and scores.
        sentence_columns: sentence columns of another task, or their names in the file.
        column: name of the label column.
        labels: classes in order; None for those of the file, sorted.
        unlabeled_rows: handling of rows without a label.
        regression: whether labels are scores.
        layout: format of a CSV or TSV file.

    Raises:
        InputError: a column, sentence or label is invalid, or `task` is not a GLUE task.
    """
    glue = None if task is None else GLUE.get(task)
    if task is not None and glue is None:
        raise InputError(f"task {task!r} is not a GLUE task ({', '.join(GLUE)}); remove it")
    if glue is not None and (labels is not None or regression):
        raise InputError(f"task {task!r}: GLUE fixes its labels; remove labels and regression")
    candidates = _sentence_candidates(sentence_columns, glue.sentence_columns if glue else None)
    if glue is not None:
        labels, regression = glue.labels, not glue.labels
    listed = tuple(map(_listed_label, labels)) if labels else None
    rules = LabelRules(column, listed, unlabeled_rows, options=True)

    def choose(found: Sequence[str]) -> list[str]:
        columns = _sentence_columns(path, found, candidates)
        require_label_column(str(path), found, rules)
        return [*columns, column]

    names = [name for names in candidates for name in names]
    table = read_table(path, [*names, column], choose=choose, text_columns=names, layout=layout)
    if not table.num_rows:
        raise InputError(f"{path}: no rows to augment")
    columns = _sentence_columns(path, table.column_names, candidates)
    if not regression and listed is None:
        listed = class_names(str(path), label_column(str(path), table, rules), rules)
    return to_examples(
        str(path),
        table,
        columns,
        rules,
        labels=() if regression else listed or (),
        score_range=glue.score_range if glue else None,
    )


def augment_rows(
    examples: pa.Table, finder: CandidateFinder, config: TaskDaConfig
) -> AugmentedRows:
    """Augment examples independently of each other."""
    rows = examples.to_pylist()
    sentences = dict.fromkeys(text for row in rows for text in _sentences(row))
    found = dict(zip(sentences, finder.candidates(list(sentences)), strict=True))
    pairs: list[tuple[str, str | None]] = []
    labels: list[float] = []
    sources: list[int] = []
    unit_ids: list[str] = []
    counts = {"num_words": 0, "num_words_without_candidates": 0}
    for row in rows:
        texts = []
        for sentence, text in enumerate(_sentences(row)):
            texts.append(
                variants(text, found[text], config, row_id=row["row_id"], sentence=sentence)
            )
            counts["num_words"] += len(found[text])
            counts["num_words_without_candidates"] += sum(
                list(words) == [text[slice(*span)]] for span, words in found[text]
            )
        second = texts[1] if len(texts) > 1 else None
        made = list(augmented_pairs(texts[0], second, compat=config.compat))
        pairs += made
        unit_ids += _unit_ids(row["row_id"], len(texts[0]), len(made), compat=config.compat)
        labels += [row["label"]] * len(made)
        sources += [row["row_id"]] * len(made)
    columns = [
        pa.array(range(len(pairs)), pa.int64()),
        pa.array([first for first, _ in pairs], pa.string()),
        pa.array([second for _, second in pairs], pa.string()),
        pa.array(labels, pa.float64()),
        pa.array(sources, pa.int64()),
    ]
    made_of_pairs = training_text_schema(examples) == TRAINING_PAIRS
    units = [
        pa.array(unit_ids, pa.string()),
        columns[1],
        pa.array([0] * len(pairs), pa.int32()),
        pa.nulls(len(pairs), pa.string()),
        *([columns[2]] if made_of_pairs else []),
    ]
    return AugmentedRows(
        pa.table(columns, schema=AUGMENTED),
        pa.table(units, schema=training_text_schema(examples)),
        counts,
    )


def training_text_schema(examples: pa.Table) -> pa.Schema:
    """Columns of the training text: pairs stay pairs, as the task's models read them."""
    second = examples["sentence2"]
    return TRAINING_TEXT if second.null_count == len(second) else TRAINING_PAIRS


def _unit_ids(row_id: int, num_first: int, num_rows: int, *, compat: bool) -> list[str]:
    """Unit ids from row, changed sentence and number of its variant (0 for the original)."""
    first_number = 0 if compat else 1
    numbers = [(1, number) for number in range(num_first)]
    numbers += [(2, first_number + number) for number in range(num_rows - num_first)]
    return [f"{row_id:010d}-{sentence}-{number:04d}" for sentence, number in numbers]


def _listed_label(label: str) -> str:
    try:
        return label_name(label)
    except ValueError as error:
        raise InputError(f"--labels: {error}") from None


def _sentences(row: dict[str, str | None]) -> list[str]:
    return [text for text in (row["sentence1"], row["sentence2"]) if text is not None]


def _sentence_candidates(
    given: Sequence[str] | None, of_task: Sequence[str] | None
) -> list[Sequence[str]]:
    return [given] if given else [*([of_task] if of_task else []), *_PLAIN_COLUMNS]


def _sentence_columns(
    path: Location, names: Sequence[str], candidates: Sequence[Sequence[str]]
) -> Sequence[str]:
    for columns in candidates:
        if len(columns) <= 2 and set(columns) <= set(names):
            return columns
    expected = " or ".join(", ".join(columns) for columns in candidates)
    raise InputError(
        f"{path}: expected one or two sentence columns ({expected}); the columns are "
        f"{', '.join(names)}; name the sentence columns with --sentence-columns"
    )
