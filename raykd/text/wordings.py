"""Texts as their words alone, in bytes, so that compiled code can compare them word by word."""

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
    """Texts in which the runs between blanks that are not all ASCII hold only normalized words.

    Text t stands at `offsets[t]:offsets[t + 1]` of `data`. Its words are the runs of ASCII letters
    and digits, lower-cased, and of bytes from 0x80 on: the `words` of the normalized text in UTF-8.
    """

    data: _Bytes
    offsets: _Positions


def wordings(texts: pa.Array) -> Wordings:
    """Make the words of texts readable for compiled code.

    Only runs with characters beyond ASCII pass through Python, each different one once as a rule:
    no rule of normalization or of word boundaries reaches across a blank.

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
    """Where the runs between blanks stand that hold a byte beyond ASCII."""
    starts = [np.int64(0) for _ in range(0)]
    stops = [np.int64(0) for _ in range(0)]
    for text in range(len(offsets) - 1):
        at, end = offsets[text], offsets[text + 1]
        start = at
        while at < end:
            byte = data[at]
            at += 1
            if byte <= _LAST_BLANK:
                start = at
            elif byte >= _FIRST_OTHER:
                while at < end and data[at] > _LAST_BLANK:
                    at += 1
                starts.append(start)
                stops.append(at)
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
    """The texts with each run replaced by its words."""
    length = len(data) + len(run_data) - np.sum(stops - starts)
    replaced = np.empty(length, np.uint8)
    new_offsets = np.zeros(len(offsets), np.int64)
    run, at, to = 0, np.int64(0), np.int64(0)
    for text in range(len(offsets) - 1):
        end = offsets[text + 1]
        while True:
            is_run = run < len(starts) and starts[run] < end
            stop = starts[run] if is_run else end
            replaced[to : to + stop - at] = data[at:stop]
            to += stop - at
            at = stop
            if not is_run:
                break
            first, last = run_offsets[run], run_offsets[run + 1]
            replaced[to : to + last - first] = run_data[first:last]
            to += last - first
            at = stops[run]
            run += 1
        new_offsets[text + 1] = to
    return replaced, new_offsets
