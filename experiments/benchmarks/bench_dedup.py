"""Deduplication: exact units per second, and MinHash compared with rensa.

    python experiments/benchmarks/bench_dedup.py CORPUS.parquet > dedup.json

For one core: NUMBA_NUM_THREADS=1 RAYON_NUM_THREADS=1 taskset -c 1.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rensa

from raykd.dedup.clusters import near_duplicates
from raykd.dedup.exact import first_equal
from raykd.dedup.minhash import NearDuplicatesConfig, Shingles, band_keys, jaccard, shingles
from raykd.text.normalize import normalize, words

CONFIG = NearDuplicatesConfig()
NUM_ROWS = CONFIG.num_bands * CONFIG.rows_per_band
BATCH_ROWS = 4096


def seconds(function: Callable[[], object], repeats: int = 3) -> tuple[float, float]:
    """Measure wall-clock and CPU seconds, the best of several runs."""
    best = (float("inf"), float("inf"))
    for _ in range(repeats):
        clock, core = time.perf_counter(), time.process_time()
        function()
        best = min(best, (time.perf_counter() - clock, time.process_time() - core))
    return best


def rate(function: Callable[[], object], num_units: int, repeats: int = 3) -> dict[str, float]:
    clock_s, core_s = seconds(function, repeats)
    return {
        "units_per_s": round(num_units / clock_s),
        "units_per_core_s": round(num_units / core_s),
    }


def batches(texts: pa.ChunkedArray) -> list[pa.Array]:
    return [
        chunk.slice(start, BATCH_ROWS)
        for chunk in texts.chunks
        for start in range(0, len(chunk), BATCH_ROWS)
    ]


def signature_matrix(part_shingles: Shingles) -> np.ndarray:
    """Compute our signature row by row, as keys of bands of one row."""
    config = NearDuplicatesConfig(num_bands=NUM_ROWS, rows_per_band=1)
    return band_keys(part_shingles, config)


def rensa_matrix(part_shingles: Shingles) -> np.ndarray:
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        part_shingles.hashes, part_shingles.starts.astype(np.uint64), NUM_ROWS, 42
    )
    return matrix


def python_shingles(text: str) -> list[str]:
    parts = words(normalize(text))
    size = min(CONFIG.shingle_words, len(parts))
    return (
        [" ".join(parts[start : start + size]) for start in range(len(parts) - size + 1)]
        if parts
        else []
    )


def recall(keys_equal: np.ndarray) -> float:
    """Return the fraction of pairs with a common band."""
    bands = keys_equal.reshape(len(keys_equal), CONFIG.num_bands, CONFIG.rows_per_band)
    return float(bands.all(axis=2).any(axis=1).mean())


def variants(texts: list[str], seed: int) -> list[str]:
    """Change a few words of each text."""
    random = np.random.default_rng(seed)
    changed = []
    for text in texts:
        parts = text.split()
        for position in random.choice(len(parts), size=max(1, len(parts) // 50), replace=False):
            parts[position] = f"x{random.integers(10**6)}"
        changed.append(" ".join(parts))
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--num-units", type=int, default=200_000)
    arguments = parser.parse_args()
    texts = pq.read_table(arguments.corpus, columns=["text"])["text"]
    texts = texts.slice(0, arguments.num_units)
    num_units = len(texts)
    sample = texts.slice(0, 1000)
    first_equal(sample)
    near_duplicates(pa.table({"unit_id": range(1000), "text": sample}), CONFIG)
    result: dict[str, object] = {
        "num_units": num_units,
        "num_bytes": pa.compute.sum(pa.compute.binary_length(texts)).as_py(),
        "non_ascii_fraction": np.mean([not text.isascii() for text in texts.to_pylist()]),
        "exact": rate(lambda: first_equal(texts), num_units),
    }
    ascii_only = texts.filter(pa.array([text.isascii() for text in texts.to_pylist()]))
    result["exact_ascii_only"] = rate(lambda: first_equal(ascii_only), len(ascii_only))
    parts = batches(texts)
    part_shingles = [shingles(part, CONFIG.shingle_words) for part in parts]
    result["shingles_per_unit"] = sum(len(part.hashes) for part in part_shingles) / num_units

    def ours_signatures() -> None:
        for part in part_shingles:
            band_keys(part, CONFIG)

    def rensa_signatures() -> None:
        for part in part_shingles:
            rensa_matrix(part)

    def ours_from_text() -> None:
        for part in parts:
            band_keys(shingles(part, CONFIG.shingle_words), CONFIG)

    some = texts.slice(0, num_units // 10).to_pylist()

    def rensa_from_text() -> None:
        for start in range(0, len(some), BATCH_ROWS):
            tokens = [python_shingles(text) for text in some[start : start + BATCH_ROWS]]
            rensa.RMinHash.digest_matrix_from_token_sets(tokens, NUM_ROWS, 42)

    tokens = [python_shingles(text) for text in some]
    result["minhash"] = {
        "num_rows": NUM_ROWS,
        "signatures_from_hashes": rate(ours_signatures, num_units),
        "rensa_signatures_from_hashes": rate(rensa_signatures, num_units),
        "signatures_from_text": rate(ours_from_text, num_units),
        "rensa_from_text_python_shingles": rate(rensa_from_text, len(some), 1),
        "rensa_from_token_lists": rate(
            lambda: rensa.RMinHash.digest_matrix_from_token_sets(tokens, NUM_ROWS, 42), len(some)
        ),
    }
    table = pa.table({"unit_id": range(num_units), "text": texts})
    result["near_duplicates_whole"] = rate(lambda: near_duplicates(table, CONFIG), num_units, 1)

    originals = [text for text in some if len(text.split()) >= 50][:4000]
    original_shingles = shingles(pa.array(originals), CONFIG.shingle_words)
    changed_shingles = shingles(pa.array(variants(originals, 1)), CONFIG.shingle_words)
    all_shingles = shingles(
        pa.array([*originals, *variants(originals, 1)]), CONFIG.shingle_words
    ).sets()
    rows = np.arange(len(originals))
    true = jaccard(all_shingles, rows, rows + len(originals))
    agreement: dict[str, object] = {"num_pairs": len(originals), "mean_jaccard": true.mean()}
    sides = {
        "ours": signature_matrix(original_shingles) == signature_matrix(changed_shingles),
        "rensa": rows_of(rensa_matrix(original_shingles))
        == rows_of(rensa_matrix(changed_shingles)),
    }
    for name, is_equal in sides.items():
        agreement[name] = {
            "recall_of_pairs_at_threshold": recall(is_equal[true >= CONFIG.threshold]),
            "root_mean_square_error": float(np.sqrt(np.mean((is_equal.mean(axis=1) - true) ** 2))),
            "bias": float(np.mean(is_equal.mean(axis=1) - true)),
        }
    result["estimate"] = agreement
    json.dump(result, sys.stdout, indent=2, default=float)
    print()


def rows_of(matrix: rensa.RMinHashDigestMatrix) -> np.ndarray:
    return np.array(matrix.to_rows(), np.uint32)


if __name__ == "__main__":
    main()
