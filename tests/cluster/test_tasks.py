"""One task per item, by plain tasks and by Ray Data, on a real Ray."""

import errno
import fcntl
import functools
import os
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from ray import cloudpickle

from raykd.cluster import datasets, tasks
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


def end_at_once(number: int) -> None:
    os._exit(1)


def is_alone(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        time.sleep(0.05)
        return True


def meets_the_other(own: Path) -> bool:
    own.touch()
    ends_s = time.monotonic() + 0.8
    while time.monotonic() < ends_s:
        if len(list(own.parent.iterdir())) == 2:
            return True
        time.sleep(0.01)
    return False


class UnpicklableError(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


def raise_unpicklable(number: int) -> None:
    raise UnpicklableError


def value_at(number: int, *, table: np.ndarray) -> float:
    return float(table[number])


@pytest.fixture(params=[tasks, datasets], ids=["tasks", "datasets"])
def engine(request) -> ModuleType:
    return request.param


def test_results_are_in_the_order_of_the_items(engine):
    results = engine.for_each(
        times, list(range(40)), label="times", files=None, shared={"factor": 3}
    )
    assert results == [3 * number for number in range(40)]


def test_no_items_give_no_results(engine):
    assert engine.for_each(refuse_seven, [], label="nothing", files=None) == []


def test_shared_values_reach_every_task(engine):
    table = np.arange(1000.0)
    assert engine.for_each(value_at, [5, 999], label="m", files=None, shared={"table": table}) == [
        5.0,
        999.0,
    ]


def test_a_users_mistake_arrives_as_it_was_raised(engine):
    for _ in range(3):
        with pytest.raises(InputError) as caught:
            engine.for_each(refuse_seven, list(range(30)), label="check", files=None)
        assert str(caught.value) == "corpus.txt, row 7: no text; remove the row"


def test_a_full_disk_keeps_its_error_number_and_file(engine):
    with pytest.raises(OSError, match="No space left") as caught:
        engine.for_each(fill_the_disk, [1, 2, 3], label="write", files=None)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == "units.parquet"


def test_a_task_whose_process_dies_each_time_gives_one_clear_error(engine, monkeypatch):
    for module in (tasks, datasets):
        monkeypatch.setattr(module, "MAX_RETRIES", 0)
    with pytest.raises(InputError, match=r"search: .* died 1 times .* out of memory; use"):
        engine.for_each(end_at_once, [1], label="search", files=None)


def test_results_arrive_as_tasks_end_each_with_the_index_of_its_item(engine):
    results = engine.as_completed(times, [5, 6, 7], label="times", files=None, shared={"factor": 2})
    assert sorted(results) == [(0, 10), (1, 12), (2, 14)]


def test_a_value_shared_once_serves_many_calls(engine):
    factor = tasks.share(4)
    for _ in range(2):
        assert engine.for_each(
            times, [2], label="times", files=None, shared={"factor": factor}
        ) == [8]


def test_an_error_that_cannot_be_pickled_arrives_with_its_trace():
    with pytest.raises(RuntimeError, match=r"raise UnpicklableError(.|\n)*holds a lock"):
        datasets.for_each(raise_unpicklable, [1], label="read", files=None)


def test_at_most_the_given_number_of_tasks_run_at_once(tmp_path, engine):
    (tmp_path / "lock").touch()
    alone = engine.for_each(
        is_alone, [tmp_path / "lock"] * 6, label="lock", files=None, num_at_once=1
    )
    assert alone == [True] * 6


def test_every_cpu_has_a_task_in_the_first_second_of_an_execution(tmp_path, engine):
    meetings = []
    for attempt in range(5):  # a busy machine may be late once
        folder = tmp_path / str(attempt)
        folder.mkdir()
        pair = [folder / "one", folder / "two"]
        meetings.append(engine.for_each(meets_the_other, pair, label="meet", files=None))
    assert [True, True] in meetings


def test_ray_data_writes_nothing_on_the_console(capfd):
    datasets.for_each(times, [1, 2], label="times", files=None, shared={"factor": 2})
    with pytest.raises(InputError):
        datasets.for_each(refuse_seven, [7], label="check", files=None)
    assert capfd.readouterr() == ("", "")


def test_the_operator_has_the_name_of_its_function_on_the_dashboard():
    operator = datasets._item_operator(functools.partial(times, factor=2), None, {}, {})
    assert operator.__name__ == "times"
