"""Random models of a few thousand weights, one per family."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertTokenizerFast,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from raykd.models.encoder import Encoder
from raykd.models.masked_lm import MaskedLm, SpecialTokens

VOCABULARY_SIZE = 50
PAD_ID = 0
FAMILIES = ("bert", "roberta", "distilbert", "electra", "deberta", "modernbert")


def tiny_encoder(
    family: str = "bert",
    *,
    num_layers: int = 2,
    hidden_size: int = 24,
    num_heads: int = 2,
    num_labels: int = 3,
    seed: int = 0,
) -> Encoder:
    """Make an encoder without dropout, in training mode."""
    config = _config(family, num_layers, hidden_size, num_heads)
    config.num_labels = num_labels
    torch.manual_seed(seed)
    return Encoder(AutoModelForSequenceClassification.from_config(config)).train()


def tiny_masked_lm(family: str = "bert", *, seed: int = 3) -> MaskedLm:
    """Make a masked language model with one layer, without dropout, in training mode."""
    torch.manual_seed(seed)
    model = AutoModelForMaskedLM.from_config(_config(family, 1, 16, 2))
    return MaskedLm(model, SpecialTokens(mask_id=4, ids=tuple(range(5)))).train()


def _config(family: str, num_layers: int, width: int, num_heads: int) -> PreTrainedConfig:
    shared = {"vocab_size": VOCABULARY_SIZE, "pad_token_id": PAD_ID, "max_position_embeddings": 40}
    shape = {
        "hidden_size": width,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "intermediate_size": 2 * width,
    }
    # Large, so that every word changes the logits noticeably; with the usual 0.02 it hardly does.
    shared["initializer_range"] = 0.3
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    match family:
        case "bert":
            return BertConfig(**shared, **shape, **no_dropout)
        case "roberta":
            return RobertaConfig(**shared, **shape, **no_dropout, type_vocab_size=1)
        case "electra":
            return ElectraConfig(**shared, **shape, **no_dropout, embedding_size=width)
        case "deberta":
            return DebertaV2Config(
                **shared,
                **shape,
                **no_dropout,
                pooler_hidden_size=width,
                relative_attention=True,
                share_att_key=True,
                pos_att_type=["p2c", "c2p"],
            )
        case "modernbert":
            return ModernBertConfig(**shared, **shape, bos_token_id=1, eos_token_id=2)
        case "distilbert":
            return DistilBertConfig(
                **shared,
                dim=width,
                n_layers=num_layers,
                n_heads=num_heads,
                hidden_dim=2 * width,
                dropout=0.0,
                attention_dropout=0.0,
                seq_classif_dropout=0.0,
            )
    raise AssertionError(family)


def tiny_batch(
    *, num_rows: int = 4, length: int = 9, regression: bool = False, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Make a batch of rows of different lengths, padded on the right, the first row full."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([max(3, length - 2 * row) for row in range(num_rows)])
    mask = (torch.arange(length) < lengths[:, None]).long()
    ids = torch.randint(5, VOCABULARY_SIZE, (num_rows, length), generator=generator) * mask
    labels = torch.arange(num_rows) % 3
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": mask * (torch.arange(length) > 1).long(),
        "row_ids": torch.arange(num_rows),
        "labels": labels.float() / 2 if regression else labels,
        "teacher_logits": torch.randn(num_rows, 1 if regression else 3, generator=generator),
    }


WORDS = (
    *("good", "bad", "fine", "poor", "film", "book", "plot", "actor", "scene", "story"),
    *("great", "awful", "dull", "bright", "slow", "quick", "ending", "music", "voice", "sound"),
    *("was", "is", "very", "not", "quite", "a", "the", "and", "of", "with"),
)


def save_tiny_classifier(folder: Path, *, labels: Sequence[str] = ("negative", "positive")) -> Path:
    """Save a tiny model with named classes; without any, a regression."""
    save_tiny_model(folder, num_labels=max(len(labels), 1))
    path = folder / "config.json"
    config = json.loads(path.read_text())
    if labels:
        config["id2label"] = {str(number): label for number, label in enumerate(labels)}
        config["label2id"] = {label: number for number, label in enumerate(labels)}
    path.write_text(json.dumps(config))
    return folder


def save_tiny_model(folder: Path, *, num_layers: int = 2, num_labels: int = 2) -> Path:
    """Save a BERT of width 24 and its tokenizer for a few common words."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    assert len(vocabulary) <= VOCABULARY_SIZE
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    tiny_encoder(num_layers=num_layers, num_labels=num_labels).save(folder)
    return folder
