"""A small Hugging Face hub on this machine, with one dataset."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from threading import Thread
from urllib.parse import unquote

COMMIT = "fedcba9876543210fedcba9876543210fedcba98"
NAME = "some/reviews"


@contextmanager
def dataset_hub(files: dict[str, bytes]) -> Iterator[str]:
    """Yield the address of a hub that has the files in the dataset `NAME`, at `COMMIT`."""

    class Handler(_Handler):
        contents = files

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Requests of the hub's client: a commit, files of a folder, facts and contents of files."""

    contents: Mapping[str, bytes]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        api = f"/api/datasets/{NAME}"
        resolve = f"/datasets/{NAME}/resolve/{COMMIT}/"
        if path in (api, f"{api}/revision/{COMMIT}"):
            siblings = [{"rfilename": name} for name in self.contents]
            self._answer_json({"id": NAME, "sha": COMMIT, "siblings": siblings})
        elif path.startswith(f"{api}/tree/{COMMIT}"):
            folder = path.removeprefix(f"{api}/tree/{COMMIT}").strip("/")
            entries = self._entries(folder, recursive="recursive=true" in self.path.lower())
            if entries:
                self._answer_json(entries)
            else:
                self._missing("EntryNotFound")
        elif path.startswith(resolve) and path.removeprefix(resolve) in self.contents:
            self._answer(self.contents[path.removeprefix(resolve)])
        elif path.startswith(resolve):
            self._missing("EntryNotFound")
        else:
            self._missing("RepoNotFound")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Type"].startswith("application/json"):
            wanted = json.loads(body)["paths"]
        else:
            fields = (field.partition("=") for field in body.decode().split("&"))
            wanted = [unquote(value) for key, _, value in fields if key == "paths"]
        wanted = [wanted] if isinstance(wanted, str) else wanted
        entries = [entry for name in wanted if (entry := self._entry(name)) is not None]
        self._answer_json(entries)

    def _entries(self, folder: str, *, recursive: bool) -> list[dict[str, object]]:
        below = [
            name
            for name in self.contents
            if not folder or PurePosixPath(name).is_relative_to(folder)
        ]
        folders = {
            str(parent)
            for name in below
            for parent in PurePosixPath(name).parents
            if str(parent) not in (".", folder)
        }
        names = sorted({*below, *folders})
        if not recursive:
            names = [n for n in names if str(PurePosixPath(n).parent) == (folder or ".")]
        return [entry for name in names if (entry := self._entry(name)) is not None]

    def _entry(self, name: str) -> dict[str, object] | None:
        data = self.contents.get(name)
        if data is not None:
            return {"type": "file", "path": name, "size": len(data), "oid": sha1(data).hexdigest()}
        if any(PurePosixPath(other).is_relative_to(name) for other in self.contents):
            return {"type": "directory", "path": name, "oid": sha1(name.encode()).hexdigest()}
        return None

    def _answer_json(self, value: object) -> None:
        self._answer(json.dumps(value).encode())

    def _answer(self, body: bytes) -> None:
        length = len(body)
        wanted = self.headers.get("Range")
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) if last else length - 1, length - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end}/{length}")
            part = body[start : end + 1]
        else:
            self.send_response(200)
            part = body
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{sha1(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(part)

    def _missing(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output clean."""
