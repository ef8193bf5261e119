"""What several servers, and models that must be loaded first, add to the bounds of the calls to them."""

from __future__ import annotations

from pixel_llm.policy.bounds.attempts import longest_queues
from pixel_llm.policy.bounds.durations import GRAIN
from pixel_llm.policy.bounds.generate import CHAT
from pixel_llm.policy.over_routes import is_over_routes, over_routes
from pixel_llm.policy.sections.document import PolicyConfig
from pixel_llm.policy.sections.target import TargetPolicy


def servers_asked(config: PolicyConfig, target: str) -> int:
    """How many servers one attempt of *target* may ask."""
    return len(config.lm_studio.servers) if is_over_routes(config, target) else 1


def longest_grace(config: PolicyConfig, target: str) -> float:
    """How long, in seconds, a call of *target* may wait at each server for its model."""
    cold_start = config.lm_studio.cold_start
    return cold_start.grace if cold_start is not None and target == CHAT else 0.0


def over_servers(
    config: PolicyConfig, target: str, policy: TargetPolicy, attempt: float | None
) -> tuple[TargetPolicy, float | None]:
    """
    *policy* and the longest *attempt* of *target*, as its retries see them: an attempt may ask every server.

    At each of them it may first wait for the model, for its turn and for its slot.
    """
    if not is_over_routes(config, target):
        return policy, attempt
    queues = longest_queues(policy)
    above = over_routes(policy)
    if attempt is None or queues == float("inf"):
        return above, None
    return above, servers_asked(config, target) * (longest_grace(config, target) + queues + attempt)


def silence_of_servers(config: PolicyConfig, target: str, policy: TargetPolicy) -> float | None:
    """
    How long, in seconds, one attempt of *target* lasts if no server gives an answer, its timeout ending each.

    None where nobody can say when breakers open then: where a deadline, which is that of the whole call, may cut what a
    server was given, where others are sent beside it, and where models are waited for, which no breaker counts.
    """
    attempt = policy.timeout.attempt if policy.timeout is not None else None
    if attempt is None or policy.hedge is not None or longest_grace(config, target):
        return None
    whole = servers_asked(config, target) * attempt
    return None if policy.deadline is not None and whole >= policy.deadline - GRAIN else whole
