"""S3 servers for tests: moto's in a process of its own, and a proxy in front of it with faults."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyarrow import fs

SECRET = "a-secret-that-no-message-holds"
_ERROR = (
    "HTTP/1.1 {code} Error\r\nContent-Type: application/xml\r\nContent-Length: {size}\r\n"
    "Connection: close\r\n\r\n{body}"
)
_BODY = "<Error><Code>{name}</Code><Message>as the test wants it</Message></Error>"


@contextmanager
def running_server(log: Path) -> Iterator[str]:
    """Run an S3 server that takes any credentials; yield its host and port."""
    command = "from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])"
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, "-uc", command], stdout=file, stderr=file)
    try:
        yield _address_in(log)
    finally:
        process.terminate()
        process.wait()


def _address_in(log: Path) -> str:
    for _ in range(600):
        if "Running on http://" in (text := log.read_text()):
            return text.partition("Running on http://")[2].split()[0].strip("\x1b[0m")
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def file_system(server: str) -> fs.FileSystem:
    """File system of a server, for what tests read and write themselves."""
    return fs.S3FileSystem(
        endpoint_override=server,
        scheme="http",
        access_key="tests",
        secret_key=SECRET,
        allow_bucket_creation=True,
    )


class FaultyProxy:
    """TCP proxy that answers some requests with an error, or cuts their connections.

    `fault` gets the first line of a request and returns None, a (status, S3 error code) to answer,
    or "cut", to close the connection in the middle of the request's body.
    """

    def __init__(self, server: str) -> None:
        host, _, port = server.rpartition(":")
        self._server = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.fault: Callable[[str], tuple[int, str] | str | None] = lambda line: None
        self.lines: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Serve one request per connection."""
        with client, suppress(OSError), socket.create_connection(self._server) as server:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (chunk := client.recv(65536)):
                    return
                head += chunk
            header, _, body = head.partition(b"\r\n\r\n")
            line, *fields = header.decode("latin-1").split("\r\n")
            self.lines.append(line)
            names = {f.partition(":")[0].lower(): f.partition(":")[2].strip() for f in fields}
            size = int(names.get("content-length", 0))
            fault = self.fault(line)
            if fault == "cut":
                client.recv(1)
                return
            if names.get("expect") and fault is None:
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            is_whole = _is_last_chunk if "transfer-encoding" in names else lambda b: len(b) >= size
            while not is_whole(body) and (chunk := client.recv(65536)):
                body += chunk
            if isinstance(fault, tuple):
                text = _BODY.format(name=fault[1])
                answer = _ERROR.format(code=fault[0], size=len(text), body=text)
                client.sendall(answer.encode())
                return
            kept = [
                f for f in fields if f.partition(":")[0].lower() not in ("connection", "expect")
            ]
            request = "\r\n".join([line, *kept, "Connection: close", "", ""]).encode("latin-1")
            server.sendall(request + body)
            while chunk := server.recv(65536):
                client.sendall(chunk)


def _is_last_chunk(body: bytes) -> bool:
    """Return whether a body in chunks (RFC 9112, section 7.1) has its last one, of size 0."""
    position = 0
    while (end := body.find(b"\r\n", position)) >= 0:
        size = int(body[position:end], 16)
        if size == 0:
            return body.find(b"\r\n\r\n", position) >= 0
        position = end + 2 + size + 2
    return False
