"""
The checks in their order, and how they are run.

A check whose need has failed is skipped. None takes longer than its limit, whatever the server, the name service or a
file system does: each runs in a thread that is left behind if need be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixel_llm.doctor.answers import check_round_trip, check_vision
from pixel_llm.doctor.case import Case
from pixel_llm.doctor.encoders import check_encoder
from pixel_llm.doctor.findings import CheckResult, Finding, Outcome, failure_of, skipped
from pixel_llm.doctor.models import check_context, check_loaded, check_model
from pixel_llm.doctor.policies import check_policy, check_rules
from pixel_llm.doctor.server import check_key, check_server
from pixel_llm.policy import TargetPolicy, TimeoutConfig
from pixel_llm.resilience import Stack, guard

#: Seconds that a check has to say by itself that its time is up: sockets then tell more than whoever waits for them.
_GRACE = 0.5


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, what it does, and the checks without which it makes no sense."""

    name: str
    run: Callable[[Case], Finding]
    needs: tuple[str, ...] = ()


#: What is looked at once …
CHECKS_OF_THE_POLICY = (
    Check("policy", check_policy),
    Check("rules", check_rules, ("policy",)),
    Check("encoder", check_encoder, ("policy",)),
)
#: … and what of each server.
CHECKS_OF_A_SERVER = (
    Check("server", check_server, ("policy",)),
    Check("key", check_key, ("server",)),
    Check("model", check_model, ("key",)),
    Check("loaded", check_loaded, ("model",)),
    Check("context", check_context, ("model",)),
    Check("round trip", check_round_trip, ("loaded",)),
    Check("vision", check_vision, ("round trip",)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """
    What came of the checks. Immutable.

    Attributes:
        profile: The profile; None, as the two below, if the policy can't be loaded.
        file: The file that it is in.
        model: The model.
        results: The checks, in their order; those of a server for one server after the other.
    """

    profile: str | None
    file: Path | None
    model: str | None
    results: tuple[CheckResult, ...]

    def count(self, outcome: Outcome) -> int:
        """How many checks have ended so."""
        return sum(result.outcome is outcome for result in self.results)

    @property
    def is_fine(self) -> bool:
        """True if no check has failed."""
        return not self.count(Outcome.FAILED)


def examine(
    folder: Path | None = None,
    profile: str | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    timeout: float = 30.0,
) -> Examination:
    """
    Run every check once. What is wrong is found, never raised.

    Args:
        folder: Where policies lie; see :func:`pixel_llm.load_policies`.
        profile: Which one.
        overrides: Sections laid over it.
        timeout: Seconds for each check.
    """
    case = Case(folder, profile, overrides)
    causes: dict[str, str] = {}
    results = _run_all(CHECKS_OF_THE_POLICY, case, timeout, causes)
    policy = case.policy
    for index in range(1 if policy is None else len(policy.config.lm_studio.servers)):
        of_server = case if policy is None else case.at(index)
        try:
            results += _run_all(CHECKS_OF_A_SERVER, of_server, timeout, dict(causes))
        finally:
            if of_server.server is not None:
                of_server.server.close()
    return Examination(
        profile=None if policy is None else policy.profile,
        file=None if policy is None else policy.file,
        model=None if policy is None else policy.config.lm_studio.model,
        results=tuple(results),
    )


def _run_all(checks: Sequence[Check], case: Case, timeout: float, causes: dict[str, str]) -> list[CheckResult]:
    """Run *checks* in order. *causes* gives, for each check that can be no need, the one that has failed."""
    results = []
    for check in checks:
        cause = next((causes[need] for need in check.needs if need in causes), None)
        result = _run(check, case, timeout) if cause is None else _left_out(check, case, cause)
        results.append(result)
        if cause is not None or result.outcome is Outcome.FAILED:
            causes[check.name] = cause or check.name
    return results


def _run(check: Check, case: Case, timeout: float) -> CheckResult:
    started = time.monotonic()
    try:
        finding = _within(timeout, check)(case)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other checks are still worth their result
        finding = failure_of(error)
    return _result(check, case, finding, time.monotonic() - started)


def _left_out(check: Check, case: Case, cause: str) -> CheckResult:
    return _result(check, case, skipped(f"because {cause} failed"))


def _result(check: Check, case: Case, finding: Finding, seconds: float = 0.0) -> CheckResult:
    return CheckResult(
        name=check.name,
        server=None if case.server is None else case.server.base_url,
        outcome=finding.outcome,
        message=case.in_its_words(finding.message),
        todo=case.in_its_words(finding.todo),
        seconds=seconds,
    )


def _within(timeout: float, check: Check) -> Callable[[Case], Finding]:
    """*check*, with an end: inside, sockets look at the limit; outside, somebody looks at the clock."""
    limited = guard(_stack(check, timeout), check.run, cooperative=True)
    return guard(_stack(check, timeout + _GRACE), limited)


def _stack(check: Check, timeout: float) -> Stack:
    name = check.name.replace(" ", "_")
    return Stack(f"doctor.{name}", TargetPolicy(timeout=TimeoutConfig(attempt=timeout)))
