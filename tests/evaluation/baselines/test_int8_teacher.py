"""The teacher with int8 weights."""

import numpy as np
import torch
from test_tfidf import examples
from tiny_models import save_tiny_model

from raykd.evaluation.baselines.int8_teacher import load_int8, make_int8
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.inference import logits_of
from raykd.models.tokenization.tokens import tokenize_table


def test_int8_logits_are_close_to_those_of_the_teacher_and_its_file_is_smaller(tmp_path):
    model = save_tiny_model(tmp_path / "model", num_labels=3)
    (tmp_path / "int8").mkdir()
    make_int8(str(model), tmp_path / "int8", max_length=16)
    fitted = load_int8(tmp_path / "int8", max_length=16, num_parameters=1234)
    rows = examples(["good film", "a bad story of war", "film"], [0, 1, 0])
    encoder, tokenizer = load_encoder(str(model)), load_tokenizer(str(model))
    tokens = tokenize_table(tokenizer, rows, max_length=16)
    expected = logits_of(encoder, tokens, pad_id=0, device=torch.device("cpu"))
    difference = np.abs(fitted.predict(rows) - expected).max()
    # Rounded to 8 bits: not equal, but close for logits of up to 2.4.
    assert 1e-4 < difference < 0.15
    assert fitted.num_parameters == 1234
    assert fitted.num_bytes == (tmp_path / "int8" / "model.onnx").stat().st_size
