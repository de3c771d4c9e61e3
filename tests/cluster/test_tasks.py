"""One task per item, on a real Ray."""

import errno
import os
import socket
import sys

import numpy as np
import pytest
from ray import cloudpickle

from raykd.cluster import tasks as cluster
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


def mean_of(number: int, *, table: np.ndarray) -> float:
    return float(table[number])


def test_results_are_in_the_order_of_the_items():
    results = cluster.for_each(times, list(range(40)), label="times", shared={"factor": 3})
    assert results == [3 * number for number in range(40)]


def test_no_items_give_no_results():
    assert cluster.for_each(refuse_seven, [], label="nothing") == []


def test_shared_values_reach_every_task():
    table = np.arange(1000.0)
    assert cluster.for_each(mean_of, [5, 999], label="m", shared={"table": table}) == [5.0, 999.0]


def test_a_users_mistake_arrives_as_it_was_raised():
    for _ in range(3):
        with pytest.raises(InputError) as caught:
            cluster.for_each(refuse_seven, list(range(30)), label="check")
        assert str(caught.value) == "corpus.txt, row 7: no text; remove the row"


def test_a_full_disk_keeps_its_error_number_and_file():
    with pytest.raises(OSError, match="No space left") as caught:
        cluster.for_each(fill_the_disk, [1, 2, 3], label="write")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == "units.parquet"


def test_a_task_whose_process_dies_each_time_gives_one_clear_error(monkeypatch):
    monkeypatch.setattr(cluster, "_MAX_RETRIES", 0)
    with pytest.raises(InputError, match=r"search: .* died 1 times .* out of memory; use"):
        cluster.for_each(end_at_once, [1], label="search")


def test_results_arrive_as_tasks_end_each_with_the_index_of_its_item():
    results = cluster.as_completed(times, [5, 6, 7], label="times", shared={"factor": 2})
    assert sorted(results) == [(0, 10), (1, 12), (2, 14)]


def test_a_value_shared_once_serves_many_calls():
    factor = cluster.share(4)
    for _ in range(2):
        assert cluster.for_each(times, [2], label="times", shared={"factor": factor}) == [8]


def test_the_address_file_of_an_ended_cluster_is_ignored(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert cluster.find_address() == "local"
    (tmp_path / "ray").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}\n")
        assert cluster.find_address() == f"127.0.0.1:{port}"
    assert cluster.find_address() == "local"


def test_an_unreachable_address_is_an_error_at_once(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert cluster.find_address() == address
    with pytest.raises(InputError, match=f"RAY_ADDRESS={address}: cannot connect; correct the"):
        cluster.find_address()


@pytest.mark.parametrize("address", ["auto", "local", "ray://head.example.org:10001"])
def test_an_address_without_a_port_is_passed_to_ray(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert cluster.find_address() == address


def test_a_failed_connection_names_the_cluster_and_both_remedies():
    with (
        pytest.raises(InputError, match="RAY_AUTH_MODE=token, set that here too; RAY_ADDRESS=loc"),
        cluster.translate_connection_errors("10.0.0.1:6379"),
    ):
        raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379")


def test_a_start_of_ray_that_times_out_is_an_error_with_the_remedy():
    with (
        pytest.raises(InputError, match="Ray did not start on this machine within 30 s, probably"),
        cluster.translate_connection_errors("local"),
    ):
        raise Exception("The current node timed out during startup. This could happen because")


def test_an_unknown_fault_of_ray_is_not_reported_as_the_users():
    with (
        pytest.raises(Exception, match="Cannot include dashboard"),
        cluster.translate_connection_errors("local"),
    ):
        raise Exception("Cannot include dashboard with missing packages.")
