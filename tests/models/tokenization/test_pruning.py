"""Models without the embeddings of tokens that a text does not contain."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import save_tiny_classifier
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from raykd.errors import InputError
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.inference import logits_of
from raykd.models.tokenization.pruning import (
    check_prunable,
    count_tokens,
    kept_tokens,
    write_pruned,
)
from raykd.models.tokenization.tokens import tokenize

PIECES = ["un", "##want", "##ed", "run", "##ning", "##run", "want", "ed", "wanted", "##s", "runs"]
LETTERS = [*"adegnrstuw", *(f"##{letter}" for letter in "adegnrstuw")]
UNIGRAM = [("<unk>", 0.0), ("\u2581want", -2.0), ("ed", -2.5), ("\u2581wanted", -4.9)]
UNIGRAM += [("\u2581run", -2.2), ("ning", -3.0), ("\u2581", -3.5), ("runs", -4.0), ("s", -3.0)]
UNIGRAM += [(letter, -6.0) for letter in "adegnrtuw"]


def wordpiece() -> Tokenizer:
    vocabulary = ["[PAD]", "[unused]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PIECES, *LETTERS]
    model = models.WordPiece({text: i for i, text in enumerate(vocabulary)}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram(UNIGRAM, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def saved(folder, backend: Tokenizer):
    """Save a classifier with this tokenizer."""
    save_tiny_classifier(folder)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    is_wordpiece = isinstance(backend.model, models.WordPiece)
    options = {**special, "unk_token": "[UNK]"} if is_wordpiece else {"unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **options).save_pretrained(folder)
    return folder


def pruned(model, texts, folder):
    size = load_encoder(str(model)).model.config.vocab_size
    counts = count_tokens(load_tokenizer(str(model)), texts, size)
    kept = kept_tokens(str(model), counts)
    write_pruned(str(model), kept, folder)
    return kept


@pytest.fixture(scope="module", params=[wordpiece, unigram], ids=["WordPiece", "Unigram"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pruning") / request.param.__name__
    return saved(folder, request.param())


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text("adegnrstuw ", min_size=1, max_size=25), min_size=1, max_size=4))
def test_the_counted_texts_are_cut_into_the_same_pieces(model, tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("pruned")
    pruned(model, texts, folder)
    whole, part = load_tokenizer(str(model)), load_tokenizer(str(folder))
    for text in texts:
        assert part.tokenize(text) == whole.tokenize(text)


def test_logits_of_the_counted_texts_stay_the_same_and_other_words_are_cut_smaller(model, tmp_path):
    texts = ["wanted", "wanted wanted"]
    kept = pruned(model, texts, tmp_path)
    encoders = [load_encoder(str(path)) for path in (model, tmp_path)]
    tokenizers = [load_tokenizer(str(path)) for path in (model, tmp_path)]
    assert encoders[1].model.config.vocab_size == len(kept) < len(tokenizers[0])
    found = []
    for encoder, tokenizer in zip(encoders, tokenizers, strict=True):
        rows = tokenize(tokenizer, texts, max_length=8)
        found.append(logits_of(encoder, rows, pad_id=0, device=torch.device("cpu")))
    np.testing.assert_array_equal(found[0], found[1])
    whole, part = (tokenizer.tokenize("runs") for tokenizer in tokenizers)
    assert len(part) > len(whole)
    unknown = tokenizers[1].unk_token
    assert unknown not in part


def test_special_tokens_keep_their_place_in_the_template(tmp_path):
    model = save_tiny_classifier(tmp_path / "model")
    pruned(model, ["good film"], tmp_path / "pruned")
    tokenizer = load_tokenizer(str(tmp_path / "pruned"))
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("good", "film")["input_ids"])
    assert tokens == ["[CLS]", "good", "[SEP]", "film", "[SEP]"]
    config = json.loads((tmp_path / "pruned" / "config.json").read_text())
    assert config["pad_token_id"] == tokenizer.pad_token_id == 0


def test_a_pruned_tokenizer_cuts_rows_on_the_same_side(tmp_path):
    model = save_tiny_classifier(tmp_path / "model")
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings["truncation_side"] = "left"
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    pruned(model, ["good film"], tmp_path / "pruned")
    tokenizer = load_tokenizer(str(tmp_path / "pruned"))
    ids = tokenizer("good film", truncation=True, max_length=3)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "film", "[SEP]"]


def test_a_model_with_another_kind_of_tokenizer_is_refused(tmp_path):
    bpe = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    folder = save_tiny_classifier(tmp_path / "model")
    (folder / "vocab.txt").unlink()
    PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="a").save_pretrained(folder)
    with pytest.raises(InputError, match="of the kind BPE, and tokens can be left out of WordPie"):
        check_prunable(str(folder))
