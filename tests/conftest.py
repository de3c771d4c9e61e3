"""Fixtures and settings of all tests."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Set before the import of the libraries that read them.
os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_VERBOSITY="error",
    RAY_USAGE_STATS_ENABLED="0",
    # Commands in processes of their own would join the Ray of another test, which ends.
    RAY_ADDRESS="local",
    TOKENIZERS_PARALLELISM="false",  # word list: ok
    # Tests run in parallel on few cores, and their models are tiny.
    OMP_NUM_THREADS="1",
    OMP_WAIT_POLICY="PASSIVE",
    # No test logs to the developer's server.
    WANDB_MODE="offline",
)
os.environ.pop("MLFLOW_TRACKING_URI", None)

# Reproducible by default; `pytest --hypothesis-profile=search` looks for new counterexamples.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("search", derandomize=False)
settings.load_profile("repeatable")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start files that may take longest first, then those that use Ray; mark exhaustive tests slow.

    One process runs a whole file, and the others have nothing left to do when a long one is last.
    """
    limits_s: dict[Path, float] = {}
    files = set()
    for item in items:
        if item.get_closest_marker("exhaustive"):
            item.add_marker("slow")
        if item.get_closest_marker("ray"):
            files.add(item.path)
        limit = item.get_closest_marker("timeout")
        limits_s[item.path] = max(limits_s.get(item.path, 0), limit.args[0] if limit else 0)
    items.sort(key=lambda item: (-limits_s[item.path], item.path not in files))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray with two CPUs for the whole session."""
    import ray

    from raykd.cluster.connection import any_agent_port

    with any_agent_port():
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            logging_level="WARNING",
            log_to_driver=False,
        )
    yield
    ray.shutdown()


@pytest.fixture
def glue() -> Path:
    """Folder of the real GLUE files."""
    folder = SHARED_DATA / "glue"
    if not folder.is_dir():
        pytest.skip("the real GLUE files are missing next to this checkout")
    return folder


@pytest.fixture
def general_corpus() -> Path:
    """Real general corpus."""
    path = SHARED_DATA / "corpus" / "general_a.parquet"
    if not path.is_file():
        pytest.skip("the real general corpus is missing next to this checkout")
    return path


@pytest.fixture
def unused_port() -> int:
    """A TCP port of this machine without a listener."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Host and port of an S3 server that takes any credentials."""
    from object_store import running_server

    with running_server(tmp_path_factory.mktemp("server") / "log") as address:
        yield address


@pytest.fixture(scope="session")
def store(server):
    """Its file system, with a bucket."""
    from object_store import file_system

    system = file_system(server)
    system.create_dir("bucket")
    return system


@pytest.fixture
def environment(server, monkeypatch):
    """Set the environment as users do."""
    from object_store import SECRET

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
