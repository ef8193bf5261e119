"""Rules about time: timeouts, deadlines, and waits that fit into each other."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.bounds import GENERATE, INSIDE_GENERATE
from pixel_llm.policy.lint.attempts import longest_waits, possible_attempts
from pixel_llm.policy.lint.origins import is_in_own_section, nearest
from pixel_llm.policy.lint.rule import Finding, Rule, is_written, targets
from pixel_llm.policy.lint.samples import chat
from pixel_llm.policy.lint.wording import duration
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.sections.lm_studio import Vision
from pixel_llm.policy.sections.target import TargetPolicy, is_system_name


def _attempt_timeout(target: TargetPolicy) -> float | None:
    return target.timeout.attempt if target.timeout is not None else None


def _timeout_over_deadline(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        attempt = _attempt_timeout(target)
        if attempt is not None and target.deadline is not None and attempt > target.deadline:
            yield Finding(
                nearest(loaded, ("targets", name, "timeout", "attempt"), ("targets", name, "deadline")),
                f"the timeout of {duration(attempt)} can never end an attempt: "
                f"the deadline of {duration(target.deadline)} comes first",
            )


def _deadline_without_timeout(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        limited = target.timeout is not None and target.timeout.to_first_content is not None
        if target.deadline is not None and not limited and not is_system_name(name):
            yield Finding(
                ("targets", name, "deadline"),
                f"the deadline of {duration(target.deadline)} can't interrupt a plain sync function: "
                "add a timeout, unless the function is async or watches the time itself",
            )


def _retries_do_not_fit(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        retry, attempt, deadline = target.retry, _attempt_timeout(target), target.deadline
        if retry is None or attempt is None or deadline is None or retry.max_attempts == 1 or attempt > deadline:
            continue
        waits = longest_waits(retry)
        needed = retry.max_attempts * attempt + waits
        if needed > deadline + 0.0005 and possible_attempts(target) == retry.max_attempts:
            yield Finding(
                _nearest_of_retry(loaded, name),
                f"{retry.max_attempts} attempts of {duration(attempt)}{_and_waits(waits)} take {duration(needed)}, "
                f"longer than the deadline of {duration(deadline)}: raise it, or try less often",
            )


def _and_waits(waits: float) -> str:
    return f" and waits of {duration(waits)}" if waits else ""


def _attempts_never_begin(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        retry, deadline = target.retry, target.deadline
        if retry is not None and deadline is not None and (possible := possible_attempts(target)) < retry.max_attempts:
            yield Finding(
                _nearest_of_retry(loaded, name),
                f"only {possible} of {retry.max_attempts} attempts can begin: the waits alone take "
                f"{duration(longest_waits(retry))}, and the deadline is {duration(deadline)}",
            )


def _nearest_of_retry(loaded: LoadedPolicy, name: str) -> tuple[str, ...]:
    path = ("targets", name)
    ends = (("deadline",), ("retry", "max_attempts"), ("timeout", "attempt"), ("retry", "initial_delay"))
    found = nearest(loaded, *((*path, *end) for end in ends))
    return tuple(map(str, found))


def _connect_timeout(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        attempt, connect = _attempt_timeout(target), target.timeout.connect if target.timeout is not None else None
        if attempt is not None and connect is not None and connect >= attempt:
            path = ("targets", name, "timeout")
            yield Finding(
                nearest(loaded, (*path, "connect"), (*path, "attempt")),
                f"connecting may take {duration(connect)}, but the attempt ends after {duration(attempt)}: "
                "make it shorter, or leave it out",
            )


def _nested_deadline(loaded: LoadedPolicy) -> Iterator[Finding]:
    whole = loaded.config.targets.get(GENERATE, TargetPolicy()).deadline
    for name, deadline in _nested_deadlines(loaded):
        if whole is not None and deadline > whole:
            yield Finding(
                nearest(loaded, ("targets", name, "deadline"), ("targets", GENERATE, "deadline")),
                f"the deadline of {name}, {duration(deadline)}, is never reached inside {GENERATE}, "
                f"which ends after {duration(whole)}",
            )


def _nested_deadlines_together(loaded: LoadedPolicy) -> Iterator[Finding]:
    whole = loaded.config.targets.get(GENERATE, TargetPolicy()).deadline
    nested = _nested_deadlines(loaded)
    needed = sum(deadline for _, deadline in nested)
    if whole is not None and len(nested) > 1 and needed > whole >= max(deadline for _, deadline in nested):
        parts = " + ".join(f"{name} {duration(deadline)}" for name, deadline in nested)
        paths = [("targets", GENERATE, "deadline"), *(("targets", name, "deadline") for name, _ in nested)]
        yield Finding(
            nearest(loaded, *paths),
            f"what {GENERATE} calls may take {duration(needed)} ({parts}), but it ends after {duration(whole)}: "
            "the last of them may be cut short",
        )


def _nested_deadlines(loaded: LoadedPolicy) -> list[tuple[str, float]]:
    """The deadlines of what generate() calls. With ``vision: image`` it never calls the encoder."""
    image_only = loaded.config.lm_studio.vision is Vision.IMAGE
    called = [name for name in INSIDE_GENERATE if not (image_only and name.startswith("encoder."))]
    deadlines = [(name, loaded.config.targets.get(name, TargetPolicy()).deadline) for name in called]
    return [(name, deadline) for name, deadline in deadlines if deadline is not None]


def _retry_after_over_deadline(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        path = ("targets", name, "retry", "retry_after_max")
        if target.retry is None or target.deadline is None or not is_in_own_section(loaded, path):
            continue  # a default for many targets may be longer than the deadline of some
        if target.retry.retry_after_max > target.deadline:
            yield Finding(
                nearest(loaded, path, ("targets", name, "deadline")),
                f"a Retry-After of {duration(target.retry.retry_after_max)} is never waited for: "
                f"the deadline of {duration(target.deadline)} comes first",
            )


def _no_thread_to_abandon(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        path = ("targets", name, "timeout", "max_abandoned_threads")
        if target.timeout is not None and not target.timeout.ends_attempts and is_written(loaded, path):
            text = "no thread is ever abandoned: only `attempt`, `first_token` and `idle` make calls leave one behind"
            yield Finding(path, text)


RULES = (
    Rule(
        id="PL101",
        name="Attempt timeout over the deadline",
        severity=ProblemSeverity.WARNING,
        why="The deadline ends the whole call, so a longer timeout never takes effect, and no retry is possible after "
        "it.",
        mend="Make the timeout shorter than the deadline, or leave one of them out.",
        bad="targets: {billing.charge: {deadline: 5s, timeout: 10s}}",
        good="targets: {billing.charge: {deadline: 30s, timeout: 10s}}",
        check=_timeout_over_deadline,
    ),
    Rule(
        id="PL102",
        name="A deadline without a timeout on a target of your own",
        severity=ProblemSeverity.NOTE,
        why="Nothing can interrupt a plain sync function from outside: its deadline is only looked at between "
        "attempts. A timeout buys it a worker thread that can be left behind.",
        mend="Add a timeout. An async function, or one that reads the remaining time itself, needs none: say so in an "
        "ignore comment.",
        bad="targets: {billing.charge: {deadline: 30s}}",
        good="targets: {billing.charge: {deadline: 30s, timeout: 10s}}",
        check=_deadline_without_timeout,
    ),
    Rule(
        id="PL103",
        name="Retries that do not fit into the deadline",
        severity=ProblemSeverity.WARNING,
        why="When every attempt uses its whole timeout, which is what an outage looks like, the deadline cuts the last "
        "attempts short or never lets them begin.",
        mend="Raise the deadline to the sum that the message names, or lower the attempts, the timeout or the waits.",
        bad=chat("deadline: 60s, timeout: 30s, retry: {max_attempts: 3}"),
        good=chat("deadline: 95s, timeout: 30s, retry: {max_attempts: 3}"),
        check=_retries_do_not_fit,
    ),
    Rule(
        id="PL104",
        name="Connect timeout not shorter than the attempt's",
        severity=ProblemSeverity.WARNING,
        why="Connecting is a part of the attempt, so the attempt's timeout always comes first.",
        mend="Make `connect` shorter: a server that is there accepts a connection within a second or two.",
        bad=chat("timeout: {attempt: 5s, connect: 5s}"),
        good=chat("timeout: {attempt: 5s, connect: 1s}"),
        check=_connect_timeout,
    ),
    Rule(
        id="PL105",
        name="A nested deadline longer than that of pixel_llm.generate",
        severity=ProblemSeverity.WARNING,
        why="Nested targets inherit the time that is left, so the longer deadline promises time that is never there.",
        mend="Shorten the nested deadline, or lengthen that of `pixel_llm.generate`.",
        bad="targets:\n  pixel_llm.generate: {deadline: 10s}\n  lm_studio.chat: {deadline: 30s}",
        good="targets:\n  pixel_llm.generate: {deadline: 35s}\n  lm_studio.chat: {deadline: 30s}",
        check=_nested_deadline,
    ),
    Rule(
        id="PL106",
        name="Nested deadlines that together do not fit into that of pixel_llm.generate",
        severity=ProblemSeverity.NOTE,
        why="The encoder and the model are called one after the other. Whoever comes last may find no time left "
        "although all kept their deadlines.",
        mend="Raise the deadline of `pixel_llm.generate` to the sum, or shorten the others.",
        bad="targets:\n  pixel_llm.generate: {deadline: 30s}\n  encoder.forward: {deadline: 20s}\n"
        "  lm_studio.chat: {deadline: 30s}",
        good="targets:\n  pixel_llm.generate: {deadline: 50s}\n  encoder.forward: {deadline: 20s}\n"
        "  lm_studio.chat: {deadline: 30s}",
        check=_nested_deadlines_together,
    ),
    Rule(
        id="PL107",
        name="A Retry-After that the deadline never allows",
        severity=ProblemSeverity.NOTE,
        why="A wait never outlives the deadline, so the larger limit only looks as if it did something.",
        mend="Lower `retry_after_max`, or raise the deadline.",
        bad=chat("deadline: 30s, retry: {retry_after_max: 2m}"),
        good=chat("deadline: 30s, retry: {retry_after_max: 10s}"),
        check=_retry_after_over_deadline,
    ),
    Rule(
        id="PL108",
        name="Attempts that can never begin",
        severity=ProblemSeverity.WARNING,
        why="Even if every attempt fails at once, the waits between them use up the deadline.",
        mend="Raise the deadline, or lower `initial_delay` or `max_attempts`.",
        bad=chat("deadline: 5s, retry: {strategy: fixed_delay, initial_delay: 3s, jitter: none}"),
        good=chat("deadline: 9s, retry: {strategy: fixed_delay, initial_delay: 3s, jitter: none}"),
        check=_attempts_never_begin,
    ),
    Rule(
        id="PL110",
        name="A limit on abandoned threads where none is abandoned",
        severity=ProblemSeverity.WARNING,
        why="Only `attempt` has plain sync functions run in worker threads, which can be left behind; `first_token` "
        "and `idle` do so for streams.",
        mend="Add `attempt`, or leave `max_abandoned_threads` out.",
        bad="targets: {billing.charge: {timeout: {connect: 1s, max_abandoned_threads: 4}}}",
        good="targets: {billing.charge: {timeout: {attempt: 5s, connect: 1s, max_abandoned_threads: 4}}}",
        check=_no_thread_to_abandon,
    ),
)
