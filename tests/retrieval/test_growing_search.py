"""Searches that use kept results, against searches without them, in one process."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from serial_tasks import serial_tasks

from raykd.corpus.custom import units as custom_units
from raykd.errors import InputError
from raykd.retrieval.bm25.forward_index import ForwardIndex
from raykd.retrieval.config import RetrievalConfig
from raykd.retrieval.kept import Kept
from raykd.retrieval.pipeline import search_corpus, search_files
from raykd.retrieval.queries import make_queries
from raykd.retrieval.query_sets import QuerySet
from raykd.storage.manifest import Manifest, digest_of_file

WORDS = ["ape", "bee", "cat", "dog", "emu", "fox"]


@pytest.fixture(autouse=True)
def _serial() -> Iterator[None]:
    with serial_tasks():
        yield


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_file(path: Path, rng: random.Random) -> None:
    """A file of texts with many equal scores."""
    rows = [{"text": " ".join(rng.choices(WORDS, k=rng.randint(0, 5)))} for _ in range(30)]
    write_jsonl(path, [*rows, {"text": f"of {path.name} {rng.random()}"}])


def write_queries(path: Path, texts: Sequence[str]) -> Path:
    return write_jsonl(path, [{"query_id": f"{n}", "text": text} for n, text in enumerate(texts)])


def outputs_of(out: Path, manifest: Manifest) -> tuple[dict[str, bytes], dict[str, float], str]:
    files = {path.name: path.read_bytes() for path in out.glob("*.parquet")}
    return files, manifest.counts, manifest.key


class Calls:
    """Numbers of shards that are read and analyzed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.num_read = self.num_analyzed = 0
        rows, of = custom_units._rows, ForwardIndex.of

        def reading(*arguments: Any) -> Any:
            self.num_read += 1
            return rows(*arguments)

        def analyzing(*arguments: Any) -> Any:
            self.num_analyzed += 1
            return of(*arguments)

        patch.setattr(custom_units, "_rows", reading)
        patch.setattr(ForwardIndex, "of", analyzing)

    def new(self) -> tuple[int, int]:
        """Return shards read and shards analyzed since the last call."""
        result = (self.num_read, self.num_analyzed)
        self.num_read = self.num_analyzed = 0
        return result


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for number in range(4):
        write_file(tmp_path / "corpus" / f"{number}.jsonl", random.Random(number))
    return tmp_path / "corpus"


Search = Callable[..., Manifest]


@pytest.fixture
def search(tmp_path: Path, corpus: Path) -> Search:
    """Search with kept results, and compare the output with a search without them."""
    numbers = iter(range(1000))

    def run(texts: Sequence[str], top_k: int = 3, shard_bytes: int = 4000) -> Manifest:
        queries = write_queries(tmp_path / "queries.jsonl", texts)
        number = next(numbers)
        settings = {"top_k": top_k, "shard_bytes": shard_bytes}
        out, fresh = tmp_path / f"out-{number}", tmp_path / f"fresh-{number}"
        expected = search_files([corpus], queries, fresh, **settings)
        manifest = search_files([corpus], queries, out, **settings, keep=tmp_path / "kept")
        assert outputs_of(out, manifest) == outputs_of(fresh, expected)
        return manifest

    return run


def test_only_added_files_are_read_and_analyzed(
    corpus: Path, search: Search, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    search(["cat dog", "emu"])
    assert calls.new() == (8, 8)
    write_file(corpus / "new.jsonl", random.Random(9))
    search(["cat dog", "emu"])
    # Five by the search without kept results.
    assert calls.new() == (5 + 1, 5 + 1)
    printed = capsys.readouterr().err
    assert "read: 4 of 5 files as before" in printed
    assert "statistics: 4 of 5 shards as before" in printed
    assert "queries as before" not in printed
    (corpus / "0.jsonl").unlink()
    search(["cat dog", "emu"])
    assert calls.new() == (4, 4)


def test_only_new_queries_are_searched_in_an_unchanged_corpus(
    search: Search, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    search(["cat dog", "emu"])
    calls.new()
    search(["fox", "cat dog", "bee", "emu", "", "emu", "zebra"])
    assert calls.new() == (4, 4 + 4)
    printed = capsys.readouterr().err
    assert "read: 4 of 4 files as before" in printed
    assert "search: 2 of 7 queries as before" in printed
    search(["cat dog", "emu"])
    assert calls.new() == (4, 4)
    assert "search: 2 of 2 queries as before" in capsys.readouterr().err
    search(["cat dog", "emu"], top_k=2)
    assert "queries as before" not in capsys.readouterr().err


def test_random_changes_of_files_and_queries_give_the_bytes_of_a_fresh_search(
    corpus: Path, search: Search
) -> None:
    rng = random.Random(5)
    texts = ["cat dog", "emu", "", "ape ape bee"]
    for _ in range(25):
        change = rng.choice(["add", "change", "remove", "queries", "size", "none"])
        files = sorted(corpus.iterdir())
        if change == "add":
            write_file(corpus / f"{rng.random()}.jsonl", rng)
        elif change == "change":
            write_file(rng.choice(files), rng)
        elif change == "remove" and len(files) > 1:
            rng.choice(files).unlink()
        elif change == "queries":
            texts = rng.sample(texts, rng.randint(0, len(texts)))
            for _ in range(rng.randint(1, 3)):
                text = " ".join(rng.choices(WORDS, k=rng.randint(0, 3)))
                texts.insert(rng.randint(0, len(texts)), text)
        search(
            ["bee", *texts], top_k=rng.choice([3, 3, 50]), shard_bytes=rng.choice([4000, 4000, 900])
        )


def test_damaged_results_are_made_again(
    tmp_path: Path, corpus: Path, search: Search, calls: Calls
) -> None:
    kept = Kept(tmp_path / "kept")
    search(["cat dog", "emu"])
    # Shards read and analyzed: five by the search without kept results, one of the changed file.
    num_calls = {
        "units/*/units-*": (5 + 5, 5 + 1),
        "statistics/*/terms.npz": (5 + 1, 5 + 5),
        "answered/hits*": (5 + 1, 5 + 1),
        "*/manifest.json": (5 + 5, 5 + 5),
    }
    for number, (pattern, expected) in enumerate(num_calls.items()):
        for path in kept.folder.rglob("*"):
            if path.is_file() and path.match(pattern):
                content = bytearray(path.read_bytes())
                content[len(content) // 2] ^= 1
                path.write_bytes(content)
        calls.new()
        write_file(corpus / "more.jsonl", random.Random(100 + number))
        search(["cat dog", "emu"])
        assert calls.new() == expected


def test_hits_that_were_damaged_are_searched_again(
    tmp_path: Path, search: Search, capsys: pytest.CaptureFixture[str]
) -> None:
    search(["cat dog", "emu"])
    hits = tmp_path / "kept" / "answered" / "hits.parquet"
    before = digest_of_file(hits)
    hits.write_bytes(b"damaged")
    search(["cat dog", "emu"])
    assert "queries as before" not in capsys.readouterr().err
    assert digest_of_file(hits) == before


def test_statistics_of_removed_files_are_removed(
    tmp_path: Path, corpus: Path, search: Search
) -> None:
    search(["cat dog", "emu"])
    kept = Kept(tmp_path / "kept")
    for name in ("0.jsonl", "1.jsonl", "2.jsonl"):
        (corpus / name).unlink()
    search(["cat dog", "emu"])
    assert len(list(kept.statistics.iterdir())) == len(list(kept.units.iterdir())) == 1


def test_two_searches_do_not_use_one_folder_at_once(tmp_path: Path, search: Search) -> None:
    with (
        Kept(tmp_path / "kept").locked(),
        pytest.raises(InputError, match="another search uses these kept results; wait for its end"),
    ):
        search(["cat"])


def test_kept_results_in_the_output_are_refused(tmp_path: Path, corpus: Path) -> None:
    queries = write_queries(tmp_path / "queries.jsonl", ["cat"])
    for keep in ("out", "out/kept"):
        with pytest.raises(InputError, match="--keep .*: is inside --out .*; keep it elsewhere"):
            search_files([corpus], queries, tmp_path / "out", top_k=1, keep=tmp_path / keep)


def test_a_run_takes_over_the_hits_of_earlier_queries(
    tmp_path: Path, corpus: Path, calls: Calls
) -> None:
    queries = write_queries(tmp_path / "queries.jsonl", ["cat"])
    search_files([corpus], queries, tmp_path / "units-of", top_k=1, keep=tmp_path / "first")
    shards = sorted((tmp_path / "first" / "units").glob("*/units-*.parquet"))
    config = RetrievalConfig(top_k=4, keywords="none")
    calls.new()

    def run(texts: Sequence[str], out: str, units: str, keep: Path | None) -> bytes:
        sets = [QuerySet("hits", make_queries(texts, "none"), 4)]
        inputs = {"units": units, "queries": str(texts)}
        search_corpus(shards, sets, config, tmp_path / out, inputs, keep=keep)
        return (tmp_path / out / "hits.parquet").read_bytes()

    kept = tmp_path / "kept"
    expected = run(["emu", "cat dog", "bee"], "expected", "x", None)
    run(["emu", "bee"], "hits", "x", kept)
    calls.new()
    assert run(["emu", "cat dog", "bee"], "hits", "x", kept) == expected
    assert len(pq.read_table(kept / "answered" / "queries.parquet")) == 3
    assert calls.new() == (0, len(shards))
    assert run(["emu", "cat dog", "bee"], "hits", "y", kept) == expected
