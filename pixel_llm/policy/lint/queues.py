"""Rules about the layers in which calls queue: the rate limit and the bulkhead."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.lint.origins import nearest
from pixel_llm.policy.lint.rule import Finding, Rule, is_written, targets
from pixel_llm.policy.lint.samples import chat
from pixel_llm.policy.lint.wording import duration
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.sections.target import is_system_name


def _wait_over_the_deadline(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        waits = {
            "rate_limit": target.rate_limit.max_wait if target.rate_limit is not None else None,
            "bulkhead": target.bulkhead.max_wait if target.bulkhead is not None else None,
        }
        for layer, wait in waits.items():
            if wait is not None and target.deadline is not None and wait >= target.deadline:
                path = ("targets", name)
                yield Finding(
                    nearest(loaded, (*path, layer, "max_wait"), (*path, "deadline")),
                    f"a call that waits {duration(wait)} has no time left: the deadline is {duration(target.deadline)}",
                )


def _endless_queue(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        bulkhead = target.bulkhead
        endless = bulkhead is not None and bulkhead.max_waiting > 0 and bulkhead.max_wait is None
        if endless and target.deadline is None:
            yield Finding(
                ("targets", name, "bulkhead"),
                "nothing ends the wait for a slot: add max_wait, or a deadline",
            )


def _wait_without_queue(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        path = ("targets", name, "bulkhead")
        if target.bulkhead is not None and target.bulkhead.max_waiting == 0 and is_written(loaded, (*path, "max_wait")):
            yield Finding(
                nearest(loaded, (*path, "max_wait"), (*path, "max_waiting")),
                "nobody waits for a slot, since max_waiting is 0: raise it, or leave max_wait out",
            )


def _trials_over_the_slots(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        breaker, bulkhead = target.circuit_breaker, target.bulkhead
        if breaker is not None and bulkhead is not None and breaker.half_open_max_calls > bulkhead.max_concurrent:
            path = ("targets", name)
            yield Finding(
                nearest(
                    loaded,
                    (*path, "circuit_breaker", "half_open_max_calls"),
                    (*path, "bulkhead", "max_concurrent"),
                ),
                f"of {breaker.half_open_max_calls} trial calls only {bulkhead.max_concurrent} can be under way: "
                "the bulkhead has no more slots",
            )


def _retries_over_the_rate(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        limit, retry = target.rate_limit, target.retry
        if limit is None or limit.max_calls is None or retry is None or limit.max_wait > 0:
            continue
        waits = sum(retry.ceiling(number) for number in range(retry.max_attempts - 1))
        if retry.max_attempts > limit.max_calls and waits < limit.period:
            path = ("targets", name)
            yield Finding(
                nearest(loaded, (*path, "rate_limit", "max_calls"), (*path, "retry", "max_attempts")),
                f"one call makes up to {retry.max_attempts} attempts, but only {limit.max_calls} may start in "
                f"{duration(limit.period)}, and none waits: its own retries are refused",
            )


def _slots_over_the_rate(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        limit, bulkhead = target.rate_limit, target.bulkhead
        attempt = target.timeout.attempt if target.timeout is not None else None
        if limit is None or limit.max_calls is None or bulkhead is None or attempt is None:
            continue
        # So many calls at most can be under way, if each lasts as long as it may.
        possible = limit.max_calls * (int(attempt / limit.period) + 1)
        if bulkhead.max_concurrent > possible:
            path = ("targets", name)
            yield Finding(
                nearest(loaded, (*path, "bulkhead", "max_concurrent"), (*path, "rate_limit", "max_calls")),
                f"never more than {possible} calls are under way: so many start within the timeout of "
                f"{duration(attempt)}, and the bulkhead has {bulkhead.max_concurrent} slots",
            )


def _tokens_without_usage(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        tokens = target.rate_limit.tokens if target.rate_limit is not None else None
        if tokens is not None and tokens.usage is None and name != "lm_studio.chat":
            message = "results that don't say themselves what they used are not counted: name a usage function"
            if is_system_name(name):
                message = f"{name} uses no tokens that anybody counts: limit those of lm_studio.chat"
            yield Finding(("targets", name, "rate_limit", "tokens"), message)


RULES = (
    Rule(
        id="PL801",
        name="A wait in a queue as long as the deadline",
        severity=ProblemSeverity.WARNING,
        why="The deadline covers the queues. A call that waits so long has no time left for what it waited for.",
        mend="Make `max_wait` much shorter than the deadline, or leave that of the bulkhead out.",
        bad=chat("deadline: 10s, bulkhead: {max_waiting: 8, max_wait: 30s}"),
        good=chat("deadline: 60s, bulkhead: {max_waiting: 8, max_wait: 5s}"),
        check=_wait_over_the_deadline,
    ),
    Rule(
        id="PL802",
        name="A queue that nothing ends",
        severity=ProblemSeverity.WARNING,
        why="If the calls under way hang, so does everybody who waits for their slots.",
        mend="Add `max_wait` to the bulkhead, or a deadline to the target.",
        bad="targets: {billing.charge: {bulkhead: {max_concurrent: 4, max_waiting: 8}}}",
        good="targets: {billing.charge: {bulkhead: {max_concurrent: 4, max_waiting: 8, max_wait: 5s}}}",
        check=_endless_queue,
    ),
    Rule(
        id="PL803",
        name="A max_wait where nobody waits",
        severity=ProblemSeverity.WARNING,
        why="With `max_waiting: 0`, which is the default, a call that finds no slot is refused at once.",
        mend="Say how many may wait, or leave `max_wait` out.",
        bad=chat("bulkhead: {max_concurrent: 4, max_wait: 5s}"),
        good=chat("bulkhead: {max_concurrent: 4, max_waiting: 8, max_wait: 5s}"),
        check=_wait_without_queue,
    ),
    Rule(
        id="PL804",
        name="More trial calls than slots",
        severity=ProblemSeverity.WARNING,
        why="A trial call of a half-open breaker needs a slot of the bulkhead like any other.",
        mend="Lower `half_open_max_calls`, or raise `max_concurrent`.",
        bad=chat("circuit_breaker: {half_open_max_calls: 5}, bulkhead: {max_concurrent: 2}"),
        good=chat("circuit_breaker: {half_open_max_calls: 2}, bulkhead: {max_concurrent: 2}"),
        check=_trials_over_the_slots,
    ),
    Rule(
        id="PL805",
        name="A rate limit that refuses the retries of a single call",
        severity=ProblemSeverity.WARNING,
        why="Every attempt is a start. A call that fails then ends with a refusal of the rate limit, although its "
        "policy promises it further attempts.",
        mend="Raise `max_calls`, or give the rate limit a `max_wait`.",
        bad=chat("retry: {max_attempts: 3}, rate_limit: {max_calls: 1, period: 10s}"),
        good=chat("retry: {max_attempts: 3}, rate_limit: {max_calls: 1, period: 10s, max_wait: 30s}"),
        check=_retries_over_the_rate,
    ),
    Rule(
        id="PL806",
        name="Slots that can never all be taken",
        severity=ProblemSeverity.NOTE,
        why="The rate limit lets so few calls start that they end before they are as many: the bulkhead does nothing.",
        mend="Lower `max_concurrent`, raise `max_calls`, or leave one of the two out.",
        bad=chat("timeout: 1s, rate_limit: {max_calls: 2, period: 1s}, bulkhead: {max_concurrent: 50}"),
        good=chat("timeout: 30s, rate_limit: {max_calls: 2, period: 1s}, bulkhead: {max_concurrent: 50}"),
        check=_slots_over_the_rate,
    ),
    Rule(
        id="PL807",
        name="A limit of tokens without a usage function",
        severity=ProblemSeverity.NOTE,
        why="What a call has used stands in its result. Replies of `lm_studio.chat`, and of the OpenAI API, say it "
        "themselves; other results need a function that tells it.",
        mend="Register a function and name it in `usage`; or say in an ignore comment that the results tell it.",
        bad="targets: {billing.charge: {rate_limit: {tokens: {max_tokens: 1000}}}}",
        good=chat("rate_limit: {tokens: {max_tokens: 1000}}"),
        check=_tokens_without_usage,
    ),
)
