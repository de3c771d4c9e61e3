"""Output tables are read by Ray Data, datasets, DuckDB and Polars, without raykd."""

import glob
from pathlib import Path

import duckdb
import polars
import pytest
import ray.data
from datasets import load_dataset

from raykd.corpus.config import CorpusConfig
from raykd.corpus.pipeline import ingest
from raykd.dedup.pipeline import DedupConfig, dedup
from raykd.workflow.corpora import contextualize_recipe

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

TEXTS = [
    *(f"Station {number} warns of a river in flood." for number in range(8)),
    "Größe, 東京 and \U0001f600 are “text”.",
    "A comma, a \ttab and a 'quotation mark'.",
]
RECIPE = """
name: floods
tasks:
  - task: {name: flood, train: train.csv, dev: dev.csv, sentence_columns: [text]}
corpus: {paths: [corpus.txt], units: {policy: line, min_words: 1}}
retrieval: {top_k: 4}
"""


def with_ray(pattern: str, _cache: Path) -> list[dict[str, object]]:
    files = sorted(glob.glob(pattern))  # noqa: PTH207  # the pattern is absolute
    rows: list[dict[str, object]] = ray.data.read_parquet(files).take_all()
    return rows


def with_datasets(pattern: str, cache: Path) -> list[dict[str, object]]:
    table = load_dataset("parquet", data_files=pattern, split="train", cache_dir=str(cache))
    return table.to_list()


def with_duckdb(pattern: str, _cache: Path) -> list[dict[str, object]]:
    table = duckdb.read_parquet(pattern)
    return [dict(zip(table.columns, row, strict=True)) for row in table.fetchall()]


def with_polars(pattern: str, _cache: Path) -> list[dict[str, object]]:
    return polars.scan_parquet(pattern).collect().to_dicts()


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, ray_cluster) -> dict[str, str]:
    """Patterns of docs/search.md: units in several shards, kept units, contextualized text."""
    folder = tmp_path_factory.mktemp("outputs")
    (folder / "corpus.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    (folder / "train.csv").write_text("text,label\nriver in flood,yes\nquotation mark,no\n")
    (folder / "dev.csv").write_text("text,label\nsun,no\nrain,yes\n")
    (folder / "recipe.yaml").write_text(RECIPE)
    source = [folder / "corpus.txt"]
    units = {"policy": "line", "min_words": 1}
    small = CorpusConfig.model_validate(
        {"paths": ["corpus.txt"], "units": units, "shard_bytes": 200}
    )
    ingest(small, source, folder / "units")
    assert len(list((folder / "units").glob("*/units-*.parquet"))) > 1
    dedup(source, folder / "kept", DedupConfig())
    [made] = contextualize_recipe(folder / "recipe.yaml", folder / "corpora")
    return {
        "units": f"{folder}/units/*/units-*.parquet",
        "kept": f"{folder}/kept/units/units-*.parquet",
        "contextualized": f"{made.folder}/text.parquet",
    }


@pytest.mark.parametrize("output", ["units", "kept", "contextualized"])
@pytest.mark.parametrize(
    "read",
    [
        pytest.param(with_ray, marks=pytest.mark.slow),
        with_datasets,
        with_duckdb,
        with_polars,
    ],
)
def test_a_program_without_raykd_reads_the_texts(output, read, outputs, tmp_path):
    rows = read(outputs[output], tmp_path)
    texts = [row["text"] for row in rows]
    if output == "contextualized":
        assert texts.count(TEXTS[-1]) == 1
        assert set(texts) < set(TEXTS)
        assert len(texts) == 5
        assert {row["query_id"] for row in rows} == {"0", "1"}
    else:
        assert sorted(texts) == sorted(TEXTS)
    assert len({row["unit_id"] for row in rows}) == len(rows)
