from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import httpx
import pytest

from pixel_llm.errors import APIError, PixelLMError, parse_retry_after, retry_after


class SomebodyElses(Exception):
    """An error of another library, with what it carries as attributes."""

    def __init__(self, **carried):
        super().__init__("no")
        self.__dict__.update(carried)


def answered(**headers):
    return SimpleNamespace(headers={name.replace("_", "-"): value for name, value in headers.items()})


class TestParseRetryAfter:
    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({}, None),
            ({"retry-after": "7"}, 7.0),
            ({"Retry-After": "7"}, 7.0),
            ({"retry-after": " 1.5 "}, 1.5),
            ({"retry-after": "-3"}, 0.0),
            ({"retry-after": "soon"}, None),
            ({"retry-after": "nan"}, None),
            ({"retry-after": b"7"}, None),
            ({"retry-after": "9" * 400}, None),
            ({"retry-after": "Mon, 99 Foo 2026 99:00:00 GMT"}, None),
            (
                {"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"},
                30.0,
            ),
            (
                {"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"},
                30.0,
            ),
            (
                {"retry-after": "Wed, 21 Oct 2026 07:28:30 -0000", "date": "Wed, 21 Oct 2026 07:28:00 GMT"},
                30.0,
            ),
            (
                {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:30 GMT"},
                0.0,
            ),
            ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ],
    )
    def test_seconds_or_a_date(self, headers, seconds):
        """
        A date counts from the server's own; what cannot be read is no wish, and none is negative.
        """
        assert seconds == parse_retry_after(headers)

    def test_a_date_without_the_server_s_own(self):
        """
        Without a ``Date``, our own clock has to do.
        """
        assert 0.0 < parse_retry_after({"retry-after": "Wed, 21 Oct 2199 07:28:00 GMT"})

    def test_httpx_headers(self):
        """
        The headers of httpx ignore case.
        """
        assert 3.0 == parse_retry_after(httpx.Headers({"Retry-After": "3"}))


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("error", "seconds"),
        [
            (PixelLMError(), None),
            (APIError(retry_after=2.0), 2.0),
            (ValueError(), None),
            (SomebodyElses(retry_after=4), 4.0),
            (SomebodyElses(retry_after=-4.5), 0.0),
            (SomebodyElses(retry_after=timedelta(minutes=1)), 60.0),
            (SomebodyElses(retry_after=True), None),
            (SomebodyElses(retry_after="soon"), None),
            (SomebodyElses(retry_after=float("inf")), None),
            (SomebodyElses(response=answered(retry_after="5")), 5.0),
            (SomebodyElses(response=answered()), None),
            (SomebodyElses(response=None), None),
            (SomebodyElses(response=answered(retry_after="5"), retry_after=None), 5.0),
            (SomebodyElses(response=answered(retry_after="5"), retry_after=7), 7.0),
        ],
    )
    def test_of_ours_and_of_others(self, error, seconds):
        """
        An attribute counts first, then the header of the answer; what is no number of seconds is no wish.
        """
        assert seconds == retry_after(error)

    def test_httpx_status_error(self):
        """
        What ``raise_for_status()`` raises carries the server's wish in its answer.
        """
        request = httpx.Request("GET", "http://127.0.0.1")
        response = httpx.Response(503, headers={"Retry-After": "9"}, request=request)
        with pytest.raises(httpx.HTTPStatusError) as raised:
            response.raise_for_status()

        assert 9.0 == retry_after(raised.value)

    def test_a_property_that_raises(self):
        """
        Somebody else's property may fail; then there is no wish.
        """

        class Odd(Exception):
            @property
            def retry_after(self):
                raise RuntimeError

        assert retry_after(Odd()) is None
