"""Which errors are tried again, and which of them count as failures."""

from __future__ import annotations

import dataclasses
from functools import cache

from pixel_llm.errors import ErrorCategory, ErrorClassification, ErrorCode, PixelLMError, classify_error
from pixel_llm.policy.sections.circuit_breaker import CircuitBreakerConfig
from pixel_llm.policy.sections.matching import NOTHING_SENT, ErrorMatcher
from pixel_llm.policy.sections.target import TargetPolicy


@cache
def some_error_is_retried(
    retry_on: ErrorMatcher, count: ErrorMatcher | None, *, idempotent: bool, answer: bool
) -> bool:
    """True if some error is retried and, unless *count* is None, doesn't count."""
    answers = [classified(code) for code in ErrorCode if code.info.family == "API"]
    others = [classified(code) for code in ErrorCode if code.info.family != "API"]
    # Exceptions of others, which a program may have registered under any category.
    answers += [
        dataclasses.replace(classified(ErrorCode.ERR_CONN_LOST), category=c, error_code=None) for c in ErrorCategory
    ]
    errors = [(error, status) for error in answers for status in (None, *range(400, 600))]
    if not answer:
        errors += [(error, None) for error in others]
    return any(
        retry_on.retries(error, status)
        and (idempotent or error.error_code in NOTHING_SENT)
        and not (count is not None and count.matches(error, status))
        for error, status in errors
    )


def retries_all(policy: TargetPolicy, codes: tuple[ErrorCode, ...]) -> bool:
    """True if errors of all of *codes* are retried."""
    retry, sent = policy.retry, policy.idempotent is False
    return retry is not None and all(
        retry.retry_on.retries(classified(code)) and not (sent and code not in NOTHING_SENT) for code in codes
    )


def counts_all(breaker: CircuitBreakerConfig, codes: tuple[ErrorCode, ...]) -> bool:
    """True if errors of all of *codes* count as failures."""
    return all(breaker.count.matches(classified(code)) for code in codes)


@cache
def classified(code: ErrorCode) -> ErrorClassification:
    """The verdict on an error of *code*."""
    return classify_error(PixelLMError(error_code=code))
