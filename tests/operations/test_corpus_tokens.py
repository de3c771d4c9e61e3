"""Tokens of a vocabulary that the texts of a corpus contain."""

import json

from tiny_models import save_tiny_classifier

from raykd.corpus.shards import Part
from raykd.corpus.slices import plan_slices
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.operations.corpus_tokens import _count


def test_the_tokens_of_both_texts_of_a_pair_are_counted(tmp_path):
    model = str(save_tiny_classifier(tmp_path / "model"))
    rows = [{"q": "good film", "a": "dull plot"}, {"q": "good book", "a": None}]
    lines = [*map(json.dumps, rows), "no JSON"]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    parts = [Part("digest", piece) for piece in plan_slices([tmp_path / "pairs.jsonl"], 1 << 20)]
    size = load_encoder(model).model.config.vocab_size
    counts, num_unreadable = _count(parts, model=model, text_columns=("q", "a"), num_tokens=size)
    tokenizer = load_tokenizer(model)
    words = ["good", "film", "book", "dull", "plot", "music"]
    found = counts[tokenizer.convert_tokens_to_ids(words)]
    assert found.tolist() == [2, 1, 1, 1, 1, 0]
    assert num_unreadable == 1
