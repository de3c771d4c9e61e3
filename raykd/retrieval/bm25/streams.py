"""The terms of every unit of a shard, in two streams."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Terms whose numbers take one byte: the most frequent ones, about half of all that is said.
NUM_COMMON = 256
# Stands before the two halves of a term number that needs more than 16 bits.
WIDE = 0xFFFF

Part = tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.uint16], NDArray[np.int32]]
Offsets = NDArray[np.uint32] | NDArray[np.int64]


@dataclass(frozen=True)
class TermStreams:
    """Term numbers, repeats included: those below `NUM_COMMON` in one stream, the rest in another.

    Attributes:
        common: of unit u at common_offsets[u]:common_offsets[u + 1].
        common_offsets: (U + 1,)
        others: of unit u at offsets[u]:offsets[u + 1]; above 16 bits `WIDE` and two halves.
        offsets: (U + 1,)
    """

    common: NDArray[np.uint8]
    common_offsets: Offsets
    others: NDArray[np.uint16]
    offsets: Offsets

    @classmethod
    def joined(cls, parts: Sequence[Part]) -> "TermStreams":
        """The streams of some units, then those of the next.

        Args:
            parts: the common stream, how much of it belongs to each unit; the same of the rest.
        """
        return cls(
            np.concatenate([np.empty(0, np.uint8), *(part[0] for part in parts)]),
            _offsets([part[1] for part in parts]),
            np.concatenate([np.empty(0, np.uint16), *(part[2] for part in parts)]),
            _offsets([part[3] for part in parts]),
        )

    @property
    def nbytes(self) -> int:
        """Memory."""
        parts = (self.common, self.common_offsets, self.others, self.offsets)
        return sum(part.nbytes for part in parts)


def _offsets(sizes: Sequence[NDArray[np.int32]]) -> Offsets:
    offsets = np.cumsum(np.concatenate([np.zeros(1, np.int64), *sizes]), dtype=np.int64)
    return offsets.astype(np.uint32) if offsets[-1] < 1 << 32 else offsets
