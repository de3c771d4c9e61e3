"""Dev split cut from the training rows, stratified by class or score."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from raykd.errors import InputError
from raykd.storage.schemas import is_multi_label

# Ranges of scores with about equally many texts, from each of which the same share is cut.
_SCORE_RANGES = 10


class Text(NamedTuple):
    """All rows with the same sentences: they are in one split.

    `label` is the lowest of the rows' labels; `draw` orders the texts at random.
    """

    label: float
    draw: int
    rows: list[int]


def cut_dev(
    train: pa.Table,
    fraction: float,
    seed: int,
    *,
    labels: Sequence[str],
    source: str,
    key: str = "'task.dev'",
) -> tuple[pa.Table, pa.Table]:
    """Split training rows into train and dev; the order of the rows has no effect on the split.

    From each class, or range of scores, about the same share of rows is cut: texts in the order of
    a hash of seed and sentences, at least one. The rows of a multi-label task are cut together.

    Args:
        train: rows as `schemas.EXAMPLES`.
        fraction: share of rows to cut, in (0, 1).
        seed: seed of the draw.
        labels: class names; empty for regression.
        source: source of the rows, for messages.
        key: setting that names a dev file, for messages.

    Raises:
        InputError: a class has fewer than two different texts, or there are too few for regression.
    """
    is_dev = np.zeros(train.num_rows, np.bool_)
    texts = texts_of(train, seed)
    if is_multi_label(train):
        # One stratum: a row has several classes or none.
        strata: Mapping[str, list[Text]] = {"rows": sorted(texts, key=_by_draw)}
        labels = ()
    else:
        strata = _strata(texts, labels, fraction)
    for name, texts in strata.items():
        if len(texts) < 2:
            what = f"class {name!r} has" if labels else "there are"
            raise InputError(
                f"{source}: {what} fewer than two different texts, so that no dev rows can be cut "
                f"from them; add rows, or name a file of dev rows ({key})"
            )
        is_dev[_cut(texts, fraction)] = True
    return train.filter(pa.array(~is_dev)), train.filter(pa.array(is_dev))


def texts_of(train: pa.Table, seed: int) -> list[Text]:
    """Different texts of rows as `schemas.EXAMPLES`, each with its rows; `seed` is of the draw."""
    rows_by_sentences: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    sentences = zip(train["sentence1"].to_pylist(), train["sentence2"].to_pylist(), strict=True)
    for row, pair in enumerate(sentences):
        rows_by_sentences[pair].append(row)
    values = np.zeros(train.num_rows) if is_multi_label(train) else train["label"].to_numpy()
    return [
        Text(
            label=float(values[rows].min()),
            draw=xxhash.xxh3_128_intdigest(json.dumps(pair).encode(), seed=seed),
            rows=rows,
        )
        for pair, rows in rows_by_sentences.items()
    ]


def _strata(
    texts: Sequence[Text], labels: Sequence[str], fraction: float
) -> Mapping[str, list[Text]]:
    """Texts of each class, or of each range of scores, in the order of the draw."""
    if labels:
        return {
            name: sorted((text for text in texts if text.label == number), key=_by_draw)
            for number, name in enumerate(labels)
            if any(text.label == number for text in texts)
        }
    by_score = sorted(texts)
    num_ranges = max(1, min(_SCORE_RANGES, int(fraction * len(texts)), len(texts) // 2))
    ranges = np.array_split(np.arange(len(texts)), num_ranges)
    return {
        str(number): sorted((by_score[place] for place in places), key=_by_draw)
        for number, places in enumerate(ranges)
    }


def _by_draw(text: Text) -> int:
    return text.draw


def _cut(texts: Sequence[Text], fraction: float) -> NDArray[np.int64]:
    """Rows of the first texts that are nearest to the fraction; one text at least is left."""
    ends = np.cumsum([len(text.rows) for text in texts])
    nearest = int(np.abs(ends[:-1] - fraction * ends[-1]).argmin())
    return np.concatenate([text.rows for text in texts[: nearest + 1]])
