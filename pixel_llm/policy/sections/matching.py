"""Naming errors in a policy: by category, by code, or by HTTP status."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pixel_llm.errors import ErrorCategory, ErrorClassification, ErrorCode
from pixel_llm.policy.kinds import JSONSchema, Kind, ListOf, SchemaBuilder

#: A status, or a class of statuses.
STATUS_PATTERN = r"^[45]([0-9][0-9]|xx)$"


@dataclass(frozen=True, slots=True)
class ErrorMatcher:
    """
    The errors that a list in a policy names. Immutable, safe to share between threads.

    *statuses* are HTTP statuses such as ``503``, or classes of them such as ``5xx``.
    """

    categories: frozenset[ErrorCategory] = frozenset()
    codes: frozenset[ErrorCode] = frozenset()
    statuses: frozenset[str] = frozenset()

    @classmethod
    def of(cls, *names: ErrorCategory | ErrorCode | int | str) -> ErrorMatcher:
        """The matcher of *names* as a policy would list them."""
        texts = [str(name) for name in names]
        return cls(
            frozenset(ErrorCategory(text) for text in texts if text in ErrorCategory.__members__),
            frozenset(ErrorCode(text) for text in texts if text in ErrorCode.__members__),
            frozenset(text for text in texts if re.fullmatch(STATUS_PATTERN.strip("^$"), text)),
        )

    def names(self) -> list[str]:
        """The names as a policy would list them."""
        return [*sorted(self.categories), *sorted(self.codes), *sorted(self.statuses)]

    def retries(self, classification: ErrorClassification, status: int | None = None) -> bool:
        """
        True if an error of this classification is to be tried again.

        A category stands for those of its errors that may go away; a code or a status for itself.
        """
        code = classification.error_code
        if code in NEVER_RETRIED:
            return False
        if self.names_exactly(code, status):
            return True
        may_go_away = classification.retryable or classification.category is ErrorCategory.UNKNOWN
        return classification.category in self.categories and may_go_away

    def matches(self, classification: ErrorClassification, status: int | None = None) -> bool:
        """True if an error of this classification, and HTTP *status* if it has one, is named."""
        return classification.category in self.categories or self.names_exactly(classification.error_code, status)

    def names_exactly(self, code: ErrorCode | None, status: int | None = None) -> bool:
        """True if the error is named by its code or its status, not merely by its category."""
        if code in self.codes:
            return True
        return status is not None and (str(status) in self.statuses or f"{status // 100}xx" in self.statuses)


@dataclass(frozen=True)
class ErrorName(Kind):
    """One name of errors: one of *categories* or of *codes*, or a status."""

    definition: str = "error_name"
    categories: tuple[ErrorCategory, ...] = tuple(ErrorCategory)
    codes: tuple[ErrorCode, ...] = tuple(ErrorCode)
    must_be: str = "an error category, an error code, or an HTTP status such as 503 or 5xx"

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        """A text or, for a single status, a number."""
        names = [name.value for name in (*self.categories, *self.codes)]
        schema = {
            "title": self.must_be,
            "anyOf": [
                {"enum": names},
                {"type": "string", "pattern": STATUS_PATTERN + r"(?!\n)"},
                {"type": "integer", "minimum": 400, "maximum": 599},
            ],
        }
        return build.scalar(build.define(self.definition, lambda: schema))


@dataclass(frozen=True)
class ErrorNames(ListOf):
    """A list of names of errors; in the model an :class:`ErrorMatcher`."""

    kind: Kind = ErrorName()

    def freeze(self, value: list[Any]) -> Any:
        """The matcher of the names."""
        return ErrorMatcher.of(*value)

    def complain(self, value: Any) -> str:
        """What is wrong with *value*, which must be a matcher."""
        wanted = 'must be an ErrorMatcher, such as ErrorMatcher.of("TRANSIENT", 503)'
        return "" if isinstance(value, ErrorMatcher) else f"{wanted} (got {value!r})"

    def thaw(self, value: Any) -> list[Any]:
        """The names of the matcher."""
        return list(value.names())


#: What no policy can have retried: refusals of its own layers, wrong input, and a deadline that has passed.
NEVER_RETRIED = frozenset(
    code
    for code in ErrorCode
    if code.info.family in ("VALIDATION", "CIRCUIT_BREAKER", "RETRY", "LIMIT") or code is ErrorCode.ERR_TIMEOUT_DEADLINE
)

#: Errors that prove that nothing was sent, so that even what is not idempotent may be tried again.
NOTHING_SENT = frozenset({ErrorCode.ERR_CONN_REFUSED, ErrorCode.ERR_CONN_UNAVAILABLE, ErrorCode.ERR_CONN_TIMEOUT})

RETRIED_BY_DEFAULT = ErrorMatcher.of(ErrorCategory.TRANSIENT, ErrorCategory.THROTTLED)
COUNTED_BY_DEFAULT = ErrorMatcher.of(ErrorCategory.TRANSIENT, ErrorCategory.UNKNOWN)
SERVED_BY_DEFAULT = ErrorMatcher.of(
    *(category for category in ErrorCategory if category is not ErrorCategory.PERMANENT)
)

ERROR_NAMES = ErrorNames()
RETRYABLE_ERROR_NAMES = ErrorNames(
    ErrorName(
        "retryable_error_name",
        (ErrorCategory.TRANSIENT, ErrorCategory.THROTTLED, ErrorCategory.UNKNOWN),
        tuple(code for code in ErrorCode if code not in NEVER_RETRIED),
        "an error that can be retried: TRANSIENT, THROTTLED, UNKNOWN, an error code, "
        "or an HTTP status such as 503 or 5xx",
    )
)
