r"""Write generated text of any size: real sentences, sampled by a seed and recombined.

    python experiments/benchmarks/generate_text.py --from corpus.parquet --out DIR --gigabytes 10

Sentences of the source (read from its `text` column) are sampled uniformly and joined to paragraphs
of 3 to 8 sentences, about six paragraphs per document; words and word pairs are as frequent as in
the source, and hardly any paragraph appears twice. `--format jsonl` writes one document per line,
its paragraphs separated by `\n\n`; `--format text` one paragraph per line. The output is for
measurements of speed and memory; do not publish it, its sentences are the source's.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import sentencex
from numpy.typing import NDArray

BLOCK_PARAGRAPHS = 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--from", dest="source", type=Path, required=True, help="Parquet, `text`")
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    parser.add_argument("--gigabytes", type=float, default=10.0, help="10^9 bytes in all")
    parser.add_argument("--file-gigabytes", type=float, default=2.0, help="bytes of one file")
    parser.add_argument("--format", choices=["jsonl", "text"], default="jsonl")
    parser.add_argument(
        "--num-paragraphs", type=int, default=40_000, help="paragraphs read from the source"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    started = time.monotonic()
    sentences = sentences_of(options.source, options.num_paragraphs, options.format)
    options.out.mkdir(parents=True, exist_ok=True)
    goal, limit = int(options.gigabytes * 1e9), int(options.file_gigabytes * 1e9)
    generator = np.random.default_rng(options.seed)
    written, names = 0, []
    while written < goal:
        suffix = {"jsonl": "jsonl", "text": "txt"}[options.format]
        path = options.out / f"generated-{len(names):04d}.{suffix}"
        names.append(path.name)
        with path.open("wb") as file:
            size = 0
            while size < limit and written + size < goal:
                size += file.write(block(sentences, generator, options.format))
            written += size
    seconds = time.monotonic() - started
    result = {
        "num_bytes": written,
        "num_files": len(names),
        "seconds": round(seconds, 1),
        "megabytes_per_second": round(written / 1e6 / seconds, 1),
    }
    print(json.dumps(result))


def sentences_of(source: Path, num_paragraphs: int, format_: str) -> NDArray[np.object_]:
    """Return distinct sentences of 4 to 80 words, encoded as in the output."""
    with pq.ParquetFile(source) as file:
        paragraphs = []
        for batch in file.iter_batches(columns=["text"]):
            paragraphs += batch.column(0).to_pylist()
            if len(paragraphs) >= num_paragraphs:
                break
    sentences = {
        " ".join(sentence.split())
        for paragraph in paragraphs[:num_paragraphs]
        for sentence in sentencex.segment("en", paragraph[:8192])
    }
    ordered = sorted(sentence for sentence in sentences if 3 <= sentence.count(" ") < 80)
    if format_ == "jsonl":
        ordered = [json.dumps(sentence, ensure_ascii=False)[1:-1] for sentence in ordered]
    encoded = np.empty(len(ordered), object)
    encoded[:] = [sentence.encode() for sentence in ordered]
    return encoded


def block(sentences: NDArray[np.object_], generator: np.random.Generator, format_: str) -> bytes:
    """Make many paragraphs: sampled sentences with separators."""
    lengths = generator.integers(3, 9, BLOCK_PARAGRAPHS)
    num = int(lengths.sum())
    pieces = np.empty(2 * num, object)
    pieces[::2] = sentences[generator.integers(0, len(sentences), num)]
    pieces[1::2] = b" "
    ends = 2 * np.cumsum(lengths) - 1
    if format_ == "text":
        pieces[ends] = b"\n"
        return b"".join(pieces.tolist())
    pieces[ends] = rb"\n\n"
    pieces[ends[generator.random(BLOCK_PARAGRAPHS) < 1 / 6]] = b'"}\n{"text": "'
    pieces[-1] = b'"}\n'
    return b'{"text": "' + b"".join(pieces.tolist())


if __name__ == "__main__":
    main()
