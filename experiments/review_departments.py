"""Write a task that is not of GLUE: the shop department that a product review is about.

    python experiments/review_departments.py ../shared/data runs/inputs

Writes departments_train.parquet (200 reviews), departments_dev.parquet (1,000),
departments_reviews.parquet (2,000 unlabeled ones) and departments_corpus.parquet (the general
corpus with these as its only reviews). The classes are the sources of the reviews in the corpus:
books, dvd, electronics, kitchen.
"""

import argparse
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PREFIX = "amazon_reviews_"
NUM_TRAIN, NUM_DEV, NUM_UNLABELED = 200, 1000, 2000
SEED = 1


def main() -> None:
    """Read the command line, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder with corpus/")
    parser.add_argument("out", type=Path, help="folder to write to")
    arguments = parser.parse_args()
    table = pq.read_table(
        arguments.data / "corpus" / "general_a.parquet", columns=["text", "source"]
    )
    pairs = list(zip(table["text"].to_pylist(), table["source"].to_pylist(), strict=True))
    general = [text for text, source in pairs if not source.startswith(PREFIX)]
    reviews = [
        {"sentence": text, "label": source.removeprefix(PREFIX)}
        for text, source in pairs
        if source.startswith(PREFIX)
    ]
    random.Random(SEED).shuffle(reviews)
    train, rest = reviews[:NUM_TRAIN], reviews[NUM_TRAIN:]
    dev, rest = rest[:NUM_DEV], rest[NUM_DEV:]
    unlabeled = [row["sentence"] for row in rest[:NUM_UNLABELED]]
    corpus = general + unlabeled

    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, columns in (
        ("train", pa.Table.from_pylist(train)),
        ("dev", pa.Table.from_pylist(dev)),
        ("reviews", pa.table({"text": unlabeled})),
        ("corpus", pa.table({"text": corpus})),
    ):
        pq.write_table(columns, arguments.out / f"departments_{name}.parquet")
    share = sum(len(text.encode()) for text in unlabeled) / sum(
        len(text.encode()) for text in corpus
    )
    print(f"{len(corpus):,} texts, {len(unlabeled):,} of reviews: {share:.2%} of the bytes")


if __name__ == "__main__":
    main()
