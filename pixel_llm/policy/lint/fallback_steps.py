"""Rules about fallback steps that take time, and about caches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.bounds import CHAT, GENERATE, INSIDE_GENERATE, compute_bounds
from pixel_llm.policy.lint.origins import nearest
from pixel_llm.policy.lint.rule import Finding, Rule, targets
from pixel_llm.policy.lint.wording import duration
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.sections.document import PolicyConfig
from pixel_llm.policy.sections.fallback import FallbackStep, FallbackStrategy, reserved
from pixel_llm.policy.sections.target import TargetPolicy


def _steps(loaded: LoadedPolicy) -> Iterator[tuple[str, tuple[FallbackStep, ...]]]:
    for name, target in targets(loaded):
        yield name, target.fallback or ()


def _without_time(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, steps in _steps(loaded):
        target = loaded.config.targets[name]
        for index, step in enumerate(steps):
            if not step.takes_time or (name in INSIDE_GENERATE and _has_deadline(loaded, GENERATE)):
                continue
            if target.deadline is None:
                yield Finding(
                    ("targets", name, "fallback", index),
                    f"the {_kind(step)} step takes time, and {name} has no deadline: who waits for the call waits for "
                    "the step as well; give the target a deadline",
                )


def _never_in_time(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, steps in _steps(loaded):
        target = loaded.config.targets[name]
        if target.deadline is None or _gives_up_early(loaded, name):
            continue
        for index, step in enumerate(steps):
            if step.takes_time and not reserved(steps[index:]):
                yield Finding(
                    ("targets", name, "fallback", index),
                    f"the attempts may use up the whole deadline of {duration(target.deadline)}, and nothing is left "
                    f"for the {_kind(step)} step then: keep some of it with reserve",
                )


def _gives_up_early(loaded: LoadedPolicy, name: str) -> bool:
    """True if the attempts of a target end before its deadline by themselves."""
    bounds = compute_bounds(_without_fallback(loaded.config, name), name)
    deadline = loaded.config.targets[name].deadline
    return deadline is not None and bounds.worst_latency is not None and bounds.worst_latency < deadline


def _without_fallback(config: PolicyConfig, name: str) -> PolicyConfig:
    alone = dataclasses.replace(config.targets[name], fallback=None)
    return dataclasses.replace(config, targets={**config.targets, name: alone})


def _has_deadline(loaded: LoadedPolicy, name: str) -> bool:
    return loaded.config.targets.get(name, TargetPolicy()).deadline is not None


def _kind(step: FallbackStep) -> str:
    return step.strategy.value.replace("_", " ")


def _keeps_everything(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, steps in _steps(loaded):
        deadline, kept = loaded.config.targets[name].deadline, reserved(steps)
        if deadline is not None and kept >= deadline:
            index = next(index for index, step in enumerate(steps) if step.reserve is not None)
            yield Finding(
                nearest(loaded, ("targets", name, "fallback", index, "reserve"), ("targets", name, "deadline")),
                f"{duration(kept)} are kept for the fallback, and the deadline is {duration(deadline)}: the call "
                "itself would never be made; keep less",
            )


def _asks_the_same(loaded: LoadedPolicy) -> Iterator[Finding]:
    server = loaded.config.lm_studio
    addresses = [one.base_url.rstrip("/") for one in server.servers]
    for index, step in enumerate(loaded.config.targets.get(CHAT, TargetPolicy()).fallback or ()):
        same_model = step.strategy is FallbackStrategy.MODEL and step.value == server.model
        same_server = step.strategy is FallbackStrategy.ENDPOINT and step.value.rstrip("/") in addresses
        if same_model or same_server:
            what = "the model" if same_model else "the server"
            yield Finding(
                ("targets", CHAT, "fallback", index, step.strategy.value),
                f"{step.value} is {what} that has just failed: name another one, or try again with retry",
            )


def _caches_what_must_happen(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        if target.cache is not None and target.idempotent is False:
            yield Finding(
                nearest(loaded, ("targets", name, "cache"), ("targets", name, "idempotent")),
                f"{name} is not idempotent: each of its calls is meant to happen, but with a cache an equal one "
                "doesn't; leave the cache out",
            )


def _adds_nothing(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, steps in _steps(loaded):
        layer = loaded.config.targets[name].cache
        for index, step in enumerate(steps):
            if layer is not None and step.cache is not None and step.cache.ttl <= layer.ttl:
                path = ("targets", name, "fallback", index, "cache", "ttl")
                yield Finding(
                    nearest(loaded, path, ("targets", name, "cache", "ttl")),
                    f"the fallback keeps results for {duration(step.cache.ttl)}, the cache before it for "
                    f"{duration(layer.ttl)}: what the one has, the other has given already; raise the ttl",
                )


RULES = (
    Rule(
        id="PL411",
        name="A fallback that takes time, without a deadline",
        severity=ProblemSeverity.WARNING,
        why="`custom_function`, `target`, `model` and `endpoint` call something, after the attempts have used up their "
        "time already. Without a deadline nothing bounds that.",
        mend="Give the target a `deadline`, and the step a `reserve`.",
        bad="targets: {shop.pay: {timeout: 9s, fallback: [{custom_function: apologise}]}}",
        good="targets: {shop.pay: {deadline: 30s, timeout: 9s, fallback: [{custom_function: apologise}]}}",
        check=_without_time,
    ),
    Rule(
        id="PL412",
        name="No time is kept for the fallback",
        severity=ProblemSeverity.WARNING,
        why="A step that calls something runs within the deadline. Where the attempts can use it up, the step is "
        "skipped exactly when the target is too slow.",
        mend="Give the step a `reserve`, or make the attempts end sooner.",
        bad="targets: {shop.pay: {deadline: 30s, timeout: 30s, fallback: [{custom_function: apologise}]}}",
        good="targets:\n"
        "  shop.pay: {deadline: 30s, timeout: 25s, fallback: [{custom_function: apologise, reserve: 5s}]}",
        check=_never_in_time,
    ),
    Rule(
        id="PL413",
        name="All the time is kept for the fallback",
        severity=ProblemSeverity.WARNING,
        why="`reserve` is taken off the time of the attempts. Where nothing is left, the call is never made.",
        mend="Keep less, or raise the deadline.",
        bad="targets:\n  shop.pay: {deadline: 5s, timeout: 5s, fallback: [{custom_function: apologise, reserve: 5s}]}",
        good="targets:\n"
        "  shop.pay: {deadline: 10s, timeout: 5s, fallback: [{custom_function: apologise, reserve: 5s}]}",
        check=_keeps_everything,
    ),
    Rule(
        id="PL414",
        name="A fallback to what has just failed",
        severity=ProblemSeverity.WARNING,
        why="The step asks the same model or the same server once more, without a wait and past the open breaker.",
        mend="Name another model or server, or leave it to `retry`.",
        bad="lm_studio: {model: big}\n"
        "targets:\n  pixel_llm.generate: {deadline: 5m}\n  lm_studio.chat: {fallback: [{model: big}]}",
        good="lm_studio: {model: big}\n"
        "targets:\n  pixel_llm.generate: {deadline: 5m}\n  lm_studio.chat: {fallback: [{model: small}]}",
        check=_asks_the_same,
    ),
    Rule(
        id="PL415",
        name="A cache before what is not idempotent",
        severity=ProblemSeverity.WARNING,
        why="`idempotent: false` says that each call does something. With a `cache`, the second of two equal calls is "
        "never made: two equal orders become one.",
        mend="Leave the `cache` out; or say `idempotent: true`, if the call only asks for something.",
        bad="targets: {shop.pay: {cache: {ttl: 1m}, retry: {max_attempts: 2}, idempotent: false}}",
        good="targets: {shop.prices: {cache: {ttl: 1m}, retry: {max_attempts: 2}, idempotent: true}}",
        check=_caches_what_must_happen,
    ),
    Rule(
        id="PL416",
        name="A fallback's cache that the cache layer leaves nothing to",
        severity=ProblemSeverity.NOTE,
        why="Both keep the same results. Whatever the fallback's still has, the layer's has given before anything "
        "could fail.",
        mend="Let the fallback keep results for longer than the layer gives them.",
        bad="targets: {shop.prices: {cache: {ttl: 5m}, fallback: [{cache: {ttl: 1m}}]}}",
        good="targets: {shop.prices: {cache: {ttl: 5m}, fallback: [{cache: {ttl: 1h}}]}}",
        check=_adds_nothing,
    ),
)
