"""Shards of units, and what the corpora that are drawn from them are compared with."""

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.contextualize.card import CorpusCard, GeneralFacts
from raykd.contextualize.select import ReferenceTexts
from raykd.storage import schemas


def write_shards(folder, shards):
    """`shards` are mappings of unit_id to text."""
    paths = []
    for number, units in enumerate(shards):
        path = folder / f"units-{number}.parquet"
        columns = {"unit_id": list(units), "text": list(units.values())}
        pq.write_table(pa.table(columns, schemas.UNITS), path)
        paths.append(path)
    return paths


def reference_texts(folder, evaluation=(), task=("a task",)):
    (folder / "sample").mkdir(exist_ok=True)
    sample = pa.table({"unit_id": ["u0"], "text": ["text 0"]}, schemas.UNITS)
    pq.write_table(sample, folder / "sample" / "sample.parquet")
    return ReferenceTexts(
        evaluation_sentences=evaluation,
        task_sentences=list(task),
        sample=folder / "sample",
        general=GeneralFacts(num_units=500, num_bytes=5000, num_quarantined=0),
    )


def read(folder, name):
    return pq.read_table(folder / "out" / f"{name}.parquet")


def card(folder):
    return CorpusCard.model_validate_json((folder / "out" / "card.json").read_bytes())
