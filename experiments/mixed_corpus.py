"""Write a general corpus with a small share of a task's domain, and that share alone.

    python experiments/mixed_corpus.py ../shared/data runs/inputs

Writes mixed_corpus.parquet and reviews.parquet. The sentences are rows 1,000 to 10,999 of SST-2's
train split, without their labels; the tables of `experiments/expected/tables` train on the first
1,000.
"""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FIRST, NUM_SENTENCES = 1000, 10_000


def main() -> None:
    """Read the command line, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder with glue/ and corpus/")
    parser.add_argument("out", type=Path, help="folder to write to")
    arguments = parser.parse_args()
    general = pq.read_table(arguments.data / "corpus" / "general_a.parquet", columns=["text"])
    reviews = pq.read_table(arguments.data / "glue" / "sst2_train.parquet", columns=["sentence"])
    sentences = reviews["sentence"].slice(FIRST, NUM_SENTENCES).cast(pa.large_string())
    texts = pa.chunked_array([*general["text"].chunks, *sentences.chunks])
    arguments.out.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": texts}), arguments.out / "mixed_corpus.parquet")
    pq.write_table(pa.table({"text": sentences}), arguments.out / "reviews.parquet")
    num_bytes = sum(len(text.encode()) for text in sentences.to_pylist())
    total = sum(len(text.encode()) for text in texts.to_pylist())
    print(
        f"{len(texts):,} texts, {len(sentences):,} of reviews: {num_bytes / total:.2%} of the bytes"
    )


if __name__ == "__main__":
    main()
