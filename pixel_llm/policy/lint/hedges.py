"""Rules about hedges."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from urllib.parse import urlsplit

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.lint.origins import nearest
from pixel_llm.policy.lint.rule import Finding, Rule, targets
from pixel_llm.policy.lint.samples import chat
from pixel_llm.policy.lint.server import is_this_machine
from pixel_llm.policy.lint.wording import duration
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.sections.target import TargetPolicy


def _never_sent(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        if target.hedge is None:
            continue
        for limit, what, end in _too_early(target):
            path, key = ("targets", name), "delay" if target.hedge.delay is not None else "min_delay"
            yield Finding(
                nearest(loaded, (*path, "hedge", key), (*path, *end)),
                f"no other attempt is ever sent: {what} ends after {duration(limit)}, before the delay of "
                f"{duration(target.hedge.shortest_delay)}",
            )


def _too_early(target: TargetPolicy) -> list[tuple[float, str, tuple[str, ...]]]:
    """The first end that the hedge of *target* can't outlast, in seconds and in words, and where it stands; or none."""
    attempt = target.timeout.attempt if target.timeout is not None else None
    ends = [(attempt, "the attempt", ("timeout", "attempt")), (target.deadline, "the call", ("deadline",))]
    delay = target.hedge.shortest_delay if target.hedge is not None else inf
    return [(limit, what, end) for limit, what, end in ends if limit is not None and delay >= limit][:1]


def _is_sent(target: TargetPolicy) -> bool:
    """True if there may be an attempt beside another one, so that there is something to say of it."""
    return target.hedge is not None and not _too_early(target)


def _load_unlimited(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        if target.hedge is not None and _is_sent(target) and target.bulkhead is None and target.rate_limit is None:
            times = "twice" if target.hedge.max_hedges == 1 else f"{target.hedge.max_hedges + 1} times"
            yield Finding(
                ("targets", name, "hedge"),
                f"when the server is slow every call sends its request {times}, which makes it slower: add a "
                "`bulkhead` or a `rate_limit`, which let others in only while there is room",
            )


def _same_machine(loaded: LoadedPolicy) -> Iterator[Finding]:
    servers = loaded.config.lm_studio.servers
    local = len(servers) == 1 and is_this_machine(urlsplit(servers[0].base_url).hostname or "")
    for name, target in targets(loaded):
        if _is_sent(target) and (name.startswith("encoder.") or (local and name.startswith("lm_studio."))):
            what = "the encoder" if name.startswith("encoder.") else "a single LM Studio on this machine"
            message = f"{what} works on both attempts, and longer on each"
            yield Finding(("targets", name, "hedge"), message)


RULES = (
    Rule(
        id="PL820",
        name="A hedge that is never sent",
        severity=ProblemSeverity.WARNING,
        why="The attempt, or the whole call, is over before another attempt would be sent beside it. So the load does "
        "not grow either: PL821 and PL822 keep silent until the delay is shorter.",
        mend="Make the delay shorter: a little more than most attempts take.",
        bad="targets: {billing.list: {idempotent: true, timeout: 5s, bulkhead: {max_concurrent: 8}, hedge: 10s}}",
        good="targets: {billing.list: {idempotent: true, timeout: 5s, bulkhead: {max_concurrent: 8}, hedge: 1s}}",
        check=_never_sent,
    ),
    Rule(
        id="PL821",
        name="A hedge without a limit on the load",
        severity=ProblemSeverity.NOTE,
        why="Hedges cost a few per cent while all is well. When the server becomes slow for everybody, every call "
        "sends one, and the load on it doubles at the worst moment.",
        mend="Add a `bulkhead` or a `rate_limit`: what would have to wait there is not sent as a hedge.",
        bad="targets: {billing.list: {idempotent: true, timeout: 5s, hedge: 1s}}",
        good="targets: {billing.list: {idempotent: true, timeout: 5s, bulkhead: {max_concurrent: 8}, hedge: 1s}}",
        check=_load_unlimited,
    ),
    Rule(
        id="PL822",
        name="A hedge on the same machine",
        severity=ProblemSeverity.NOTE,
        why="A hedge wins because another replica, or another path, is not in trouble. One server with one model works "
        "on both requests, and takes longer for each.",
        mend="Leave the hedge out, or name several servers under `lm_studio.endpoints`.",
        bad=chat("timeout: 30s, bulkhead: {max_concurrent: 8}, hedge: 5s"),
        good="lm_studio: {base_url: 'http://lm.example:1234/v1'}\n"
        + chat("timeout: 30s, bulkhead: {max_concurrent: 8}, hedge: 5s"),
        check=_same_machine,
    ),
)
