"""Saved masked language models with a few words: one with fixed predictions, one random."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    *("film", "movie", "book", "plot", "good", "great", "bad", "slow", "the", "was", "a"),
    *("not", "play", "##ground", "##er", "##s", ".", ",", "!", "'", "t", "wasn", "2"),
)
VOCABULARY = (*SPECIAL, *WORDS)
WIDTH = 16
_SHAPE = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 48,
}


def save_bert(folder: Path, *, seed: int = 0) -> Path:
    """Save a random BERT; its embeddings are large, so that the context of a mask matters."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    model = BertForMaskedLM(BertConfig(**_SHAPE))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    _save(model, folder)
    return folder


def save_known_bert(
    folder: Path, likely: Sequence[str], directions: Mapping[str, tuple[float, float]]
) -> Path:
    """Save a BERT that predicts `likely`, the first most, at every mask.

    Args:
        folder: output folder.
        likely: pieces by decreasing probability; the others are less likely, in vocabulary order.
        directions: word embeddings of some pieces; those of all others are equal.
    """
    folder.mkdir(parents=True)
    model = BertForMaskedLM(BertConfig(**_SHAPE))
    order = [*likely, *(piece for piece in VOCABULARY if piece not in likely)]
    with torch.no_grad():
        # The head's input is 0, its output the bias.
        norm = model.cls.predictions.transform.LayerNorm
        norm.weight.zero_()
        norm.bias.zero_()
        for place, piece in enumerate(order):
            model.cls.predictions.bias[VOCABULARY.index(piece)] = -float(place)
        table = model.get_input_embeddings().weight
        table.zero_()
        table[:, 2] = 1.0
        for piece, (x, y) in directions.items():
            row = table[VOCABULARY.index(piece)]
            row.zero_()
            row[0], row[1] = x, y
    _save(model, folder)
    return folder


def _save(model: AutoModelForMaskedLM, folder: Path) -> None:
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)


def save_byte_bpe(folder: Path, likely: Sequence[str]) -> Path:
    """Save a RoBERTa with byte-level BPE that predicts `likely` at every mask."""
    folder.mkdir(parents=True)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    # Merges of words after a blank come first; otherwise merges of the other words would apply.
    whole_words = ["Ġfilm", "Ġbook", "Ġmovie", "Ġgood", "Ġwas", "Ġthe", "film", "movie"]
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = []
    for word in whole_words:
        for end in range(2, len(word) + 1):
            if word[:end] not in pieces:
                pieces.append(word[:end])
                merges.append((word[: end - 1], word[end - 1]))
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{
            "bos_token": "<s>",
            "cls_token": "<s>",
            "eos_token": "</s>",
            "sep_token": "</s>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "mask_token": "<mask>",
        },
    )
    tokenizer.save_pretrained(folder)
    shape = {**_SHAPE, "vocab_size": len(pieces), "type_vocab_size": 1, "pad_token_id": 1}
    model = RobertaForMaskedLM(RobertaConfig(**shape))
    order = [*likely, *(piece for piece in pieces if piece not in likely)]
    with torch.no_grad():
        model.lm_head.layer_norm.weight.zero_()
        for place, piece in enumerate(order):
            model.lm_head.bias[vocabulary[piece]] = -float(place)
    model.save_pretrained(folder)
    return folder
