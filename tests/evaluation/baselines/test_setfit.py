"""SetFit: an encoder fine-tuned on pairs of labeled texts."""

import numpy as np
from test_tfidf import examples
from tiny_models import save_tiny_model

from raykd.evaluation.baselines.setfit import make_setfit
from raykd.models.embedding import TextEmbedder

PRAISE, BLAME = ["good film", "a good story"], ["bad film", "a bad story"]


def similarity_within_and_between(model) -> tuple[float, float]:
    embed = TextEmbedder.load("test", str(model), max_length=8)
    good, bad = embed(PRAISE), embed(BLAME)
    within = (good[0] @ good[1] + bad[0] @ bad[1]) / 2
    return float(within), float(np.mean(good @ bad.T))


def test_texts_of_one_class_become_alike_and_those_of_two_apart(tmp_path, capfd):
    model, folder = save_tiny_model(tmp_path / "model"), tmp_path / "setfit"
    before = similarity_within_and_between(model)
    train = examples(PRAISE * 8 + BLAME * 8, [1] * 16 + [0] * 16)
    # A model of 24 numbers per word learns at a higher rate than a pretrained one.
    make_setfit(str(model), folder, train, max_length=8, device="cpu", learning_rate=5e-3)
    within, between = similarity_within_and_between(folder)
    assert before[0] - before[1] < 0.1
    assert within - between > 0.5
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "Running training" not in printed.err
