"""Damaged files of every kind: a clear error that names the file, or the right content."""

import gzip
import io
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from file_fuzz import damaged
from tiny_models import save_tiny_model

from raykd.corpus.read import read_slice
from raykd.corpus.rows import Columns, Document, QuotesNote
from raykd.corpus.slices import plan_slices
from raykd.corpus.texts import read_texts
from raykd.errors import InputError
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.resolve import checked_model
from raykd.models.tokenization.positions import num_positions
from raykd.storage.formats import source_digest
from raykd.storage.manifest import (
    FILE_NAME,
    commit,
    finished,
    manifest_of_source,
    read_manifest,
    stage_key,
)
from raykd.storage.tables import read_table

LIMIT_S = 30
MAX_MESSAGE_LENGTH = 3000
TEXTS = [f"caf\u00e9 number {n} of a {'long ' * (n % 7)}street" for n in range(60)]
TEXT_COLUMN = Columns("text", ids=(), title=None)


def parquet(**options: object) -> bytes:
    file = io.BytesIO()
    table = pa.table({"number": range(len(TEXTS)), "text": TEXTS})
    pq.write_table(table, file, row_group_size=25, write_page_checksum=True, **options)
    return file.getvalue()


JSONL = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in TEXTS).encode()
CSV = ("number,text\n" + "".join(f'{n},"{text}"\n' for n, text in enumerate(TEXTS))).encode()
LINES = "\n".join(TEXTS).encode()
FILES = {
    "a.parquet": parquet(compression="zstd"),
    "b.parquet": parquet(compression="snappy", use_dictionary=False),
    "a.jsonl": JSONL,
    "a.csv": CSV,
    "a.tsv": CSV.replace(b",", b"\t"),
    "a.txt": LINES,
    "a.jsonl.gz": gzip.compress(JSONL, mtime=0),
    "a.csv.gz": gzip.compress(CSV, mtime=0),
    "a.jsonl.zst": zstandard.ZstdCompressor(write_checksum=True).compress(JSONL),
    "a.txt.zst": zstandard.ZstdCompressor(write_checksum=True).compress(LINES),
}
# Their formats have checksums of the content.
CHECKED = (".parquet", ".gz", ".zst")


def outcome_of(path: Path, read: Callable[[], list[str]], expected: list[str] | None) -> str:
    """Read a damaged file, and check the error or the content."""
    started = time.process_time()
    try:
        found = read()
    except InputError as error:
        message = str(error)
        assert path.name in message
        assert message.isprintable()
        assert len(message) < MAX_MESSAGE_LENGTH
        return "refused"
    finally:
        assert time.process_time() - started < LIMIT_S
    assert expected is None or found == expected
    return "read"


def corpus_texts(path: Path) -> list[str]:
    """Documents of a corpus by both of its readers, which must agree."""
    source_digest(path)
    rows = [row for piece in plan_slices([path], 2000) for row in read_slice(piece, TEXT_COLUMN)]
    documents = [row.text for row in rows if isinstance(row, Document)]
    batches = [b for piece in plan_slices([path], 2000) for b in read_texts(piece, TEXT_COLUMN)]
    assert documents == [
        bytes(batch.data[start:stop]).decode()
        for batch in batches
        for start, stop in zip(batch.starts, batch.stops, strict=True)
    ]
    if path.suffix in (".jsonl", ".txt"):
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
        num_lines = sum(bool(line.decode(errors="replace").strip()) for line in lines)
        assert sum(not isinstance(row, QuotesNote) for row in rows) == num_lines
    return documents


def table_texts(path: Path) -> list[str]:
    return read_table(path, ["text"], text_columns=["text"])["text"].to_pylist()


def read_damaged_files(folder: Path, seeds: range) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        name = list(FILES)[seed % len(FILES)]
        path = folder / name
        path.write_bytes(damaged(FILES[name], seed))
        expected = TEXTS if name.endswith(CHECKED) else None
        outcomes[outcome_of(path, lambda path=path: corpus_texts(path), expected)] += 1
        if ".txt" not in name:
            outcomes[outcome_of(path, lambda path=path: table_texts(path), expected)] += 1
        path.unlink()
    return outcomes


def test_damaged_corpora_and_tables_are_refused_or_read_without_loss(tmp_path):
    outcomes = read_damaged_files(tmp_path, range(100))
    assert min(outcomes.values()) > 20


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_thousands_of_damaged_corpora_and_tables_are_refused_or_read_without_loss(tmp_path):
    read_damaged_files(tmp_path, range(100, 2100))


def read_damaged_manifests(folder: Path, seeds: range) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    out = folder / "out"
    with commit(out, "stage", {"top_k": 3}, {"corpus": "ab"}) as draft:
        (draft.directory / "part").mkdir()
        (draft.directory / "part" / "text.txt").write_text("abc")
        draft.counts["num_units"] = 7
    manifest, key = read_manifest(out), stage_key("stage", {"top_k": 3}, {"corpus": "ab"})
    files = {path: path.read_bytes() for path in (out / FILE_NAME, out / "part" / "text.txt")}
    for seed in seeds:
        path = list(files)[seed % 2]
        path.write_bytes(content := damaged(files[path], seed))
        if finished(out, key) is not None:
            # An extra line end does not change the manifest's values.
            assert content == files[path] or read_manifest(out) == manifest
            outcomes["complete"] += 1
        else:
            outcomes["incomplete"] += 1
        if path.name == FILE_NAME:
            outcome_of(path, lambda: [str(manifest_of_source(out))], None)
        path.write_bytes(files[path])
    return outcomes


def test_damaged_manifests_and_outputs_count_as_incomplete(tmp_path):
    assert read_damaged_manifests(tmp_path, range(100))["incomplete"] > 90


@pytest.mark.exhaustive
def test_hundreds_of_damaged_manifests_and_outputs_count_as_incomplete(tmp_path):
    assert read_damaged_manifests(tmp_path, range(100, 900))["incomplete"] > 700


def read_damaged_models(folder: Path, seeds: range, *, has_manifest: bool) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    if has_manifest:
        with commit(folder / "model", "teacher", {}, {}) as draft:
            save_tiny_model(draft.directory)
    else:
        save_tiny_model(folder / "model")
    names = sorted(path.name for path in (folder / "model").iterdir() if path.is_file())
    for seed in seeds:
        copy = folder / f"copy-{seed}"
        shutil.copytree(folder / "model", copy)
        path = copy / names[seed % len(names)]
        original = path.read_bytes()
        path.write_bytes(content := damaged(original, seed))

        def load(copy: Path = copy) -> list[str]:
            checked_model(str(copy))
            load_tokenizer(str(copy))
            num_positions(str(copy))
            return [str(load_encoder(str(copy)).num_layers)]

        outcome = outcome_of(copy, load, None)
        if has_manifest and path.name != FILE_NAME and content != original:
            assert outcome == "refused", path.name
        outcomes[outcome] += 1
        shutil.rmtree(copy)
    return outcomes


@pytest.mark.parametrize("has_manifest", [True, False])
def test_damaged_models_are_refused_or_loaded(tmp_path, has_manifest):
    assert read_damaged_models(tmp_path, range(40), has_manifest=has_manifest)["refused"] > 15


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("has_manifest", [True, False])
def test_hundreds_of_damaged_models_are_refused_or_loaded(tmp_path, has_manifest):
    read_damaged_models(tmp_path, range(40, 340), has_manifest=has_manifest)
