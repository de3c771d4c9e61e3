"""Access to the dashboard of a head node: addresses, tokens, and heads that require none."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from raykd.cluster import dashboard
from raykd.cluster.dashboard import Head, check_access, find_head, find_token
from raykd.errors import InputError


class Api(BaseHTTPRequestHandler):
    """Answers like Ray's job API: 401 without a token, 403 with a wrong one, else 404."""

    token: ClassVar[str | None] = None
    seen: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        self.seen.append(given)
        status = 404
        if self.token == "elsewhere":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/other")
            self.end_headers()
            return
        if self.token is not None and given != f"Bearer {self.token}":
            status = 403 if given else 401
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[str]:
    monkeypatch.setattr(Api, "token", None)
    monkeypatch.setattr(Api, "seen", [])
    with HTTPServer(("127.0.0.1", 0), Api) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}"
        listener.shutdown()


def test_a_head_without_a_token_is_used_on_the_loopback_interface_only(server, monkeypatch):
    assert check_access(Head(server)) == []
    monkeypatch.setattr(Head, "is_loopback", property(lambda head: False))
    with pytest.raises(InputError, match="accepts jobs without a token from everyone"):
        check_access(Head(server))


def test_missing_and_wrong_tokens_are_refused_with_the_remedy(server, monkeypatch):
    monkeypatch.setattr(Api, "token", "right")
    with pytest.raises(InputError, match="requires a token, and none was found"):
        check_access(Head(server))
    with pytest.raises(InputError, match="refuses the token"):
        check_access(Head(server, "wrong"))
    assert check_access(Head(server, "right")) == []


def test_a_token_over_plain_http_is_noted(server, monkeypatch):
    monkeypatch.setattr(Api, "token", "right")
    monkeypatch.setattr(Head, "is_loopback", property(lambda head: False))
    [note] = check_access(Head(server, "right"))
    assert "the token is sent without encryption" in note


def test_a_redirect_gets_no_token(server, monkeypatch):
    monkeypatch.setattr(Api, "token", "elsewhere")
    with pytest.raises(InputError, match="HTTP status 302 instead of"):
        check_access(Head(server, "right"))
    assert dashboard.get(Head(server, "right"), "/x").status == 302
    assert len(Api.seen) == 2


def test_an_address_without_a_listener_is_reported(unused_port):
    with pytest.raises(InputError, match="the dashboard does not answer"):
        check_access(Head(f"http://127.0.0.1:{unused_port}"))


@pytest.mark.parametrize(
    ("url", "is_loopback"),
    [
        ("http://127.0.0.1:8265", True),
        ("http://127.9.9.9:8265", True),
        ("http://localhost:1", True),
        ("http://[::1]:8265", True),
        ("http://10.0.0.5:8265", False),
        ("https://ray.example.com", False),
        ("http://127.0.0.1.example.com:8265", False),
        ("http://localhost.example.com:8265", False),
    ],
)
def test_loopback_addresses_are_recognized(url, is_loopback):
    assert Head(url).is_loopback is is_loopback


@pytest.mark.parametrize(
    "address", ["auto", "127.0.0.1:6379", "ray://h:10001", "http://user@host:1", "http://h:1/x y"]
)
def test_what_is_no_url_of_a_dashboard_is_refused(address):
    with pytest.raises(InputError, match="not the URL of a dashboard"):
        find_head(address)


def test_the_address_comes_from_the_option_then_the_environment(monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert find_head(None).url == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "http://h:2")
    assert find_head(None).url == "http://h:2"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://h:3/")
    assert find_head(None).url == "http://h:3"
    assert find_head("http://h:4").url == "http://h:4"


def test_the_token_is_found_where_ray_looks_and_never_shown(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_token() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("of-home\n")
    assert find_token() == ("of-home", str(tmp_path / ".ray/auth_token"))
    (tmp_path / "other").write_text("of-path")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "other"))
    assert find_token() == ("of-path", str(tmp_path / "other"))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-variable")
    assert find_token() == ("of-variable", "RAY_AUTH_TOKEN")
    assert "of-variable" not in repr(find_head("http://h:1"))
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "absent"))
    with pytest.raises(InputError, match="RAY_AUTH_TOKEN_PATH=.*absent: cannot be read"):
        find_token()
