"""`raykd search` as a user types it."""

import io
import json
import re
from math import log
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from raykd.cli.app import _exit_code as raykd
from raykd.cli.app import app
from raykd.corpus.shards import SHARD_BYTES
from raykd.dedup.minhash import NearDuplicatesConfig
from raykd.retrieval.bm25.scoring import Bm25Config
from raykd.retrieval.config import RetrievalConfig
from raykd.retrieval.dense.config import DenseConfig

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def hits_of(folder: Path, *options: str) -> dict[str, float]:
    """Unit id -> score of the query "the cat"."""
    units = [("u1", "Cats purr"), ("u2", "the dog and the horse"), ("u3", "cat cat cat")]
    rows = [json.dumps({"unit_id": name, "text": text}) for name, text in units]
    (folder / "corpus.jsonl").write_text("\n".join(rows))
    (folder / "queries.jsonl").write_text('{"query_id": 1, "text": "the cat"}')
    paths = ["--corpus", "corpus.jsonl", "--queries", "queries.jsonl", "--out", "found"]
    assert raykd(["search", *paths, *options]) == 0
    hits = pq.read_table("found/hits.parquet").to_pydict()
    return dict(zip(hits["unit_id"], hits["score"], strict=True))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_terms_are_unchanged_words_by_default(tmp_path: Path) -> None:
    assert sorted(hits_of(tmp_path)) == ["u2", "u3"]


def test_a_stemmer_finds_other_forms_and_stop_words_find_nothing(tmp_path: Path) -> None:
    assert sorted(hits_of(tmp_path, "--stemmer", "english", "--stop-words")) == ["u1", "u3"]


def test_variants_of_bm25_use_their_own_formulas(tmp_path: Path) -> None:
    hits = hits_of(tmp_path, "--variant", "atire", "--b", "0", "--k1", "1")
    # ATIRE: log(N / df) * tf (k1 + 1) / (tf + k1), with "cat" and "the" in one unit of three each.
    assert hits == pytest.approx({"u2": log(3) * 4 / 3, "u3": log(3) * 6 / 4})


def test_an_unknown_stemmer_is_refused_with_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--corpus", "a.jsonl", "--queries", "q.jsonl", "--out", "o", "--stemmer", "klingon"]
    assert raykd(["search", *options]) == 2
    assert "stemmer" in (message := capsys.readouterr().err)
    assert "english" in message


SEARCH_FILES = ["--corpus", "a.jsonl", "--queries", "q.jsonl", "--out", "o"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        # Each option has its default value, and is refused because it was given.
        (["recipe.yaml", "--top-k", "10"], "recipe.yaml: --top-k cannot be combined"),
        (["recipe.yaml", "--k1", "1.2", "--empty", "skip"], "--k1, --empty cannot be combined"),
        ([*SEARCH_FILES, "--pooling", "mean"], "--pooling: use with --ranker dense or hybrid"),
        (
            [*SEARCH_FILES, "--ranker", "dense", "--model", "m", "--b", "0.75"],
            "--b: use with --ranker bm25 or hybrid",
        ),
        ([*SEARCH_FILES, "--ranker", "hybrid"], "--ranker hybrid requires --model"),
        (["--corpus", "a.jsonl"], "give a RECIPE, or --corpus"),
    ],
)
def test_options_without_effect_are_refused_even_with_their_default_values(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raykd(["search", *options]) == 2
    assert message in capsys.readouterr().err


def test_dedup_refuses_settings_of_near_duplicates_without_near(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert raykd(["dedup", "a.jsonl", "--out", "o", "--threshold", "0.8"]) == 2
    assert "--threshold: these settings require --near" in capsys.readouterr().err


def test_the_help_states_the_default_of_each_setting() -> None:
    near = NearDuplicatesConfig()
    for command, defaults in {
        "search": {
            "ranker": RetrievalConfig.model_fields["ranker"].default,
            "shard-bytes": f"{SHARD_BYTES >> 20} MiB",
            "k1": Bm25Config().k1,
            "b": Bm25Config().b,
            "variant": Bm25Config().variant,
            "norms": Bm25Config().norms,
            "pooling": DenseConfig(model="m").pooling,
            "max-length": DenseConfig(model="m").max_length,
            "index": DenseConfig(model="m").index.name,
        },
        "dedup": {
            "threshold": near.threshold,
            "shingle-words": near.shingle_words,
            "num-bands": near.num_bands,
            "rows-per-band": near.rows_per_band,
            "seed": near.seed,
        },
    }.items():
        lines = help_of(command)
        for option, default in defaults.items():
            assert re.search(rf"--{option} .*?\[default: {default}\]", lines), (command, option)


def help_of(command: str) -> str:
    """Return the help of a command in one line."""
    output = io.StringIO()
    app.help_print([command], console=Console(file=output, width=10_000))
    return output.getvalue()
