"""What a schema cannot say: rules across the fields of a policy."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from pixel_llm.errors import Problem
from pixel_llm.policy.breaker_meaning import Broken, broken_breaker, check_breaker
from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.encoder_meaning import check_encoder
from pixel_llm.policy.fallback_targets import check_fallback_targets
from pixel_llm.policy.hedge_meaning import broken_hedge, check_hedge
from pixel_llm.policy.nodes import Node, format_path
from pixel_llm.policy.queues import broken_queues, check_queues
from pixel_llm.policy.sections.document import PolicyConfig
from pixel_llm.policy.sections.fallback import FallbackStrategy
from pixel_llm.policy.sections.target import SYSTEM_TARGETS, TargetPolicy, is_pattern, is_system_name
from pixel_llm.policy.server_meaning import check_servers, complain_of_url
from pixel_llm.policy.suggestions import one_of, suggestion


def check_names(document: Node) -> list[Problem]:
    """The targets that *document* names and the system does not have. Works on documents that are wrong, too."""
    problems: list[Problem] = []
    for where in (("targets",), ("logging", "levels")):
        targets = _map_at(document, where)
        if targets is None:
            continue
        for name in targets.value:
            covers_one = is_pattern(name) and any(target.startswith(name[:-1]) for target in SYSTEM_TARGETS)
            if is_system_name(name) and name not in SYSTEM_TARGETS and not covers_one:
                path = format_path((*where, name))
                problems.append(Problem(targets.place_of_key(name), path, unknown_system_target(name), "PL010"))
    return problems


def _map_at(document: Node, where: tuple[str, ...]) -> Node | None:
    """The map that stands at *where*, if one does."""
    for key in where:
        if not isinstance(document.value, dict) or key not in document.value:
            return None
        document = document.value[key]
    return document if isinstance(document.value, dict) else None


def check_repeatable(document: Node) -> list[Problem]:
    """The targets of an expanded *document* that retry without saying whether that is safe."""
    problems: list[Problem] = []
    targets = document.find(["targets"])
    for name, target in targets.value.items() if "targets" in document.value else ():
        layers = target.value if isinstance(target.value, dict) else {}
        if "retry" in layers and "idempotent" not in layers and not is_system_name(name):
            message = (
                "a target of your own that retries must say `idempotent: true` (calling twice does no harm) "
                "or `idempotent: false` (retry only what was never sent)"
            )
            path = format_path(("targets", name))
            problems.append(Problem(target.place_of_key("retry"), path, message, "PL011"))
    return problems


def check_meaning(policy: PolicyConfig, document: Node) -> list[Problem]:
    """Every rule that *policy*, frozen from *document*, breaks."""
    problems = [
        problem
        for name, target in policy.targets.items()
        for rule in (
            check_queues,
            _delays_in_order,
            _one_cache,
            _usable_steps,
            check_breaker,
            check_hedge,
            _chaos_injects,
            _chaos_result_fits,
        )
        for problem in rule(name, target, document)
    ]
    problems += check_fallback_targets(policy, document)
    return [
        *check_servers(policy, document),
        *check_encoder(policy, document),
        *_known_budgets(policy, document),
        *problems,
    ]


def complain_of_target(target: TargetPolicy) -> str:
    """What is wrong across the settings of *target*, which was made in code; empty if nothing is."""
    broken: list[Broken] = [*broken_queues(target), *_broken_delays(target), *_broken_chaos(target)]
    if (breaker := target.circuit_breaker) is not None:
        broken += [(("circuit_breaker", *where), text, rule) for where, text, rule in broken_breaker(breaker)]
    if (hedge := target.hedge) is not None:
        broken += [(("hedge", *where), text, rule) for where, text, rule in broken_hedge(hedge)]
    return "; ".join(f"{'.'.join(where)} {message}" for where, message, _ in broken)


def unknown_system_target(name: str) -> str:
    """The message for a name under the system's prefixes that the system does not have."""
    hint = suggestion(name, SYSTEM_TARGETS) or f"; there are {one_of(SYSTEM_TARGETS)}"
    return f"the system has no target {name!r}{hint}"


def _delays_in_order(name: str, target: TargetPolicy, document: Node) -> Iterator[Problem]:
    return _problems(name, _broken_delays(target), document)


def _broken_delays(target: TargetPolicy) -> Iterator[Broken]:
    retry = target.retry
    if retry is not None and retry.initial_delay > retry.max_delay:
        first, cap = format_duration(retry.initial_delay), format_duration(retry.max_delay)
        yield ("retry", "max_delay"), f"must be at least initial_delay, {first} (got {cap})", "PL012"


def _problems(name: str, broken: Iterator[Broken], document: Node) -> Iterator[Problem]:
    for where, message, rule in broken:
        path = ("targets", name, *where)
        yield Problem(document.find(path).place, format_path(path), message, rule)


def _known_budgets(policy: PolicyConfig, document: Node) -> Iterator[Problem]:
    for name, target in policy.targets.items():
        budget = target.retry.budget if target.retry is not None else None
        if isinstance(budget, str) and budget not in policy.retry_budgets:
            path = ("targets", name, "retry", "budget")
            hint = suggestion(budget, policy.retry_budgets) or "; define it under retry_budgets"
            message = f"there is no retry budget {budget!r}{hint}"
            yield Problem(document.find(path).place, format_path(path), message, "PL015")


def _one_cache(name: str, target: TargetPolicy, document: Node) -> Iterator[Problem]:
    caches = [index for index, step in enumerate(target.fallback or ()) if step.cache is not None]
    for index in caches[1:]:
        path = ("targets", name, "fallback", index)
        yield Problem(
            document.find(path).place, format_path(path), "a chain has one cache; this is a second one", "PL013"
        )


def _chaos_injects(name: str, target: TargetPolicy, document: Node) -> Iterator[Problem]:
    return _problems(name, _broken_chaos(target), document)


def _broken_chaos(target: TargetPolicy) -> Iterator[Broken]:
    chaos = target.chaos
    if chaos is not None and chaos.error is None and chaos.delay is None and chaos.result is None:
        yield ("chaos",), "injects nothing: say `error`, `delay` or `result`", "PL032"


#: Targets whose callers take their results apart, so that no value of a policy can stand for them.
_RESULTS_OF_THEIR_OWN = ("pixel_llm.generate", "encoder.load", "lm_studio.models")


def _chaos_result_fits(name: str, target: TargetPolicy, document: Node) -> Iterator[Problem]:
    if name in _RESULTS_OF_THEIR_OWN and target.chaos is not None and target.chaos.result is not None:
        path = ("targets", name, "chaos", "result")
        message = f"no value can stand for the result of {name}: inject one into lm_studio.chat or encoder.forward"
        yield Problem(document.find(path).place, format_path(path), message, "PL033")


def _usable_steps(name: str, target: TargetPolicy, document: Node) -> Iterator[Problem]:
    """Steps that this target can't have."""
    for index, step in enumerate(target.fallback or ()):
        path = ("targets", name, "fallback", index)
        if step.reserve is not None and not step.takes_time:
            place, message = document.find((*path, "reserve")).place, "this step takes no time: leave reserve out"
            yield Problem(place, format_path((*path, "reserve")), message, "PL028")
        if step.strategy not in (FallbackStrategy.MODEL, FallbackStrategy.ENDPOINT):
            continue
        where = (*path, step.strategy.value)
        if is_system_name(name) and name != "lm_studio.chat":
            message = f"only lm_studio.chat, and targets of your own, can ask another {step.strategy}"
            yield Problem(document.find(where).place, format_path(where), message, "PL029")
        elif step.strategy is FallbackStrategy.ENDPOINT and (complaint := _complain_of_endpoint(step.value)):
            yield Problem(document.find(where).place, format_path(where), complaint, "PL014")


def _complain_of_endpoint(url: str) -> str:
    # It is the name of the step in logs and results, so that it must not hold a password.
    return complain_of_url(url) or ("must be without user name and password" if urlsplit(url).username else "")
