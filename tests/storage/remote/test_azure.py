"""Outputs and inputs in an Azure container, by Microsoft's own emulator."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs
from ray_head import unused_ports

from raykd.errors import InputError
from raykd.storage.locations import Remote, location_of

# Of the emulator; the same in every installation.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
INSTALLED = Path(__file__).parents[3] / ".ci" / "node" / "node_modules" / ".bin" / "azurite-blob"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory) -> Iterator[str]:
    """Address of an emulator with an empty container "bucket"."""
    command = shutil.which("azurite-blob") or (str(INSTALLED) if INSTALLED.is_file() else None)
    if command is None:
        pytest.skip("Azurite is not installed (npm install --prefix .ci/node azurite)")
    [port] = unused_ports(1)
    log = tmp_path_factory.mktemp("azurite") / "log.txt"
    options = ["--inMemoryPersistence", "--skipApiVersionCheck", "--blobPort", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen([command, *options], stdout=output, stderr=output)
    store = fs.AzureFileSystem(
        ACCOUNT,
        account_key=KEY,
        blob_storage_authority=f"127.0.0.1:{port}",
        blob_storage_scheme="http",
        dfs_storage_authority=f"127.0.0.1:{port}",
        dfs_storage_scheme="http",
    )
    try:
        for _ in range(60):
            assert process.poll() is None, log.read_text()
            try:
                store.create_dir("bucket")
                break
            except OSError:
                time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def raykd(emulator: str, cache: Path, *words: str, key: str = KEY) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": key,
        "RAYKD_CACHE": str(cache),
    }
    return subprocess.run(
        [sys.executable, "-m", "raykd", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_deduplication_in_a_container_is_complete_and_not_repeated(emulator, tmp_path):
    texts = [f"Document {n % 20} warns of a river in flood." for n in range(30)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    url = f"az://bucket/run?endpoint_override={emulator}"
    words = ["dedup", str(tmp_path / "corpus.jsonl"), "--out", url]

    done = raykd(emulator, tmp_path / "one", *words)
    assert done.returncode == 0, done.stderr
    checked = raykd(emulator, tmp_path / "other", "check", url)
    assert "nothing is damaged" in checked.stdout, checked.stderr
    # On another machine the output of the first one counts.
    again = raykd(emulator, tmp_path / "other", *words)
    assert again.returncode == 0, again.stderr
    assert "hash" not in again.stderr

    units = f"az://bucket/run/units?endpoint_override={emulator}"
    read = raykd(emulator, tmp_path / "other", "dedup", units, "--out", str(tmp_path / "local"))
    assert read.returncode == 0, read.stderr
    assert (
        json.loads((tmp_path / "local" / "manifest.json").read_text())["counts"]["num_units"] == 20
    )


def test_a_refused_key_is_one_clear_error(emulator, tmp_path):
    url = f"az://bucket/refused?endpoint_override={emulator}"
    (tmp_path / "corpus.txt").write_text("a text\n")
    words = ["dedup", str(tmp_path / "corpus.txt"), "--out", url]
    refused = raykd(emulator, tmp_path / "cache", *words, key="AAAA" + KEY[4:])
    assert refused.returncode == 2
    assert "access is refused; give every node an identity that may use the container" in (
        refused.stderr
    )
    assert KEY[4:] not in refused.stderr


def test_an_account_that_is_not_known_is_asked_for(monkeypatch):
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    location = location_of("az://bucket/run")
    assert isinstance(location, Remote)
    from raykd.storage.locations import file_system_of

    with pytest.raises(InputError, match="az://bucket: the storage account is not known"):
        file_system_of(location)


def test_hadoops_form_of_an_address_names_the_account():
    assert location_of("abfss://bucket@lake.dfs.core.windows.net/a/run") == Remote(
        "az", "bucket/a/run", (("account_name", "lake"),)
    )
    with pytest.raises(InputError, match="name and password"):
        location_of("az://name:secret@bucket/run")
