"""SetFit: an encoder fine-tuned on pairs of labeled texts."""

import numpy as np
from test_tfidf import examples
from tiny_models import save_tiny_model

from raykd.evaluation.baselines.setfit import contrastive_rows, make_setfit
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


def test_pairs_are_made_of_4000_rows_at_most_with_the_share_of_each_class():
    texts = [str(row) for row in range(9000)]
    classes = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [6000, 2999, 1]))
    train = examples(texts, classes.tolist())
    rows = contrastive_rows(train)
    assert np.bincount(rows["label"].to_numpy().astype(int)).tolist() == [2666, 1333, 1]
    assert rows.equals(contrastive_rows(train))
    assert len(set(rows["sentence1"].to_pylist())) == 4000
    first = train.slice(0, 4000)
    assert contrastive_rows(first).equals(first)


def test_training_on_pairs_gets_the_sample(tmp_path, monkeypatch):
    import setfit

    given = []

    class Recorder(setfit.Trainer):
        """Trainer that stops where it would make the index of all pairs."""

        def train_embeddings(self, x_train, y_train):
            given.append((len(x_train), sorted(set(y_train))))

    monkeypatch.setattr(setfit, "Trainer", Recorder)
    train = examples(["good film"] * 4000 + ["bad film"] * 10, [1] * 4000 + [0] * 10)
    model = save_tiny_model(tmp_path / "model")
    make_setfit(str(model), tmp_path / "setfit", train, max_length=8, device="cpu")
    assert given == [(4000, [0, 1])]
