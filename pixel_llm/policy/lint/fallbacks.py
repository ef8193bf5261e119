"""Rules about fallbacks: steps that never serve, and steps that hide what should be seen."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import ErrorCategory, ErrorCode, ProblemSeverity
from pixel_llm.policy.bounds import GENERATE
from pixel_llm.policy.lint.origins import Underneath, inherited, nearest
from pixel_llm.policy.lint.rule import Finding, Rule, key_place, look_up, targets
from pixel_llm.policy.lint.wording import duration
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.sections.fallback import FallbackStep, FallbackStrategy
from pixel_llm.policy.sections.matching import ErrorMatcher
from pixel_llm.policy.sections.target import TargetPolicy

_CHAT = "lm_studio.chat"

_ALWAYS_SERVE = (FallbackStrategy.DEFAULT_VALUE, FallbackStrategy.NONE)

#: Mistakes in the set-up: as long as one is there, every call fails. What is wrong with a single request is not here.
_SET_UP = frozenset(
    {
        ErrorCode.ERR_API_UNAUTHORIZED,
        ErrorCode.ERR_API_MODEL_NOT_FOUND,
        ErrorCode.ERR_API_BAD_REQUEST,
        ErrorCode.ERR_ENC_LOAD_FAILED,
        ErrorCode.ERR_VAL_INVALID_POLICY,
    }
)
_SET_UP_STATUSES = frozenset({"400", "401", "403", "404", "4xx"})


def _steps(loaded: LoadedPolicy) -> Iterator[tuple[str, tuple[FallbackStep, ...]]]:
    for name, target in targets(loaded):
        if target.fallback:
            yield name, target.fallback


def _unreachable(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, steps in _steps(loaded):
        for index, step in enumerate(steps):
            blocker = next((i for i in range(index) if _leaves_nothing_to(steps[i], step)), None)
            if blocker is not None:
                yield Finding(
                    ("targets", name, "fallback", index),
                    f"never serves: step {blocker + 1}, {steps[blocker].strategy}, always ends the chain before; "
                    "put it first, or leave it out",
                )


def _leaves_nothing_to(step: FallbackStep, later: FallbackStep) -> bool:
    if step.strategy is FallbackStrategy.RAISE:
        return True  # whatever went wrong
    return step.strategy in _ALWAYS_SERVE and _covers(step.when, later.when)


def _covers(matcher: ErrorMatcher, other: ErrorMatcher) -> bool:
    """True if whatever *other* names is surely named by *matcher* too."""
    return (
        other.categories <= matcher.categories
        and all(code in matcher.codes or code.info.category in matcher.categories for code in other.codes)
        and all(s in matcher.statuses or f"{s[0]}xx" in matcher.statuses for s in other.statuses)
    )


def _covers_mistakes(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, steps in _steps(loaded):
        for index, step in enumerate(steps):
            hidden = [] if step.strategy is FallbackStrategy.RAISE else _hidden(step.when)
            if hidden:
                yield Finding(
                    ("targets", name, "fallback", index, "when"),
                    f"{', '.join(hidden)} would hide a mistake in the set-up, such as a wrong key, behind the "
                    f"{step.strategy} step: leave it to be raised",
                )


def _hidden(when: ErrorMatcher) -> list[str]:
    permanent = [ErrorCategory.PERMANENT] if ErrorCategory.PERMANENT in when.categories else []
    return [*permanent, *sorted(when.codes & _SET_UP), *sorted(when.statuses & _SET_UP_STATUSES)]


def _expires_while_open(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, steps in _steps(loaded):
        for index, step in enumerate(steps):
            for owner in (name, _CHAT) if name == GENERATE else (name,):
                breaker = loaded.config.targets.get(owner, TargetPolicy()).circuit_breaker
                if step.cache is not None and breaker is not None and step.cache.ttl < breaker.cooldown:
                    ttl = ("targets", name, "fallback", index, "cache", "ttl")
                    yield Finding(
                        nearest(loaded, ttl, ("targets", owner, "circuit_breaker", "cooldown")),
                        f"results are kept for {duration(step.cache.ttl)}, but the breaker of {owner} stays open for "
                        f"{duration(breaker.cooldown)}: the cache is empty when it is needed most; raise ttl",
                    )
                    break


def _only_raises(loaded: LoadedPolicy) -> Iterator[Finding]:
    raising = [name for name, steps in _steps(loaded) if steps[0].strategy is FallbackStrategy.RAISE]
    if not raising:
        return
    parents, underneath = inherited(loaded), Underneath(loaded)
    for name in raising:
        replaced = look_up(parents, ("targets", name, "fallback")) or look_up(underneath.of(name).below, ("fallback",))
        if replaced is None:
            yield Finding(
                ("targets", name, "fallback"),
                "raising is what happens without a fallback, and there is none to replace: leave it out",
            )


def _nothing_for_who_waits(loaded: LoadedPolicy) -> Iterator[Finding]:
    generate = loaded.config.targets.get(GENERATE, TargetPolicy())
    if generate.deadline is not None or generate.fallback is not None:
        return
    for name in (GENERATE, _CHAT):
        if look_up(loaded.written, ("targets", name)) is not None:
            yield Finding(
                ("targets", name),
                f"{GENERATE} has neither a deadline nor a fallback: who asks for a caption may wait without end and "
                "get an error then; give it one of them",
                key_place(loaded.written, ("targets", name)),
            )
            return


RULES = (
    Rule(
        id="PL401",
        name="A fallback step that is never reached",
        severity=ProblemSeverity.WARNING,
        why="`default_value` and `none` always have an answer and `raise` always ends the chain, so what follows never "
        "serves for the same errors.",
        mend="Put the step last, leave out what follows, or narrow it with `when`.",
        bad="targets: {pixel_llm.generate: {fallback: [{default_value: Sorry}, {cache: {ttl: 1h}}]}}",
        good="targets: {pixel_llm.generate: {fallback: [{cache: {ttl: 1h}}, {default_value: Sorry}]}}",
        check=_unreachable,
    ),
    Rule(
        id="PL402",
        name="A fallback that hides mistakes in the set-up",
        severity=ProblemSeverity.WARNING,
        why="A wrong key or an unknown model fails every call until somebody mends it. Behind a fallback, nobody sees "
        "it.",
        mend="Leave PERMANENT errors out of `when`. Errors of a single request, such as ERR_API_CONTEXT_LENGTH, may "
        "stand there by their codes.",
        bad="targets:\n  pixel_llm.generate:\n    fallback: [{default_value: Sorry, when: [TRANSIENT, PERMANENT]}]",
        good="targets:\n  pixel_llm.generate:\n"
        "    fallback: [{default_value: Sorry, when: [TRANSIENT, ERR_API_CONTEXT_LENGTH]}]",
        check=_covers_mistakes,
    ),
    Rule(
        id="PL403",
        name="A cache that expires while the breaker is open",
        severity=ProblemSeverity.WARNING,
        why="Nothing new is stored while the breaker refuses calls. A `ttl` below the cooldown leaves nothing to "
        "serve for the rest of it.",
        mend="Raise `ttl`, to many times the cooldown if the results stay useful.",
        bad="targets:\n  pixel_llm.generate: {fallback: [{cache: {ttl: 30s}}]}\n"
        "  lm_studio.chat: {circuit_breaker: {cooldown: 60s}}",
        good="targets:\n  pixel_llm.generate: {fallback: [{cache: {ttl: 1h}}]}\n"
        "  lm_studio.chat: {circuit_breaker: {cooldown: 60s}}",
        check=_expires_while_open,
    ),
    Rule(
        id="PL404",
        name="A fallback that only raises",
        severity=ProblemSeverity.NOTE,
        why="The error is raised without it as well. It means something only where it replaces a chain that is "
        "inherited.",
        mend="Leave it out, or add a step that serves.",
        bad="targets: {pixel_llm.generate: {deadline: 60s, fallback: [raise]}}",
        good="targets: {pixel_llm.generate: {deadline: 60s}}",
        check=_only_raises,
    ),
    Rule(
        id="PL405",
        name="Neither deadline nor fallback for who waits",
        severity=ProblemSeverity.WARNING,
        why=f"`{GENERATE}` is what people wait for: the encoder, the model and all retries. Without a deadline there "
        "is no bound on that, and without a fallback it may end with an error.",
        mend=f"Give `{GENERATE}` a deadline, a fallback, or both.",
        bad="targets: {lm_studio.chat: {timeout: 30s}}",
        good="targets:\n  pixel_llm.generate: {deadline: 60s}\n  lm_studio.chat: {timeout: 30s}",
        check=_nothing_for_who_waits,
    ),
)
