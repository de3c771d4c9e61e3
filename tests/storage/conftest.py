"""Object store of the tests of storage."""

import pytest
from object_store import SECRET, file_system, running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Host and port of an S3 server that takes any credentials."""
    with running_server(tmp_path_factory.mktemp("server") / "log") as address:
        yield address


@pytest.fixture(scope="session")
def store(server):
    """Its file system, with a bucket."""
    system = file_system(server)
    system.create_dir("bucket")
    return system


@pytest.fixture
def environment(server, monkeypatch):
    """Set the environment as users do."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
