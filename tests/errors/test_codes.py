from __future__ import annotations

import pytest

from pixel_llm.errors import ERROR_CODES, ErrorCategory, ErrorCode, ErrorCodeInfo, ErrorFamily, Severity

#: The families and their codes, as they are promised.
FAMILIES = {
    "CONNECTION": "CONN_UNAVAILABLE CONN_REFUSED CONN_TIMEOUT CONN_LOST",
    "TIMEOUT": "TIMEOUT_REQUEST TIMEOUT_RESPONSE TIMEOUT_IDLE TIMEOUT_DEADLINE",
    "VALIDATION": "VAL_INVALID_TENSOR VAL_MISSING_FIELD VAL_INVALID_RANGE VAL_EMPTY_INPUT VAL_INVALID_POLICY",
    "API": "API_RATE_LIMIT API_OVERLOAD API_INVALID_RESPONSE API_UNAUTHORIZED API_MODEL_NOT_FOUND API_CONTEXT_LENGTH "
    "API_BAD_REQUEST API_SERVER_ERROR",
    "ENCODER": "ENC_LOAD_FAILED ENC_FORWARD_FAILED ENC_INVALID_INPUT ENC_OUT_OF_MEMORY",
    "CIRCUIT_BREAKER": "CB_OPEN CB_HALF_OPEN",
    "RETRY": "RETRY_EXHAUSTED RETRY_BUDGET",
    "LIMIT": "LIMIT_RATE LIMIT_BULKHEAD",
}
CRITICAL = {"ENC_LOAD_FAILED"}
HIGH = {
    "CONN_UNAVAILABLE", "API_OVERLOAD", "API_UNAUTHORIZED", "ENC_FORWARD_FAILED", "ENC_OUT_OF_MEMORY",
    "RETRY_EXHAUSTED",
}  # fmt: skip
LOW = {*FAMILIES["VALIDATION"].split(), "TIMEOUT_IDLE"}
NOT_RETRYABLE = {
    *FAMILIES["VALIDATION"].split(), "API_UNAUTHORIZED", "API_MODEL_NOT_FOUND", "API_CONTEXT_LENGTH", "API_BAD_REQUEST",
    "ENC_LOAD_FAILED", "ENC_INVALID_INPUT", *FAMILIES["CIRCUIT_BREAKER"].split(), *FAMILIES["RETRY"].split(),
    *FAMILIES["LIMIT"].split(), "TIMEOUT_DEADLINE",
}  # fmt: skip

ROWS = [(family, code) for family, codes in FAMILIES.items() for code in codes.split()]


def row(code: str) -> ErrorCodeInfo:
    return ErrorCode(f"ERR_{code}").info


class TestTable:
    def test_codes(self):
        """
        The table holds every code that is promised, in this order, and no other.
        """
        promised = [f"ERR_{code}" for _, code in ROWS]

        assert promised == [str(code) for code in ERROR_CODES]
        assert promised == [str(code) for code in ErrorCode]

    @pytest.mark.parametrize(("family", "code"), ROWS)
    def test_family(self, family, code):
        """
        Each code belongs to its family, and its row knows whose row it is.
        """
        info = row(code)

        assert (ErrorFamily(family), f"ERR_{code}") == (info.family, info.code)

    @pytest.mark.parametrize(("family", "code"), ROWS)
    def test_severity(self, family, code):
        """
        Four lists say the severity; what is in none is MEDIUM.
        """
        lists = {"CRITICAL": CRITICAL, "HIGH": HIGH, "LOW": LOW}
        expected = next((severity for severity, codes in lists.items() if code in codes), "MEDIUM")

        assert Severity(expected) == row(code).severity

    @pytest.mark.parametrize(("family", "code"), ROWS)
    def test_retryable(self, family, code):
        """
        One list says what is not retryable.
        """
        assert (code not in NOT_RETRYABLE) == row(code).retryable

    @pytest.mark.parametrize(("family", "code"), ROWS)
    def test_category_fits(self, family, code):
        """
        What is permanent or a guard's refusal is not retryable, and every known error has a category.
        """
        info = row(code)

        assert ErrorCategory.UNKNOWN != info.category
        if info.category in (ErrorCategory.PERMANENT, ErrorCategory.DEGRADATION):
            assert not info.retryable

    @pytest.mark.parametrize(("family", "code"), ROWS)
    def test_texts(self, family, code):
        """
        Message and suggestion are there, begin small and end without a full stop, so that they fit into sentences.
        """
        for text in (row(code).message, row(code).suggestion):
            assert text
            assert text[0].islower()
            assert not text.endswith(".")


class TestCategories:
    def test_are_five(self):
        """
        The categories and severities are those that are promised.
        """
        assert ["TRANSIENT", "PERMANENT", "DEGRADATION", "THROTTLED", "UNKNOWN"] == list(ErrorCategory)
        assert ["LOW", "MEDIUM", "HIGH", "CRITICAL"] == list(Severity)

    @pytest.mark.parametrize("code", ["API_RATE_LIMIT", "LIMIT_RATE", "LIMIT_BULKHEAD"])
    def test_throttled(self, code):
        """
        "Later" is said by the server's rate limit and by the policy's own limits.
        """
        assert ErrorCategory.THROTTLED == row(code).category

    @pytest.mark.parametrize("code", ["CB_OPEN", "CB_HALF_OPEN", "RETRY_EXHAUSTED", "RETRY_BUDGET"])
    def test_degradation(self, code):
        """
        A guard's refusal stands for an error behind it.
        """
        assert ErrorCategory.DEGRADATION == row(code).category
