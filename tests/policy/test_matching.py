from __future__ import annotations

import pytest

from pixel_llm.errors import ErrorCategory, ErrorCode, ErrorFamily, PixelLMError, classify_error
from pixel_llm.policy.sections.matching import (
    COUNTED_BY_DEFAULT,
    NEVER_RETRIED,
    RETRIED_BY_DEFAULT,
    RETRYABLE_ERROR_NAMES,
    SERVED_BY_DEFAULT,
    ErrorMatcher,
)

BY_CODE = {code: classify_error(PixelLMError(error_code=code)) for code in ErrorCode}
UNKNOWN = classify_error(KeyError("of nobody"))
MISTAKE = classify_error(TypeError("a mistake"))

#: Every name that a list of errors may hold.
ALL_NAMES = (*ErrorCategory, *ErrorCode, "4xx", "5xx", *range(400, 600))


class TestOf:
    def test_sorts_names_by_their_kind(self):
        """
        Categories, codes and statuses may be mixed, statuses as numbers or texts.
        """
        expected = ErrorMatcher(
            categories=frozenset({ErrorCategory.TRANSIENT}),
            codes=frozenset({ErrorCode.ERR_CB_OPEN}),
            statuses=frozenset({"429", "503", "5xx"}),
        )

        assert expected == ErrorMatcher.of("5xx", 503, ErrorCode.ERR_CB_OPEN, "429", "TRANSIENT")

    def test_order_and_repetition_do_not_matter(self):
        """
        Two lists that name the same errors are equal.
        """
        assert ErrorMatcher.of("5xx", 503, "TRANSIENT") == ErrorMatcher.of("TRANSIENT", "503", "5xx", "5xx")

    def test_names_gives_them_back(self):
        """
        A matcher lists its names as a policy would.
        """
        matcher = ErrorMatcher.of("5xx", 429, "UNKNOWN", "TRANSIENT", "ERR_CB_OPEN")

        assert ["TRANSIENT", "UNKNOWN", "ERR_CB_OPEN", "429", "5xx"] == matcher.names()
        assert matcher == ErrorMatcher.of(*matcher.names())


class TestNamesExactly:
    def test_a_code(self):
        """
        A code stands for itself, not for others of its category.
        """
        matcher = ErrorMatcher.of(ErrorCode.ERR_CONN_LOST)

        assert [ErrorCode.ERR_CONN_LOST] == [code for code in ErrorCode if matcher.names_exactly(code)]
        assert not matcher.names_exactly(None)

    @pytest.mark.parametrize(
        ("name", "status", "expected"),
        [
            (503, 503, True),
            ("503", 503, True),
            (503, 502, False),
            ("5xx", 500, True),
            ("5xx", 599, True),
            ("5xx", 600, False),
            ("5xx", 499, False),
            ("4xx", 429, True),
            ("4xx", 50, False),
            ("4xx", None, False),
            ("TRANSIENT", 503, False),
        ],
    )
    def test_a_status(self, name, status, expected):
        """
        A status stands for itself, a class of statuses for its hundred; a category names no error exactly.
        """
        assert expected == ErrorMatcher.of(name).names_exactly(None, status)


class TestMatches:
    @pytest.mark.parametrize("category", ErrorCategory)
    def test_a_category(self, category):
        """
        A category stands for all its errors.
        """
        matcher = ErrorMatcher.of(category)

        assert [code for code in ErrorCode if code.info.category is category] == [
            code for code in ErrorCode if matcher.matches(BY_CODE[code])
        ]
        assert (category is ErrorCategory.UNKNOWN) == matcher.matches(UNKNOWN)
        assert (category is ErrorCategory.PERMANENT) == matcher.matches(MISTAKE)

    def test_any_of_the_names_is_enough(self):
        """
        An error that is named in one way is named.
        """
        matcher = ErrorMatcher.of(ErrorCategory.THROTTLED, ErrorCode.ERR_CB_OPEN, 418)

        assert matcher.matches(BY_CODE[ErrorCode.ERR_API_RATE_LIMIT])
        assert matcher.matches(BY_CODE[ErrorCode.ERR_CB_OPEN])
        assert matcher.matches(MISTAKE, 418)
        assert not matcher.matches(MISTAKE, 419)

    def test_nothing(self):
        """
        A matcher without names matches nothing.
        """
        assert not any(ErrorMatcher().matches(found, 500) for found in (*BY_CODE.values(), UNKNOWN, MISTAKE))


class TestRetries:
    @pytest.mark.parametrize("code", sorted(NEVER_RETRIED))
    @pytest.mark.parametrize("status", [None, 400, 503])
    def test_never_what_no_policy_can_have_retried(self, code, status):
        """
        Refusals of the policy's own layers, wrong input and a passed deadline are not retried, however they are named.
        """
        assert not ErrorMatcher.of(*ALL_NAMES).retries(BY_CODE[code], status)

    @pytest.mark.parametrize("code", [code for code in ErrorCode if code not in NEVER_RETRIED])
    def test_what_is_named_by_its_code(self, code):
        """
        A code that is named is retried, be it one that does not go away by itself.
        """
        assert ErrorMatcher.of(code).retries(BY_CODE[code])

    def test_what_is_named_by_its_status(self):
        """
        So is a status, whatever the category of the error.
        """
        unauthorized = BY_CODE[ErrorCode.ERR_API_UNAUTHORIZED]

        assert ErrorMatcher.of(401).retries(unauthorized, 401)
        assert ErrorMatcher.of("4xx").retries(unauthorized, 401)
        assert not ErrorMatcher.of("4xx").retries(unauthorized)

    def test_of_a_category_only_what_may_go_away(self):
        """
        A category stands for those of its errors that the table calls retryable, and for all of unknown kind.
        """
        matcher = ErrorMatcher.of(*ErrorCategory)

        assert [code for code in ErrorCode if code.info.retryable] == [
            code for code in ErrorCode if matcher.retries(BY_CODE[code])
        ]
        assert matcher.retries(UNKNOWN)
        assert not matcher.retries(MISTAKE)


class TestNeverRetried:
    def test_are_refusals_wrong_input_and_the_deadline(self):
        """
        Nothing that a server or a network did is among them.
        """
        families = {code.info.family for code in NEVER_RETRIED}

        assert {
            ErrorFamily.VALIDATION,
            ErrorFamily.CIRCUIT_BREAKER,
            ErrorFamily.RETRY,
            ErrorFamily.LIMIT,
            ErrorFamily.TIMEOUT,
        } == families
        assert {ErrorCode.ERR_TIMEOUT_DEADLINE} == {
            code for code in NEVER_RETRIED if code.info.family is ErrorFamily.TIMEOUT
        }

    def test_can_not_be_named(self):
        """
        What `retry_on` takes would be retried: a key that is accepted does something.
        """
        kind = RETRYABLE_ERROR_NAMES.kind

        assert set(ErrorCode) == {*kind.codes, *NEVER_RETRIED}
        assert not {*kind.codes} & NEVER_RETRIED
        for category in kind.categories:
            found = [*BY_CODE.values(), UNKNOWN]
            assert any(ErrorMatcher.of(category).retries(classification) for classification in found)


class TestDefaults:
    def test_retried(self):
        """
        By default what the table calls retryable is retried, and nothing of unknown kind.
        """
        assert [code for code in ErrorCode if code.info.retryable] == [
            code for code in ErrorCode if RETRIED_BY_DEFAULT.retries(BY_CODE[code])
        ]
        assert not RETRIED_BY_DEFAULT.retries(UNKNOWN)

    def test_counted(self):
        """
        By default transient and unknown errors count, and nothing else.
        """
        counted = {ErrorCategory.TRANSIENT, ErrorCategory.UNKNOWN}

        assert counted == {category for category in ErrorCategory if category in COUNTED_BY_DEFAULT.categories}
        assert not COUNTED_BY_DEFAULT.matches(BY_CODE[ErrorCode.ERR_API_RATE_LIMIT], 429)

    def test_served(self):
        """
        By default a fallback serves for all but permanent errors.
        """
        assert {*ErrorCategory} - {ErrorCategory.PERMANENT} == SERVED_BY_DEFAULT.categories
