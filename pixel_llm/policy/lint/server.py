"""Rules about the server and what is sent to it: secrets, addresses, settings that another one makes useless."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from urllib.parse import SplitResult, urlsplit

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.lint.origins import is_own, nearest
from pixel_llm.policy.lint.rule import Finding, Rule, is_written, look_up
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.nodes import Node, Path
from pixel_llm.policy.sections.endpoints import EndpointConfig

_SERVER: Path = ("lm_studio",)
_KEY, _URL = "api_key", "base_url"

_DEFAULT = re.compile(r"\$\{[^}]*?:-([^}]+)\}")
_CREDENTIALS = re.compile(r"://[^/?#\s]*@")


def _literal_key(loaded: LoadedPolicy) -> Iterator[Finding]:
    """Look at the files, since what a variable gives is no mistake of theirs. Messages never show the key."""
    for source, where in _written(loaded.sources.values()):
        key = look_up(source, (*where, _KEY))
        if key is not None and isinstance(key.value, str) and (how := _literal(key.value)):
            yield Finding(
                (*where, _KEY),
                f"the key {how}, for everybody who sees it: write ${{LM_STUDIO_API_KEY}}, and set that variable "
                "instead",
                key.place,
            )


def _literal(text: str) -> str:
    """How *text* holds a key; empty if a variable brings it."""
    text = text.replace("$${", "")
    if "${" not in text:
        return "is written out here" if text else ""
    return "is written out here as the variable's default" if _DEFAULT.search(text) else ""


def _credentials_in_url(loaded: LoadedPolicy) -> Iterator[Finding]:
    for source, where in _written([*loaded.sources.values(), loaded.document]):
        node = look_up(source, (*where, _URL))
        if node is not None and isinstance(node.value, str) and _CREDENTIALS.search(node.value):
            yield Finding(
                (*where, _URL),
                "the address holds a user name or a password, which addresses in logs and messages would carry on: "
                "leave them out, and use api_key",
                node.place,
            )


def _written(sources: Iterable[Node]) -> Iterator[tuple[Node, Path]]:
    """Each of *sources*, with each place in it where a server may stand."""
    for source in sources:
        yield source, _SERVER
        endpoints = look_up(source, (*_SERVER, "endpoints"))
        for index in range(len(endpoints.value) if endpoints is not None else 0):
            yield source, (*_SERVER, "endpoints", index)


def _servers(loaded: LoadedPolicy) -> Iterator[tuple[Path, EndpointConfig, SplitResult]]:
    """Every server that is asked: where it stands, its settings and its address."""
    several = loaded.config.lm_studio.endpoints is not None
    for index, server in enumerate(loaded.config.lm_studio.servers):
        where = (*_SERVER, "endpoints", index) if several else _SERVER
        yield where, server, urlsplit(server.base_url)  # one that can't be split is no valid policy


def _key_without_encryption(loaded: LoadedPolicy) -> Iterator[Finding]:
    for where, server, address in _servers(loaded):
        url, key = (*where, _URL), (*where, _KEY)
        written = look_up(loaded.document, key)
        if written is None:
            continue
        if server.api_key is None and not is_own(loaded, written.place):
            continue  # a parent would take a key, but there is none; who writes it here means to have one
        if address.scheme == "http" and address.hostname and not is_this_machine(address.hostname):
            yield Finding(
                nearest(loaded, url, key),
                f"the key goes to {address.hostname} unencrypted, and everybody on the way can read it: use https",
            )


def is_this_machine(host: str) -> bool:
    """True if *host* is the machine that asks."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _localhost(loaded: LoadedPolicy) -> Iterator[Finding]:
    for where, _, address in _servers(loaded):
        if address.hostname == "localhost":
            yield Finding(
                (*where, _URL),
                "localhost is often tried as ::1 first, where LM Studio does not listen: write 127.0.0.1, which saves "
                "that",
            )


def _not_the_api(loaded: LoadedPolicy) -> Iterator[Finding]:
    for where, _, address in _servers(loaded):
        if not address.path.rstrip("/").endswith("/v1"):
            path = repr(address.path) if address.path else "nothing"
            message = f"the path must end in /v1, where the API starts (got {path}): every call would be a 404"
            yield Finding((*where, _URL), message)


def _unused_top_p(loaded: LoadedPolicy) -> Iterator[Finding]:
    generation = loaded.config.lm_studio.generation
    path = ("lm_studio", "generation", "top_p")
    if generation.temperature == 0 and is_written(loaded, path):
        yield Finding(
            nearest(loaded, path, ("lm_studio", "generation", "temperature")),
            "top_p has no effect with `temperature: 0`, which always takes the likeliest word: leave one of them out",
        )


RULES = (
    Rule(
        id="PL601",
        name="A key written into the file",
        severity=ProblemSeverity.ERROR,
        why="Policies are committed, copied and shown in reviews. A key in one is known to everybody who ever sees "
        "it, and stays in the history when it is taken out.",
        mend="Write `${LM_STUDIO_API_KEY}` and set that variable, or `${LM_STUDIO_API_KEY:-}` if the server may do "
        "without. Then withdraw the key that was here.",
        bad="lm_studio: {api_key: sk-0123456789}",
        good="lm_studio: {api_key: '${LM_STUDIO_API_KEY:-}'}",
        check=_literal_key,
    ),
    Rule(
        id="PL602",
        name="Credentials in the server's address",
        severity=ProblemSeverity.ERROR,
        why="Addresses are logged, shown in errors and kept by proxies; what stands before the @ travels with them.",
        mend="Leave user name and password out of `base_url`, and give `api_key` a variable.",
        bad="lm_studio: {base_url: 'https://me:secret@lm.example/v1'}",
        good="lm_studio: {base_url: 'https://lm.example/v1'}",
        check=_credentials_in_url,
    ),
    Rule(
        id="PL603",
        name="A key sent without encryption",
        severity=ProblemSeverity.WARNING,
        why="Over plain http everybody on the way can read the key and the pictures. Only to this very machine is that "
        "no matter.",
        mend="Use https, for instance through a proxy in front of LM Studio; or a tunnel, and its local end as "
        "`base_url`.",
        bad="lm_studio: {base_url: 'http://10.0.0.5:1234/v1', api_key: '${LM_STUDIO_API_KEY:-}'}",
        good="lm_studio: {base_url: 'https://10.0.0.5:1234/v1', api_key: '${LM_STUDIO_API_KEY:-}'}",
        check=_key_without_encryption,
    ),
    Rule(
        id="PL604",
        name="localhost rather than 127.0.0.1",
        severity=ProblemSeverity.NOTE,
        why="`localhost` stands for ::1 as well as for 127.0.0.1. LM Studio listens on the latter, so each new "
        "connection may first fail or wait on the former.",
        mend="Write 127.0.0.1.",
        bad="lm_studio: {base_url: 'http://localhost:1234/v1'}",
        good="lm_studio: {base_url: 'http://127.0.0.1:1234/v1'}",
        check=_localhost,
    ),
    Rule(
        id="PL605",
        name="An address that does not end in /v1",
        severity=ProblemSeverity.WARNING,
        why="The OpenAI-compatible API of LM Studio and of most other servers starts there. Elsewhere they answer "
        "with a 404, or with a page for people.",
        mend="Add /v1. If your server really has it elsewhere, say so in an ignore comment.",
        bad="lm_studio: {base_url: 'http://127.0.0.1:1234'}",
        good="lm_studio: {base_url: 'http://127.0.0.1:1234/v1'}",
        check=_not_the_api,
    ),
    Rule(
        id="PL607",
        name="top_p although the temperature is 0",
        severity=ProblemSeverity.NOTE,
        why="With temperature 0 the likeliest word is always taken, whatever share of the others may be chosen from.",
        mend="Leave `top_p` out, or raise the temperature.",
        bad="lm_studio: {generation: {temperature: 0, top_p: 0.9}}",
        good="lm_studio: {generation: {temperature: 0.2, top_p: 0.9}}",
        check=_unused_top_p,
    ),
)
