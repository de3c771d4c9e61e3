"""Texts reduced to normalized words as bytes, for compiled word-by-word comparisons."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from raykd.text.normalize import normalize, words

_Bytes = npt.NDArray[np.uint8]
_Positions = npt.NDArray[np.int64]

_FIRST_OTHER = 0x80
_LAST_BLANK = 0x20


class Wordings(NamedTuple):
    """Texts whose non-ASCII runs between blanks are replaced by their normalized words.

    Text t is `data[offsets[t]:offsets[t + 1]]`. Its words are the runs of bytes from 0x80 and of
    lower-cased ASCII letters and digits: the `words` of the normalized text in UTF-8.
    """

    data: _Bytes
    offsets: _Positions


def wordings(texts: pa.Array) -> Wordings:
    """Encode the words of texts for compiled code.

    Only runs with non-ASCII characters are processed in Python, with a cache: normalization and
    word boundaries do not depend on characters across a blank.

    Args:
        texts: (N,) string or large_string, sliced or not; nulls count as empty.
    """
    data, offsets = _buffers(texts)
    starts, stops = _other_runs(data, offsets)
    if not len(starts):
        return Wordings(data, offsets)
    runs = [
        _words_of_run(data[start:stop].tobytes())
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
    ]
    run_offsets = np.zeros(len(runs) + 1, np.int64)
    np.cumsum([len(run) for run in runs], out=run_offsets[1:])
    run_data = np.frombuffer(b"".join(runs), np.uint8)
    return Wordings(*_replaced(data, offsets, starts, stops, run_data, run_offsets))


def _buffers(texts: pa.Array) -> tuple[_Bytes, _Positions]:
    texts = texts.cast(pa.large_string())
    if texts.null_count:
        texts = texts.fill_null("")
    _, offset_buffer, data_buffer = texts.buffers()
    if offset_buffer is None or not len(texts):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    offsets = np.frombuffer(offset_buffer, np.int64, len(texts) + 1, texts.offset * 8)
    first, last = int(offsets[0]), int(offsets[-1])
    if first == last:
        return np.zeros(0, np.uint8), np.zeros(len(texts) + 1, np.int64)
    return np.frombuffer(data_buffer, np.uint8, last - first, first), offsets - first


@lru_cache(maxsize=1 << 16)
def _words_of_run(run: bytes) -> bytes:
    return " ".join(words(normalize(run.decode()))).encode()


@njit(cache=True, nogil=True)
def _other_runs(data: _Bytes, offsets: _Positions) -> tuple[_Positions, _Positions]:
    """Find the runs between blanks that contain a non-ASCII byte."""
    starts = [np.int64(0) for _ in range(0)]
    stops = [np.int64(0) for _ in range(0)]
    for text in range(len(offsets) - 1):
        position, end = offsets[text], offsets[text + 1]
        start = position
        while position < end:
            byte = data[position]
            position += 1
            if byte <= _LAST_BLANK:
                start = position
            elif byte >= _FIRST_OTHER:
                while position < end and data[position] > _LAST_BLANK:
                    position += 1
                starts.append(start)
                stops.append(position)
    return np.array(starts, np.int64), np.array(stops, np.int64)


@njit(cache=True, nogil=True)
def _replaced(
    data: _Bytes,
    offsets: _Positions,
    starts: _Positions,
    stops: _Positions,
    run_data: _Bytes,
    run_offsets: _Positions,
) -> tuple[_Bytes, _Positions]:
    """Replace each run of the texts by its words."""
    length = len(data) + len(run_data) - np.sum(stops - starts)
    replaced = np.empty(length, np.uint8)
    new_offsets = np.zeros(len(offsets), np.int64)
    run, position, end_out = 0, np.int64(0), np.int64(0)
    for text in range(len(offsets) - 1):
        end = offsets[text + 1]
        while True:
            is_run = run < len(starts) and starts[run] < end
            stop = starts[run] if is_run else end
            replaced[end_out : end_out + stop - position] = data[position:stop]
            end_out += stop - position
            position = stop
            if not is_run:
                break
            first, last = run_offsets[run], run_offsets[run + 1]
            replaced[end_out : end_out + last - first] = run_data[first:last]
            end_out += last - first
            position = stops[run]
            run += 1
        new_offsets[text + 1] = end_out
    return replaced, new_offsets
