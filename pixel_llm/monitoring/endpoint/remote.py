"""The snapshots of another process, from its endpoint."""

from __future__ import annotations

import http.client
import re
from http import HTTPStatus
from urllib.parse import urlsplit

from pixel_llm.errors import ValidationError
from pixel_llm.monitoring.endpoint.answers import Unavailable
from pixel_llm.monitoring.endpoint.asking import get
from pixel_llm.monitoring.snapshot.documents import read_document
from pixel_llm.monitoring.snapshot.model import Snapshot

#: No snapshot is larger: 64 MiB are those of some 60,000 targets.
LARGEST = 64 * 1024 * 1024

#: Where to look for snapshots, below the address of an endpoint.
_PATH = "/snapshot"


class RemoteSnapshots:
    """
    Reads the snapshots of the process whose endpoint is at *url*. Safe for concurrent use.

    Proxies are not asked: metrics are near.

    Args:
        url: Its address, such as ``http://127.0.0.1:9464`` or ``127.0.0.1:9464``; that of one of its paths will do.
        timeout: Seconds until its whole answer must be there.

    Raises:
        ValidationError: If that is no address.
    """

    def __init__(self, url: str, *, timeout: float = 5.0) -> None:
        self.url = _base(url)
        self._timeout = timeout

    def __call__(self) -> tuple[Snapshot, ...]:
        """
        What it knows now.

        Raises:
            Unavailable: If it does not answer, or with something else.
        """
        return self._parsed(self._read())

    def _read(self) -> bytes:
        try:
            status, body = get(self.url + _PATH, seconds=self._timeout, most=LARGEST + 1)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise Unavailable(f"{self.url}: {_why(error)}") from None
        if status != HTTPStatus.OK:
            text = body[:200].decode("utf-8", "replace").strip()
            said = f": {text}" if text and "<" not in text else ""
            raise Unavailable(f"{self.url} has no metrics of pixel-llm: {_PATH} gives {status}{said}")
        if len(body) > LARGEST:
            raise Unavailable(f"{self.url}{_PATH} sends more than any snapshot has")
        return body

    def _parsed(self, body: bytes) -> tuple[Snapshot, ...]:
        try:
            return read_document(body)
        except ValidationError as error:
            raise Unavailable(f"{self.url} has no metrics of pixel-llm: {error.message}") from None


def _base(url: str) -> str:
    if isinstance(url, str) and re.match(r"(\[[\da-fA-F:.]+\]|[\w.-]+):\d+(/|$)", url):
        url = f"http://{url}"
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_right = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_right or not url.isprintable():
        raise ValidationError(f"the address of an endpoint is one such as http://127.0.0.1:9464 (got {url!r})")
    if "@" in parts.netloc:
        raise ValidationError("the address of an endpoint has no user and no password")
    path = parts.path.rstrip("/")
    for known in ("/metrics", "/health", _PATH):
        path = path.removesuffix(known)
    return f"{parts.scheme}://{parts.netloc}{path}"


def _why(reason: Exception) -> str:
    if isinstance(reason, TimeoutError):
        return "it does not answer in time"
    if isinstance(reason, ConnectionRefusedError):
        return "nothing answers there: the process has ended, or does not serve metrics, as serve_metrics() does"
    if isinstance(reason, http.client.HTTPException):
        return "what answers there is no HTTP server"
    return (reason.strerror if isinstance(reason, OSError) else None) or str(reason)
