"""HTTP access to the dashboard of a head node: address, token, and whether it requires one.

Ray is not imported here.
"""

import ipaddress
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from raykd.errors import InputError

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_TIMEOUT_S = 10
_ADDRESS = re.compile(r"https?://[^/\s@]+/?")
# A job that does not exist: the answer is 404, unless a token is required and missing.
_PROBE = "/api/jobs/raykd-access-check"
_MISSING_TOKEN = (401, 403)


@dataclass(frozen=True)
class Head:
    """Dashboard of a head node, and the token for it."""

    url: str
    token: str | None = field(default=None, repr=False)

    @property
    def is_loopback(self) -> bool:
        """Return whether the dashboard is reached on this machine, possibly through a tunnel."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def headers(self) -> dict[str, str]:
        """HTTP headers with the token."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


class Answer(NamedTuple):
    """Answer to a request: status, body, and the server's clock in seconds since 1970."""

    status: int
    body: bytes
    clock_s: float | None


def find_head(address: str | None) -> Head:
    """Find the dashboard: `address`, RAY_API_SERVER_ADDRESS, RAY_ADDRESS if a URL, or the default.

    Raises:
        InputError: the address is not the URL of a dashboard.
    """
    source = "--address"
    if address is None:
        for source in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
            value = os.environ.get(source, "")
            if value.startswith(("http://", "https://")):
                address = value
                break
        else:
            address = DEFAULT_ADDRESS
    if not _ADDRESS.fullmatch(address):
        raise InputError(
            f"{source} {address:.200}: not the URL of a dashboard; give http://HOST:PORT, such as "
            f"{DEFAULT_ADDRESS} (the dashboard's port, not 6379 or 10001)"
        )
    token = find_token()
    return Head(address.rstrip("/"), token[0] if token else None)


def find_token() -> tuple[str, str] | None:
    """Find the token where Ray looks for it; return it with its source, or None.

    Raises:
        InputError: RAY_AUTH_TOKEN_PATH names a file that cannot be read.
    """
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token, "RAY_AUTH_TOKEN"
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given) if given else Path("~/.ray/auth_token").expanduser()
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        if given:
            raise InputError(f"RAY_AUTH_TOKEN_PATH={given}: cannot be read ({error})") from None
        return None
    return (token, str(path)) if token else None


def get(head: Head, path: str, *, with_token: bool = True) -> Answer:
    """Send a GET request; redirects are not followed, so that no other host gets the token.

    Raises:
        InputError: nothing answers at the address.
    """
    request = urllib.request.Request(  # the scheme is checked in find_head
        head.url + path, headers=head.headers() if with_token else {}
    )
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as response:
            return Answer(response.status, response.read(), _clock_of(response.headers))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read(), _clock_of(error.headers))
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(
            f"{head.url}: the dashboard does not answer ({reason}); start the cluster, or open a "
            "tunnel to it (ray dashboard cluster.yaml)"
        ) from None


def requires_token(head: Head) -> bool:
    """Return whether the job API refuses requests without a token.

    Raises:
        InputError: nothing answers, or what answers is no job API.
    """
    status = get(head, _PROBE, with_token=False).status
    if status in _MISSING_TOKEN:
        return True
    if status in (200, 404):
        return False
    raise InputError(
        f"{head.url}: HTTP status {status} instead of an answer of Ray's job API; correct the "
        "address (the dashboard of a Ray head node with ray[default])"
    )


def check_access(head: Head) -> list[str]:
    """Check that jobs can be sent to a head node safely; return notes for the user.

    Raises:
        InputError: nothing answers; the token is missing or wrong; or the head node accepts jobs
            of anyone and is not on the loopback interface.
    """
    if not requires_token(head):
        if not head.is_loopback:
            raise InputError(
                f"{head.url}: accepts jobs without a token from everyone who reaches it; start the "
                "head with RAY_AUTH_MODE=token (ray get-auth-token --generate makes one), or reach "
                "it through a tunnel on 127.0.0.1"
            )
        return []
    if head.token is None:
        raise InputError(
            f"{head.url}: requires a token, and none was found; copy the head's ~/.ray/auth_token "
            "here, or set RAY_AUTH_TOKEN"
        )
    if get(head, _PROBE).status in _MISSING_TOKEN:
        raise InputError(
            f"{head.url}: refuses the token of {_source_of_token()}; copy the head's "
            "~/.ray/auth_token again"
        )
    if head.url.startswith("http://") and not head.is_loopback:
        return [
            f"{head.url}: the token is sent without encryption; prefer a tunnel "
            "(ray dashboard cluster.yaml) or https"
        ]
    return []


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def _source_of_token() -> str:
    found = find_token()
    return found[1] if found else "--"


def _clock_of(headers: object) -> float | None:
    date = headers.get("Date")  # type: ignore[attr-defined]  # an email message
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None
