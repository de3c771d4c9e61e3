"""Card of augmented text: what `raykd augment` made, compared with the task's sentences."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from raykd.contextualize.card import FILE_NAME, Compared
from raykd.retrieval.queries import task_sentences
from raykd.storage.manifest import Draft
from raykd.storage.schemas import TEXT_FILE
from raykd.text.figures import TextFigures, compare_with_task, sample_texts

_BATCH_ROWS = 8192


class AugmentCard(BaseModel):
    """Augmented text in figures.

    `num_rows` are the task's rows, `num_examples` these rows and those made of them, `num_units`
    the units of the text: a sentence or pair of a row, followed by its variants. `num_words` are
    the words of the rows' sentences, `num_words_without_candidates` those that nothing can replace.
    `text` describes the units, `task` the task's distinct sentences; there is no general corpus.
    """

    kind: Literal["task_da"] = "task_da"
    num_rows: int
    num_examples: int
    num_units: int
    num_bytes: int
    bytes_per_unit: float
    num_words: int
    num_words_without_candidates: int
    text: TextFigures
    task: Compared


def write_card(examples: pa.Table, draft: Draft) -> None:
    """Write `card.json` of finished augmented text.

    Args:
        examples: the task's rows, of `schemas.EXAMPLES`.
        draft: the text, and its counts.
    """
    task = task_sentences(examples)
    of_text, of_task = compare_with_task(
        sample_texts(_sentences(draft.directory / TEXT_FILE)), task
    )
    counts = {name: int(number) for name, number in draft.counts.items()}
    card = AugmentCard(
        **counts,
        bytes_per_unit=counts["num_bytes"] / counts["num_units"],
        text=of_text,
        task=Compared(
            num_units=len(task),
            num_bytes=sum(len(sentence.encode()) for sentence in task),
            text=of_task,
        ),
    )
    (draft.directory / FILE_NAME).write_text(card.model_dump_json(indent=2) + "\n", "utf-8")


def read_augment_card(directory: Path) -> AugmentCard:
    """Read the card of augmented text."""
    return AugmentCard.model_validate_json((directory / FILE_NAME).read_bytes())


def summary(card: AugmentCard) -> str:
    """The figures of the text next to those of the task's sentences, in lines."""
    text, task = card.text, card.task.text
    return "\n".join(
        (
            f"Distinct-1 {text.distinct_1:.3f} (task's sentences {task.distinct_1:.3f}), "
            f"Distinct-2 {text.distinct_2:.3f} ({task.distinct_2:.3f}), "
            f"on {text.num_words:,} words each",
            f"shared with the task: {text.task_overlap:.1%} of the {text.num_vocabulary_words:,} "
            f"most frequent words; without stop words {text.content_task_overlap:.1%} of "
            f"{text.num_content_vocabulary_words:,}",
        )
    )


def _sentences(path: Path) -> Iterator[tuple[str, str]]:
    """(id, text) of the sentences, both of a pair."""
    with pq.ParquetFile(path) as file:
        texts = [name for name in ("text", "text_pair") if name in file.schema_arrow.names]
        for batch in file.iter_batches(_BATCH_ROWS, columns=["unit_id", *texts]):
            unit_ids = batch["unit_id"].to_pylist()
            for name in texts:
                for unit_id, text in zip(unit_ids, batch[name].to_pylist(), strict=True):
                    yield f"{unit_id} {name}", text
