"""What an HTTP status means where nothing else is known."""

from __future__ import annotations

from pixel_llm.errors.codes import ErrorCode

#: Statuses that mean one thing, whatever the text says. 408 is a proxy's doing: asking again may help.
PLAIN_STATUSES: dict[int, ErrorCode] = {
    401: ErrorCode.ERR_API_UNAUTHORIZED,
    403: ErrorCode.ERR_API_UNAUTHORIZED,
    408: ErrorCode.ERR_API_SERVER_ERROR,
    429: ErrorCode.ERR_API_RATE_LIMIT,
    503: ErrorCode.ERR_API_OVERLOAD,
}


def code_of_status(status: int) -> ErrorCode:
    """The code of an answer that is an error: of its own status, else of its hundreds."""
    if status in PLAIN_STATUSES:
        return PLAIN_STATUSES[status]
    if 300 <= status < 400:
        return ErrorCode.ERR_API_INVALID_RESPONSE
    return ErrorCode.ERR_API_BAD_REQUEST if 400 <= status < 500 else ErrorCode.ERR_API_SERVER_ERROR
