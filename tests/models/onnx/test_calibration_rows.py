"""Rows on which the ranges of a static int8 file are measured."""

from tiny_models import save_tiny_classifier

from raykd.models.encoder import load_tokenizer
from raykd.models.onnx.int8 import MAX_CALIBRATION_ROWS, _batches


def test_they_are_spread_evenly_over_all_rows(tmp_path):
    tokenizer = load_tokenizer(str(save_tiny_classifier(tmp_path / "model")))
    # A file that is sorted by length: 300 short rows, then 300 long ones.
    rows = [("good film",)] * 300 + [("good film bad book",)] * 300
    masks = [
        batch["attention_mask"]
        for batch in _batches(rows, tokenizer, ["attention_mask"], max_length=16)
    ]
    lengths = [int(length) for mask in masks for length in mask.sum(axis=1)]
    assert len(lengths) == MAX_CALIBRATION_ROWS == 256
    assert lengths == [min(lengths)] * 128 + [max(lengths)] * 128
    assert min(lengths) < max(lengths)
