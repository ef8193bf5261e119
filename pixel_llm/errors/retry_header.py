"""When to ask again: ``Retry-After``, as servers send it and as exceptions carry it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from pixel_llm.errors.exceptions import PixelLMError


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """
    Seconds that a server asks to wait, at least 0, or None if it does not say.

    Both forms of RFC 9110, section 10.2.3: seconds, and an HTTP date. A date is taken relative to the server's
    own ``Date``, so that clocks need not agree.

    Args:
        headers: Those of the answer. Their names are in lower case, as HTTP writes them, or ignore case.
    """
    value = _field(headers, "Retry-After")
    try:
        seconds = float(value)
    except ValueError:
        moment = _moment(value)
        if moment is None:
            return None
        now = _moment(_field(headers, "Date"))
        seconds = moment - (time.time() if now is None else now)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def retry_after(error: BaseException) -> float | None:
    """
    Seconds after which *error* asks to be tried again, at least 0, or None if it does not say.

    Ours have ``retry_after``; so have many of others, in seconds or as a ``timedelta``. Else the answer that the
    error came with is asked, where it has one as httpx and requests have it: ``error.response.headers``.
    """
    if isinstance(error, PixelLMError):
        return error.retry_after
    with contextlib.suppress(Exception):  # somebody else's property may raise anything
        asked = _seconds(getattr(error, "retry_after", None))
        return asked if asked is not None else parse_retry_after(error.response.headers)  # type: ignore[attr-defined]
    return None


def _seconds(value: Any) -> float | None:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return max(0.0, float(value))


def _field(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name.lower(), headers.get(name, ""))
    return value.strip() if isinstance(value, str) else ""


def _moment(http_date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(http_date)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (moment if moment.tzinfo else datetime.combine(moment.date(), moment.time(), UTC)).timestamp()
