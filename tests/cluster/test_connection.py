"""Addresses of Ray, and errors of a connection."""

import socket

import pytest

from raykd.cluster.connection import find_address, translate_connection_errors
from raykd.errors import InputError


def test_the_address_file_of_an_ended_cluster_is_ignored(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert find_address() == "local"
    (tmp_path / "ray").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}\n")
        assert find_address() == f"127.0.0.1:{port}"
    assert find_address() == "local"


def test_an_unreachable_address_is_an_error_at_once(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert find_address() == address
    with pytest.raises(InputError, match=f"RAY_ADDRESS={address}: cannot connect; correct the"):
        find_address()


@pytest.mark.parametrize("address", ["auto", "local", "ray://head.example.org:10001"])
def test_an_address_without_a_port_is_passed_to_ray(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert find_address() == address


def test_a_failed_connection_names_the_cluster_and_both_remedies():
    with (
        pytest.raises(InputError, match="RAY_AUTH_MODE=token, set that here too; RAY_ADDRESS=loc"),
        translate_connection_errors("10.0.0.1:6379"),
    ):
        raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379")


def test_a_start_of_ray_that_times_out_is_an_error_with_the_remedy():
    with (
        pytest.raises(InputError, match="Ray did not start on this machine within 30 s, probably"),
        translate_connection_errors("local"),
    ):
        raise Exception("The current node timed out during startup. This could happen because")


def test_an_unknown_fault_of_ray_is_not_reported_as_the_users():
    with (
        pytest.raises(Exception, match="Cannot include dashboard"),
        translate_connection_errors("local"),
    ):
        raise Exception("Cannot include dashboard with missing packages.")
