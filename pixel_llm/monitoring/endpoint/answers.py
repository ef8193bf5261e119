"""What is answered under each path; WSGI and ASGI only carry it."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pixel_llm.monitoring.exposition.text import CONTENT_TYPE, write_text
from pixel_llm.monitoring.health import HealthStatus, judge
from pixel_llm.monitoring.snapshot.documents import write_document
from pixel_llm.monitoring.snapshot.model import Snapshot
from pixel_llm.monitoring.sources import HasSnapshot, ReadSnapshots, snapshots_of

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"


#: Shorter answers are not worth compressing.
_LARGE = 4096


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. Immutable. *more* are headers beside those of its content."""

    status: int
    content_type: str
    body: bytes
    more: tuple[tuple[str, str], ...] = ()

    @property
    def headers(self) -> list[tuple[str, str]]:
        """All headers."""
        return [("Content-Type", self.content_type), ("Content-Length", str(len(self.body))), *self.more]


class Unavailable(Exception):
    """The snapshots can't be had now, and why, such as a process that has ended."""


class Answers:
    """
    Answers requests about policies. Safe for concurrent use.

    ``/metrics`` is for Prometheus, ``/snapshot`` is a JSON document, ``/health`` one with status 503 while a target is
    failing.

    Args:
        policies: One or several, or a function that gives snapshots.
    """

    def __init__(self, policies: HasSnapshot | Iterable[HasSnapshot] | ReadSnapshots) -> None:
        self._read = _reader(policies)

    def answer(self, method: str, path: str, accept_encoding: str = "") -> Answer:
        """
        The answer to a request for *path*, as it stands below where this is mounted.

        It is compressed if it is large, and the request's header *accept_encoding* has gzip.
        """
        answer = self._answer(method, path)
        if len(answer.body) < _LARGE:
            return answer
        more = (*answer.more, ("Vary", "Accept-Encoding"))
        if not _takes_gzip(accept_encoding):
            return dataclasses.replace(answer, more=more)
        body = gzip.compress(answer.body, compresslevel=5, mtime=0)
        return dataclasses.replace(answer, body=body, more=(*more, ("Content-Encoding", "gzip")))

    def _answer(self, method: str, path: str) -> Answer:
        if method not in ("GET", "HEAD"):
            return Answer(405, _TEXT, b"only GET and HEAD are answered here\n", (("Allow", "GET, HEAD"),))
        make = _PATHS.get(path.rstrip("/"))
        if make is None:
            there = ", ".join(name for name in _PATHS if name)
            return Answer(404, _TEXT, f"there are {there}\n".encode())
        try:
            return make(self._read())
        except Unavailable as error:
            return Answer(502, _TEXT, f"{error}\n".encode("utf-8", "backslashreplace"))


def _takes_gzip(accept_encoding: str) -> bool:
    """As RFC 9110, section 12.5.3, has it; what is only covered by * stays as it is."""
    for entry in accept_encoding.lower().split(","):
        coding, _, weight = entry.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", weight) is None
    return False


def _reader(policies: HasSnapshot | Iterable[HasSnapshot] | ReadSnapshots) -> ReadSnapshots:
    if callable(policies) and not hasattr(policies, "snapshot"):
        return policies
    return snapshots_of(policies)


def _index(snapshots: tuple[Snapshot, ...]) -> Answer:
    lines = [f"{name}  {text}" for name, text in _ABOUT.items()]
    profiles = ", ".join(snapshot.profile for snapshot in snapshots)
    return Answer(200, _TEXT, "\n".join([f"pixel-llm: {profiles}", *lines, ""]).encode("utf-8", "backslashreplace"))


def _metrics(snapshots: tuple[Snapshot, ...]) -> Answer:
    return Answer(200, CONTENT_TYPE, write_text(snapshots).encode())


def _snapshot(snapshots: tuple[Snapshot, ...]) -> Answer:
    return _as_json(200, write_document(snapshots))


def _health(snapshots: tuple[Snapshot, ...]) -> Answer:
    health = judge(snapshots)
    return _as_json(503 if health.status is HealthStatus.FAILING else 200, health.as_dict())


def _as_json(status: int, document: object) -> Answer:
    return Answer(status, _JSON, json.dumps(document).encode() + b"\n")


_ABOUT = {
    "/metrics": "for Prometheus",
    "/snapshot": "all that is known, as JSON",
    "/health": "how well the targets are; 503 while one is failing",
}

_PATHS: dict[str, Callable[[tuple[Snapshot, ...]], Answer]] = {
    "/metrics": _metrics,
    "/snapshot": _snapshot,
    "/health": _health,
    "": _index,
}
