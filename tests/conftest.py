"""What all tests share."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Before any import of the libraries that read them.
os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_VERBOSITY="error",
    RAY_USAGE_STATS_ENABLED="0",
    TOKENIZERS_PARALLELISM="false",
    # Tests run side by side on few cores, and their models are tiny.
    OMP_NUM_THREADS="1",
    # No test tells a server of the developer's.
    WANDB_MODE="offline",
)
os.environ.pop("MLFLOW_TRACKING_URI", None)

# One commit, one answer; `pytest --hypothesis-profile=search` looks for new counterexamples.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("search", derandomize=False)
settings.load_profile("repeatable")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray of two CPUs for the whole session."""
    import ray

    ray.init(address="local", num_cpus=2, logging_level="WARNING", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def glue() -> Path:
    """The folder of real GLUE files."""
    folder = SHARED_DATA / "glue"
    if not folder.is_dir():
        pytest.skip("the real GLUE files are not beside this checkout")
    return folder


@pytest.fixture
def unused_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
