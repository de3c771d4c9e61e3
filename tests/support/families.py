"""Random models of a few thousand weights of many families, with tokenizers, saved in folders.

They have no dropout, and weights large enough for each word to change the logits.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tiny_models import WORDS
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from raykd.models.encoder import Encoder

PAD, UNK, CLS, SEP, MASK = range(5)
TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)
MAX_POSITIONS = 40


def _bert(config: Callable[..., hf.PreTrainedConfig], **own: Any) -> Callable[[int], Any]:
    """Return a factory of configurations with BERT's names for sizes."""

    def make(num_layers: int) -> hf.PreTrainedConfig:
        shape = {
            "vocab_size": len(TOKENS),
            "hidden_size": 24,
            "num_hidden_layers": num_layers,
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "max_position_embeddings": MAX_POSITIONS,
            "initializer_range": 0.3,
            "pad_token_id": PAD,
        }
        return config(**(shape | own))

    return make


_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_DEBERTA = {
    **_NO_DROPOUT,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
    "pooler_hidden_size": 24,
}
_MARKS = {"bos_token_id": CLS, "eos_token_id": SEP}

FAMILIES: Mapping[str, Callable[[int], hf.PreTrainedConfig]] = {
    "bert": _bert(hf.BertConfig, **_NO_DROPOUT),
    "roberta": _bert(hf.RobertaConfig, **_NO_DROPOUT, type_vocab_size=1),
    "xlm-roberta": _bert(hf.XLMRobertaConfig, **_NO_DROPOUT, type_vocab_size=1),
    "camembert": _bert(hf.CamembertConfig, **_NO_DROPOUT, type_vocab_size=1),
    "distilbert": lambda num_layers: hf.DistilBertConfig(
        vocab_size=len(TOKENS),
        dim=24,
        hidden_dim=48,
        n_layers=num_layers,
        n_heads=2,
        max_position_embeddings=MAX_POSITIONS,
        initializer_range=0.3,
        dropout=0.0,
        attention_dropout=0.0,
        seq_classif_dropout=0.0,
        pad_token_id=PAD,
    ),
    "electra": _bert(hf.ElectraConfig, **_NO_DROPOUT, embedding_size=16),
    "mpnet": _bert(hf.MPNetConfig, **_NO_DROPOUT),
    "deberta": _bert(hf.DebertaConfig, **_DEBERTA),
    "deberta-v2": _bert(hf.DebertaV2Config, **_DEBERTA),
    "modernbert": _bert(hf.ModernBertConfig, **_MARKS, cls_token_id=CLS, sep_token_id=SEP),
    "nomic_bert": _bert(hf.NomicBertConfig, **_NO_DROPOUT),
    "albert": _bert(hf.AlbertConfig, **_NO_DROPOUT, embedding_size=16),
    "eurobert": _bert(hf.EuroBertConfig, num_key_value_heads=2),
    "megatron-bert": _bert(hf.MegatronBertConfig, **_NO_DROPOUT),
    "roberta-prelayernorm": _bert(hf.RobertaPreLayerNormConfig, **_NO_DROPOUT, type_vocab_size=1),
    "longformer": lambda num_layers: _bert(
        hf.LongformerConfig, **_NO_DROPOUT, type_vocab_size=1, attention_window=[8] * num_layers
    )(num_layers),
    "xlm": lambda num_layers: hf.XLMConfig(
        vocab_size=len(TOKENS),
        emb_dim=24,
        n_layers=num_layers,
        n_heads=2,
        dropout=0.0,
        attention_dropout=0.0,
        max_position_embeddings=MAX_POSITIONS,
        embed_init_std=0.3,
        init_std=0.3,
        summary_first_dropout=0.0,
        pad_token_id=PAD,
    ),
    "funnel": lambda num_layers: hf.FunnelConfig(
        vocab_size=len(TOKENS),
        block_sizes=[1] * num_layers,
        d_model=24,
        n_head=2,
        d_head=12,
        d_inner=48,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        initializer_std=0.3,
        pad_token_id=PAD,
    ),
    "bart": lambda num_layers: hf.BartConfig(
        vocab_size=len(TOKENS),
        d_model=24,
        encoder_layers=num_layers,
        decoder_layers=num_layers,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=MAX_POSITIONS,
        init_std=0.3,
        dropout=0.0,
        pad_token_id=PAD,
        **_MARKS,
        decoder_start_token_id=SEP,
        forced_eos_token_id=None,
    ),
    "xlnet": lambda num_layers: hf.XLNetConfig(
        vocab_size=len(TOKENS),
        d_model=24,
        n_layer=num_layers,
        n_head=2,
        d_inner=48,
        dropout=0.0,
        summary_last_dropout=0.0,
        initializer_range=0.3,
        pad_token_id=PAD,
        **_MARKS,
    ),
    "gpt2": lambda num_layers: hf.GPT2Config(
        vocab_size=len(TOKENS),
        n_embd=24,
        n_layer=num_layers,
        n_head=2,
        n_positions=MAX_POSITIONS,
        initializer_range=0.3,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        pad_token_id=PAD,
        **_MARKS,
    ),
    "qwen2": _bert(hf.Qwen2Config, **_MARKS, num_key_value_heads=1),
    "gemma3_text": _bert(hf.Gemma3TextConfig, **_MARKS, num_key_value_heads=1, head_dim=12),
}
DECODERS = ("gpt2", "qwen2", "gemma3_text")


def make_model(
    family: str, *, num_layers: int = 2, num_labels: int = 2, seed: int = 0, **changes: Any
) -> Encoder:
    """Make a model in evaluation mode; `changes` are values of its configuration."""
    config = FAMILIES[family](num_layers)
    config.num_labels = num_labels
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(seed)
    return Encoder(hf.AutoModelForSequenceClassification.from_config(config)).eval()


def make_tokenizer(
    tokens: tuple[str, ...] = TOKENS, *, decoder: bool = False, pads: bool = True
) -> hf.PreTrainedTokenizerBase:
    """Make a tokenizer of whole words; only an encoder's adds special tokens."""
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(tokens)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = {"unk_token": "[UNK]", "eos_token": "[SEP]"}
    if not decoder:
        special = [(token, tokens.index(token)) for token in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
        )
        marks = {
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        }
    if pads:
        marks["pad_token"] = "[PAD]"
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=names, model_max_length=MAX_POSITIONS, **marks
    )


def save_model(folder: Path, family: str, *, pads: bool = True, **options: Any) -> Path:
    """Save a model and its tokenizer; `options` are those of `make_model`."""
    make_model(family, **options).save(folder)
    make_tokenizer(decoder=family in DECODERS, pads=pads).save_pretrained(folder)
    return folder
