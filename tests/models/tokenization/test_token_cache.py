"""Token cache on disk: equal to tokenizing, written once per text, tokenizer and length."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_models import save_tiny_model
from transformers import PreTrainedTokenizerBase

from raykd.errors import InputError
from raykd.models.encoder import load_tokenizer
from raykd.models.tokenization import token_cache
from raykd.models.tokenization.token_cache import cached_rows
from raykd.models.tokenization.tokens import read_rows
from raykd.storage import schemas


@pytest.fixture
def tokenizer(tmp_path) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(save_tiny_model(tmp_path / "model")))


def write_examples(path: Path, num_rows: int, *, pairs: bool = True) -> Path:
    rows = [
        {
            "row_id": row,
            "sentence1": "the film was " + "very " * (row % 5) + "good",
            "sentence2": "a dull plot" if pairs else None,
            "label": float(row % 2),
        }
        for row in range(num_rows)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=schemas.EXAMPLES), path)
    return path


def modification_times(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("pairs", [True, False])
def test_cached_tokens_equal_tokens_read_from_the_text(tmp_path, tokenizer, monkeypatch, pairs):
    monkeypatch.setattr(token_cache, "_ROWS_AT_ONCE", 7)
    path = write_examples(tmp_path / "train.parquet", 30, pairs=pairs)
    expected = read_rows(path, tokenizer, max_length=8)

    for _ in range(2):
        cached = cached_rows(
            path, tokenizer, max_length=8, folder=tmp_path / "tokens", fewest_rows=30
        )
        assert isinstance(cached.input_ids, np.memmap)
        for name in ("input_ids", "token_type_ids", "offsets", "labels"):
            assert np.array_equal(getattr(cached, name), getattr(expected, name)), name


def test_tokens_are_written_once_per_text_tokenizer_and_length(tmp_path, tokenizer):
    folder = tmp_path / "tokens"
    path = write_examples(tmp_path / "train.parquet", 30)
    cached_rows(path, tokenizer, max_length=8, folder=folder, fewest_rows=30)
    first = modification_times(folder)

    # Another length in between changes the tokenizer's own settings.
    cached_rows(path, tokenizer, max_length=6, folder=folder, fewest_rows=30)
    cached_rows(path, tokenizer, max_length=8, folder=folder, fewest_rows=30)
    assert first.items() <= modification_times(folder).items()
    assert len(list(folder.iterdir())) == 2

    write_examples(path, 31)
    rows = cached_rows(path, tokenizer, max_length=8, folder=folder, fewest_rows=30)
    assert len(rows) == 31
    assert len(list(folder.iterdir())) == 3


def test_a_short_text_is_not_cached(tmp_path, tokenizer):
    path = write_examples(tmp_path / "train.parquet", 30)
    rows = cached_rows(path, tokenizer, max_length=8, folder=tmp_path / "tokens")
    assert len(rows) == 30
    assert not (tmp_path / "tokens").exists()


def test_a_disk_too_small_for_the_tokens_of_all_rows_is_found_at_the_first_rows(tmp_path, capsys):
    (tmp_path / "input_ids.bin").write_bytes(b"0" * 4000)
    token_cache._check_space(tmp_path, Path("texts.parquet"), 1000, 100_000)
    with pytest.raises(InputError, match=r"its 1,000,000,000,000,000 rows need about .* GB more"):
        token_cache._check_space(tmp_path, Path("texts.parquet"), 1000, 10**15)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "tokens of texts.parquet: about 4000000.0 GB on the disk of each machine"
    )
