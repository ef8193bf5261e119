"""What a schema cannot say of servers: addresses that lead somewhere, each to another place."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from pixel_llm.errors import Problem
from pixel_llm.policy.nodes import Node, format_path
from pixel_llm.policy.sections.document import PolicyConfig


def check_servers(policy: PolicyConfig, document: Node) -> Iterator[Problem]:
    """The rules that the addresses of *policy* break."""
    server, seen = policy.lm_studio, dict[str, int]()
    if complaint := complain_of_url(server.base_url):
        path = ("lm_studio", "base_url")
        yield Problem(document.find(path).place, format_path(path), complaint, "PL014")
    for index, endpoint in enumerate(server.endpoints or ()):
        where = ("lm_studio", "endpoints", index, "base_url")
        place = document.find(where).place
        if complaint := complain_of_url(endpoint.base_url):
            yield Problem(place, format_path(where), complaint, "PL014")
            continue
        first = seen.setdefault(_place_of(endpoint.base_url), index)
        if first != index:
            message = f"is the same server as endpoints[{first}]: each stands in the list once"
            yield Problem(place, format_path(where), message, "PL042")


def complain_of_url(url: str) -> str:
    """What is wrong with *url*, which itself is not shown: it may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "must have a port from 1 to 65535, and a host"
    if not parts.hostname or port == 0:
        return "must have a host, and a port from 1 to 65535"
    return "must end with its path, such as /v1, without ? and #" if parts.query or parts.fragment else ""


def _place_of(url: str) -> str:
    """Where *url* leads, whoever asks: two that differ in nothing else are the same."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname}:{port}{parts.path.rstrip('/')}"
