"""A text is cut into parts that depend on its size alone."""

import pytest

from raykd.training.teacher_cache import parts_of


@pytest.mark.parametrize(
    ("num_rows", "num_parts"),
    [(0, 0), (1, 1), (1024, 1), (1025, 2), (32_768, 32), (100_000, 32), (1_000_000, 62)],
)
def test_parts_join_to_the_whole_and_grow_with_it(num_rows, num_parts):
    parts = parts_of(num_rows)

    assert len(parts) == num_parts
    assert [row for start, stop in parts for row in range(start, stop)] == list(range(num_rows))
    assert all(stop - start <= 16_384 for start, stop in parts)
