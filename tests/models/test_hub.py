"""Models by hub name, with a small hub on this machine."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": b"weights",
    "vocab.txt": b"[PAD]\n",
    "pytorch_model.bin": b"a pickle",
    "onnx/config.json": b"{}",
}


class Hub(BaseHTTPRequestHandler):
    """The three requests of a download: the commit, its list of files, their contents."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        prefix = f"/some/model/resolve/{COMMIT}/"
        if path in ("/api/models/some/model", "/api/models/some/model/revision/main"):
            self._answer(json.dumps({"id": "some/model", "sha": COMMIT, "siblings": []}).encode())
        elif path.startswith(f"/api/models/some/model/tree/{COMMIT}"):
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": sha1(data).hexdigest()}
                for name, data in FILES.items()
            ]
            self._answer(json.dumps(tree).encode())
        elif path.startswith(prefix) and path.removeprefix(prefix) in FILES:
            self._answer(FILES[path.removeprefix(prefix)])
        else:
            self.send_error(404)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{sha1(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output clean."""


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def resolve(name: str, address: str, cache: Path) -> subprocess.CompletedProcess[str]:
    # The hub's client reads its settings only at import.
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from raykd.models.resolve import resolve_model, weights_files\n"
            "folder = resolve_model(sys.argv[1]); weights_files(folder, sys.argv[1])\n"
            "print(folder)",
            name,
        ],
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "0",
            "HF_ENDPOINT": address,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_hub_model_is_downloaded_once_and_then_loaded_without_the_hub(hub, tmp_path):
    address = f"http://127.0.0.1:{hub.server_port}"

    first = resolve("some/model", address, tmp_path)
    assert first.returncode == 0, first.stderr
    hub.shutdown()
    hub.server_close()
    second = resolve("some/model", address, tmp_path)

    assert second.returncode == 0, second.stderr
    assert second.stdout == first.stdout
    folder = Path(first.stdout.strip())
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        "config.json",
        "model.safetensors",
        "vocab.txt",
    }


def test_a_name_unknown_to_the_hub_is_refused(hub, tmp_path):
    outcome = resolve("some/other", f"http://127.0.0.1:{hub.server_port}", tmp_path)

    assert outcome.returncode == 1
    assert "InputError: model some/other: no such folder" in outcome.stderr
    assert "404" in outcome.stderr
