"""Rules about chaos."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.lint.origins import nearest
from pixel_llm.policy.lint.production import in_production
from pixel_llm.policy.lint.rule import Finding, Rule, targets
from pixel_llm.policy.lint.wording import duration
from pixel_llm.policy.loading import LoadedPolicy


def _chaos_in_production(loaded: LoadedPolicy) -> Iterator[Finding]:
    profile = in_production(loaded)
    for name, target in targets(loaded):
        if profile is not None and target.chaos is not None:
            message = f"{profile} injects faults into {name}: write `chaos: null` here"
            yield Finding(("targets", name, "chaos"), message)


def _never_injects(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        for what in ("error", "delay", "result"):
            section = getattr(target.chaos, what, None)
            if section is not None and not section.rate:
                yield Finding(("targets", name, "chaos", what, "rate"), f"with a rate of 0 no {what} is ever injected")


def _delay_over_the_limit(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        if target.chaos is None or target.chaos.delay is None:
            continue
        attempt = target.timeout.attempt if target.timeout is not None else None
        limits = [(attempt, "timeout", ("timeout", "attempt")), (target.deadline, "deadline", ("deadline",))]
        for limit, word, end in limits:
            delay = target.chaos.delay.duration
            if limit is not None and delay >= limit:
                path = ("targets", name)
                yield Finding(
                    nearest(loaded, (*path, "chaos", "delay", "duration"), (*path, *end)),
                    f"every delayed attempt fails without the call being made: the {word} of {duration(limit)} "
                    f"ends the delay of {duration(delay)}",
                )
                break


RULES = (
    Rule(
        id="PL840",
        name="Chaos in production",
        severity=ProblemSeverity.ERROR,
        why="Injected faults are failures like any others to those who wait for an answer.",
        mend="Keep `chaos` in a profile for development, or in an overlay that is laid over one.",
        bad="extends: production\ntargets: {lm_studio.chat: {chaos: {error: {rate: 0.1}}}}",
        good="extends: development\ntargets: {lm_studio.chat: {chaos: {error: {rate: 0.1}}}}",
        check=_chaos_in_production,
    ),
    Rule(
        id="PL841",
        name="Chaos at a rate of 0",
        severity=ProblemSeverity.WARNING,
        why="It looks as if faults were injected, and none ever is.",
        mend="Give it a rate above 0, or leave it out.",
        bad="targets: {billing.charge: {timeout: 5s, chaos: {error: {rate: 0}}}}",
        good="targets: {billing.charge: {timeout: 5s, chaos: {error: {rate: 0.1}}}}",
        check=_never_injects,
    ),
    Rule(
        id="PL842",
        name="An injected delay that is no shorter than the timeout",
        severity=ProblemSeverity.NOTE,
        why="Such a delay is a timeout by another name: it tries out what happens when no answer comes, not what "
        "happens when it comes late.",
        mend="Make it shorter than the timeout and the deadline to see slow answers; to see silence, inject "
        "`ERR_TIMEOUT_REQUEST`, which costs no time.",
        bad="targets: {billing.charge: {timeout: 5s, chaos: {delay: {rate: 0.1, duration: 10s}}}}",
        good="targets: {billing.charge: {timeout: 5s, chaos: {delay: {rate: 0.1, duration: 4s}}}}",
        check=_delay_over_the_limit,
    ),
)
