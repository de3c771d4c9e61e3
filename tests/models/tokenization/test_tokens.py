"""Token arrays and padded batches of text tables; predictions do not depend on the batches."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_models import save_tiny_model

from raykd.models.encoder import load_encoder, load_tokenizer, save_tokenizer
from raykd.models.inference import logits_of
from raykd.models.tokenization.tokens import collate, read_rows, tokenize
from raykd.storage import schemas


@pytest.fixture
def tokenizer(tmp_path):
    return load_tokenizer(str(save_tiny_model(tmp_path / "model")))


def test_a_batch_is_padded_to_its_longest_row(tokenizer):
    rows = tokenize(tokenizer, ["good film", "the plot was very dull", "bad"], max_length=16)
    assert rows.lengths.tolist() == [4, 7, 3]
    batch = collate(rows, np.array([2, 0]), pad_id=0, regression=False)
    assert batch["input_ids"].tolist() == [[2, 6, 3, 0], [2, 5, 9, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch["row_ids"].tolist() == [2, 0]


def test_pairs_have_token_types_and_are_truncated_to_the_given_length(tokenizer):
    rows = tokenize(tokenizer, ["good film"], ["bad book with the plot"], max_length=8)
    batch = collate(rows, np.array([0]), pad_id=0, regression=False)
    assert batch["input_ids"].shape == (1, 8)
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]


def test_labels_are_classes_or_scores(tokenizer, tmp_path):
    table = pa.table(
        [[0, 1], ["good film", "bad plot"], [None, None], [1.0, 0.5]], schema=schemas.EXAMPLES
    )
    pq.write_table(table, tmp_path / "train.parquet")
    rows = read_rows(tmp_path / "train.parquet", tokenizer, max_length=16)
    scores = collate(rows, np.array([0, 1]), pad_id=0, regression=True)["labels"]
    assert scores.dtype == torch.float32
    assert scores.tolist() == [1.0, 0.5]
    classes = collate(rows, np.array([0]), pad_id=0, regression=False)["labels"]
    assert classes.dtype == torch.int64


def test_units_read_in_parts_equal_those_read_at_once(tokenizer, tmp_path):
    texts = ["good film", "bad", "the plot was dull", "fine story"]
    table = pa.table(
        [[str(row) for row in range(4)], texts, [0] * 4, [None] * 4], schema=schemas.TRAINING_TEXT
    )
    path = tmp_path / "text.parquet"
    pq.write_table(table, path, row_group_size=2)
    rows = read_rows(path, tokenizer, max_length=16)
    assert rows.input_ids.tolist() == tokenize(tokenizer, texts, max_length=16).input_ids.tolist()
    for size in (1, 2, 3, 4, 5):
        parts = [
            read_rows(path, tokenizer, max_length=16, start=start, stop=start + size).input_ids
            for start in range(0, 4, size)
        ]
        assert np.concatenate(parts).tolist() == rows.input_ids.tolist()
    assert rows.labels is None


def test_an_empty_text_is_a_row_of_special_tokens(tokenizer):
    assert tokenize(tokenizer, ["", "good"], max_length=16).lengths.tolist() == [2, 3]


def test_logits_are_in_row_order_and_equal_those_of_single_rows(tmp_path):
    folder = save_tiny_model(tmp_path / "model", num_labels=3)
    encoder, tokenizer = load_encoder(str(folder)), load_tokenizer(str(folder))
    texts = ["good film", "the plot was very very dull and slow", "bad", "fine story"]
    together = logits_of(
        encoder,
        tokenize(tokenizer, texts, max_length=16),
        pad_id=0,
        device=torch.device("cpu"),
    )
    for text, logits in zip(texts, together, strict=True):
        with torch.inference_mode():
            alone = encoder(**tokenizer(text, return_tensors="pt")).logits[0].numpy()
        np.testing.assert_allclose(logits, alone, atol=1e-5)


def test_a_saved_tokenizer_does_not_depend_on_its_previous_use(tmp_path):
    save_tiny_model(tmp_path / "model")
    fresh, used = (load_tokenizer(str(tmp_path / "model")) for _ in range(2))
    used(["a long text that is cut", "short"], truncation=True, padding=True, max_length=4)
    for name, tokenizer in (("fresh", fresh), ("used", used)):
        save_tokenizer(tokenizer, tmp_path / name)
    for file in (tmp_path / "fresh").iterdir():
        assert (tmp_path / "used" / file.name).read_bytes() == file.read_bytes(), file.name
