"""One task an item, on a real Ray."""

import errno
import os
import sys

import numpy as np
import pytest
from ray import cloudpickle

from raykd import cluster
from raykd.errors import InputError

# The workers of a test session cannot import its test files.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def times(number: int, *, factor: int) -> int:
    return number * factor


def refuse_seven(number: int) -> int:
    if number == 7:
        raise InputError("corpus.txt, row 7: no text; remove the row")
    return number


def fill_the_disk(number: int) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "units.parquet")


def mean_of(number: int, *, table: np.ndarray) -> float:
    return float(table[number])


def test_results_stand_in_the_order_of_the_items():
    found = cluster.for_each(times, list(range(40)), label="times", shared={"factor": 3})
    assert found == [3 * number for number in range(40)]


def test_no_items_give_no_results():
    assert cluster.for_each(refuse_seven, [], label="nothing") == []


def test_what_is_shared_reaches_every_task():
    table = np.arange(1000.0)
    assert cluster.for_each(mean_of, [5, 999], label="m", shared={"table": table}) == [5.0, 999.0]


def test_the_users_mistake_arrives_as_it_was_raised():
    for _ in range(3):
        with pytest.raises(InputError) as caught:
            cluster.for_each(refuse_seven, list(range(30)), label="check")
        assert str(caught.value) == "corpus.txt, row 7: no text; remove the row"


def test_a_full_disk_keeps_its_error_number_and_file():
    with pytest.raises(OSError, match="No space left") as caught:
        cluster.for_each(fill_the_disk, [1, 2, 3], label="write")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == "units.parquet"
