"""The layers of a target in words, where it matters that there are several servers, or models to be loaded."""

from __future__ import annotations

from pixel_llm.policy.over_routes import at_route, is_over_routes, over_routes
from pixel_llm.policy.sections.document import PolicyConfig
from pixel_llm.policy.sections.endpoints import Balance
from pixel_llm.policy.showing import count

_CHAT = "lm_studio.chat"

_FIRST = {Balance.ROUND_ROBIN: "each in turn", Balance.LEAST_BUSY: "the least busy first"}


def layers_in_words(config: PolicyConfig, target: str) -> list[tuple[str, str]]:
    """
    The layers of *target*, outermost first, each with its meaning in a few words; the call last.

    Where calls can go to several servers, the layers below `endpoints` are those of each of them.
    """
    policy = config.targets[target]
    if not is_over_routes(config, target):
        return policy.layers_in_words()
    above = [layer for layer in over_routes(policy).layers_in_words() if layer[0] not in ("circuit_breaker", "call")]
    server, cold = config.lm_studio, []
    if server.cold_start is not None and target == _CHAT:
        cold.append(("cold_start", server.cold_start.in_words()))
    servers = len(server.servers)
    if servers > 1:
        words = f"{count(servers, 'server')}, {_FIRST[server.balance]}; each has the layers below for itself"
        above.append(("endpoints", words))
    return [*above, *cold, *at_route(policy).layers_in_words()]
