"""What attempts fail of."""

from __future__ import annotations

from collections.abc import Callable

from pixel_llm.errors import APIError, ConnectionError, EncoderError, ErrorCode, TimeoutError


class Interrupt(BaseException):
    """Stands for KeyboardInterrupt, which would end the run as well."""


class StrangeError(Exception):
    """An exception that nobody knows."""


def _answer(status: int, code: ErrorCode) -> Callable[[float | None], Exception]:
    return lambda asked: APIError(error_code=code, details={"status": status}, retry_after=asked)


#: Each makes the error of one attempt; the argument is the server's Retry-After in seconds, if it sends one.
FAULTS: dict[str, Callable[[float | None], Exception]] = {
    "refused": lambda asked: ConnectionRefusedError("refused"),
    "reset": lambda asked: ConnectionResetError("reset"),
    "lost": lambda asked: ConnectionError("lost"),
    "timeout": lambda asked: TimeoutError("the server gave up"),
    "503": _answer(503, ErrorCode.ERR_API_OVERLOAD),
    "500": _answer(500, ErrorCode.ERR_API_SERVER_ERROR),
    "429": _answer(429, ErrorCode.ERR_API_RATE_LIMIT),
    "401": _answer(401, ErrorCode.ERR_API_UNAUTHORIZED),
    "encoder": lambda asked: EncoderError("forward"),
    "mistake": lambda asked: ValueError("mistake"),
    "strange": lambda asked: StrangeError("strange"),
}
