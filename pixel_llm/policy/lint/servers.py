"""Rules about several servers, looks at their health, and models that must be loaded first."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.bounds import CHAT, GENERATE
from pixel_llm.policy.lint.origins import nearest
from pixel_llm.policy.lint.rule import Finding, Rule, is_written, look_up
from pixel_llm.policy.lint.samples import chat
from pixel_llm.policy.lint.wording import duration
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.nodes import Path

_ENDPOINTS: Path = ("lm_studio", "endpoints")
_TWO = "lm_studio: {endpoints: [{base_url: 'http://127.0.0.1:1234/v1'}, {base_url: 'https://lm.example/v1'}]%s}"


def _beside_endpoints(loaded: LoadedPolicy) -> Iterator[Finding]:
    """In one file only: a profile that extends another one can't take away what stands there."""
    if loaded.config.lm_studio.endpoints is None:
        return
    for source in loaded.sources.values():
        if look_up(source, _ENDPOINTS) is None:
            continue
        for name in ("base_url", "api_key"):
            path = ("lm_studio", name)
            if (node := look_up(source, path)) is not None:
                yield Finding(path, f"{name} has no effect beside endpoints, each of which has its own", node.place)


def _for_several_only(loaded: LoadedPolicy) -> Iterator[Finding]:
    if len(loaded.config.lm_studio.servers) > 1:
        return
    for name in ("balance", "health"):
        path = ("lm_studio", name)
        if is_written(loaded, path):
            yield Finding(path, f"{name} has no effect with one server: name several under endpoints, or leave it out")


def _looks_overlap(loaded: LoadedPolicy) -> Iterator[Finding]:
    server = loaded.config.lm_studio
    health = server.health
    if len(server.servers) > 1 and health.interval < health.timeout:
        yield Finding(
            nearest(loaded, ("lm_studio", "health", "interval"), ("lm_studio", "health", "timeout")),
            f"a look at one server may take {duration(health.timeout)}, longer than the {duration(health.interval)} "
            "until the next one: make timeout the shorter one",
        )


def _grace_beyond_deadline(loaded: LoadedPolicy) -> Iterator[Finding]:
    cold_start, grace = loaded.config.lm_studio.cold_start, ("lm_studio", "cold_start", "grace")
    for name in (CHAT, GENERATE):
        target = loaded.config.targets.get(name)
        deadline = target.deadline if target is not None else None
        if cold_start is not None and deadline is not None and cold_start.grace >= deadline:
            yield Finding(
                nearest(loaded, grace, ("targets", name, "deadline")),
                f"no call can wait for {duration(cold_start.grace)}: the deadline of {name} is {duration(deadline)}, "
                "and the answer must come in it, too",
            )
            return


RULES = (
    Rule(
        id="PL611",
        name="An address or a key beside endpoints",
        severity=ProblemSeverity.WARNING,
        why="With `endpoints`, each server has its own address and its own key. One that stands beside them is never "
        "used, and whoever changes it waits for an effect in vain.",
        mend="Move it into the list, or leave it out.",
        bad="lm_studio: {base_url: 'http://127.0.0.1:1234/v1', endpoints: [{base_url: 'http://127.0.0.1:1235/v1'}]}",
        good="lm_studio: {endpoints: [{base_url: 'http://127.0.0.1:1234/v1'}, {base_url: 'http://127.0.0.1:1235/v1'}]}",
        check=_beside_endpoints,
    ),
    Rule(
        id="PL612",
        name="A setting for several servers, and only one",
        severity=ProblemSeverity.NOTE,
        why="`balance` and `health` decide which of several servers is asked first. With one there is no choice.",
        mend="Name the others under `endpoints`, or leave the setting out.",
        bad="lm_studio: {balance: least_busy}",
        good=_TWO % ", balance: least_busy",
        check=_for_several_only,
    ),
    Rule(
        id="PL613",
        name="Looks at a server's health that take longer than the time between them",
        severity=ProblemSeverity.WARNING,
        why="The servers are looked at one after the other. If one hangs for its whole `timeout`, the others are "
        "looked at so much later than `interval` promises.",
        mend="Make `timeout` shorter than `interval`.",
        bad=_TWO % ", health: {interval: 2s, timeout: 5s}",
        good=_TWO % ", health: {interval: 30s, timeout: 5s}",
        check=_looks_overlap,
    ),
    Rule(
        id="PL614",
        name="A grace that no call can wait for",
        severity=ProblemSeverity.WARNING,
        why="A call waits for its model within its own deadline. If that ends first, every first call fails, however "
        "patient `cold_start.grace` is.",
        mend="Make the deadlines longer than the grace and an attempt together, or the grace shorter.",
        bad="lm_studio: {cold_start: {grace: 60s}}\n" + chat("deadline: 30s"),
        good="lm_studio: {cold_start: {grace: 60s}}\n" + chat("deadline: 2m"),
        check=_grace_beyond_deadline,
    ),
)
