import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_models import save_tiny_model, tiny_encoder

from raykd.evaluation.cost import cost_of, device_name, flops_per_token, shape_of, speed_of
from raykd.models.encoder import load_encoder
from raykd.models.tokenization.tokens import tokenize_table
from raykd.tasks.config import TaskConfig
from raykd.tasks.store import read_task, write_task


def batch(num_rows, length):
    ids = torch.full((num_rows, length), 7)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def bert_flops_per_token(*, layers, width, inner, length, classes):
    """Multiplications and additions per token, written out; the head reads one token per row."""
    projections = 4 * 2 * width * width
    scores_and_mixture = 2 * 2 * length * width
    feed_forward = 2 * 2 * width * inner
    head = 2 * width * width + 2 * width * classes
    return layers * (projections + scores_and_mixture + feed_forward) + head / length


def test_flops_per_token_equal_the_formula():
    # 2 x (4 x 2 x 24 x 24 + 4 x 10 x 24 + 4 x 24 x 48) + (2 x 24 x 24 + 2 x 24 x 3) / 10
    by_hand = bert_flops_per_token(layers=2, width=24, inner=48, length=10, classes=3)
    assert by_hand == 20_481.6
    encoder = tiny_encoder(num_layers=2).eval()
    assert flops_per_token(encoder, batch(1, 10)) == pytest.approx(20_481.6, rel=1e-12)


def test_flops_per_token_grow_with_the_row_length_and_not_with_the_number_of_rows():
    encoder = tiny_encoder(num_layers=1).eval()
    assert flops_per_token(encoder, batch(3, 8)) == flops_per_token(encoder, batch(1, 8))
    # Each token attends to 8 more tokens, and the head's cost is shared by 8 more.
    longer = flops_per_token(encoder, batch(1, 16)) - flops_per_token(encoder, batch(1, 8))
    assert longer == 4 * 8 * 24 - (2 * 24 * 24 + 2 * 24 * 3) / 16


@pytest.mark.parametrize("family", ["roberta", "distilbert", "electra", "deberta", "modernbert"])
def test_flops_of_every_family_include_attention(family):
    encoder = tiny_encoder(family, num_layers=2).eval()
    at_8, at_16, at_24 = (n * flops_per_token(encoder, batch(1, n)) for n in (8, 16, 24))
    # The quadratic part in the length: 2 layers x 2 products x 2 x 24 per pair of tokens.
    assert at_24 - 2 * at_16 + at_8 == 2 * 2 * 2 * 24 * (24**2 - 2 * 16**2 + 8**2)


def test_times_are_medians_over_rounds_and_latency_a_median_over_rows():
    rounds = [
        ([0.010, 0.020, 0.070], 0.050),
        ([0.010, 0.020, 0.070], 9.0),
        ([5.0, 0.020, 0.070], 0.050),
    ]
    speed = speed_of(rounds)
    assert speed.latency_ms == pytest.approx(20.0)
    assert speed.rows_per_s_batch_1 == pytest.approx(30.0)  # 3 rows in 0.1 s
    assert speed.rows_per_s_batch_32 == pytest.approx(60.0)


def examples(num_rows):
    """Texts of four to twelve tokens: [CLS], words, [SEP]."""
    words = ["good", "film", "was", "very", "dull", "the", "plot", "and", "music", "slow"]
    return [" ".join(words[: 2 + row % 9]) for row in range(num_rows)]


@pytest.fixture
def task_folder(tmp_path):
    for split, num_rows in (("train", 4), ("dev", 90)):
        texts = examples(num_rows)
        table = pa.table({"text": texts, "label": ["x" if i % 2 else "y" for i in range(num_rows)]})
        pq.write_table(table, tmp_path / f"{split}.parquet")
    given = {
        "name": "words",
        "train": "train.parquet",
        "dev": "dev.parquet",
        "sentence_columns": ["text"],
    }
    write_task(TaskConfig.parse(given, "task"), lambda name: tmp_path / name, tmp_path / "task")
    return tmp_path / "task"


def test_the_cost_of_a_saved_model_has_device_threads_bytes_and_length(tmp_path, task_folder):
    folder = save_tiny_model(tmp_path / "model")
    cost = cost_of(folder, 24, read_task(task_folder).dev)
    assert cost.weights_bytes == (folder / "model.safetensors").stat().st_size
    assert (cost.device, cost.num_threads) == (device_name(), torch.get_num_threads())
    # The lengths 4 to 12 are equally frequent.
    assert cost.num_tokens == 8
    expected = bert_flops_per_token(layers=2, width=24, inner=48, length=8, classes=2)
    assert cost.flops_per_token == pytest.approx(expected, rel=1e-12)
    assert cost.flops == pytest.approx(8 * expected, rel=1e-12)
    assert 0 < cost.latency_ms < 1000
    assert 0 < cost.rows_per_s_batch_1 < cost.rows_per_s_batch_32


def test_rows_are_truncated_at_the_models_training_length(tmp_path, task_folder):
    dev = read_task(task_folder).dev
    assert cost_of(save_tiny_model(tmp_path / "model"), 6, dev).num_tokens == 6


def test_a_models_shape_includes_everything_except_weight_values(tmp_path):
    folder = save_tiny_model(tmp_path / "model")
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    encoder = load_encoder(str(other))
    with torch.no_grad():
        encoder.model.classifier.weight.add_(1.0)
    encoder.save(other)
    (again := tmp_path / "again").mkdir()
    for path in other.iterdir():
        shutil.copy(path, again)
    encoder.save(folder)  # as raykd writes its config.json
    assert shape_of(folder, 24) == shape_of(other, 24) == shape_of(again, 24)
    deeper = save_tiny_model(tmp_path / "deeper", num_layers=3)
    assert len({shape_of(folder, 24), shape_of(folder, 25), shape_of(deeper, 24)}) == 3


def test_another_vocabulary_changes_the_shape_because_row_lengths_change(tmp_path):
    folder = save_tiny_model(tmp_path / "model")
    before = shape_of(folder, 24)
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace('"film"', '"movie"'))
    assert shape_of(folder, 24) != before


def test_table_rows_are_tokenized_with_their_labels(tmp_path):
    from raykd.models.encoder import load_tokenizer

    tokenizer = load_tokenizer(str(save_tiny_model(tmp_path / "model")))
    table = pa.table(
        {
            "sentence1": ["good film", "dull"],
            "sentence2": pa.array([None, None], pa.string()),
            "label": [1.0, 0.0],
        }
    )
    rows = tokenize_table(tokenizer, table, max_length=8)
    assert np.array_equal(rows.lengths, [4, 3])
    assert rows.labels is not None
    assert rows.labels.tolist() == [1.0, 0.0]
