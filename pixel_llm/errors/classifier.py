"""Put any exception, ours or not, into one of five categories, with what to do about it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

from pixel_llm.errors.codes import ErrorCategory, ErrorCode, Severity
from pixel_llm.errors.exceptions import PixelLMError
from pixel_llm.errors.statuses import code_of_status

#: Exceptions of others, by qualified name, so that knowing them imports nothing.
#: The first name found along the exception's MRO counts.
_KNOWN_NAMES: dict[str, ErrorCode] = {
    "builtins.ConnectionRefusedError": ErrorCode.ERR_CONN_REFUSED,
    "builtins.ConnectionError": ErrorCode.ERR_CONN_LOST,
    "builtins.TimeoutError": ErrorCode.ERR_TIMEOUT_REQUEST,
    "socket.gaierror": ErrorCode.ERR_CONN_UNAVAILABLE,
    "ssl.SSLCertVerificationError": ErrorCode.ERR_CONN_UNAVAILABLE,
    "ssl.SSLError": ErrorCode.ERR_CONN_LOST,
    "json.decoder.JSONDecodeError": ErrorCode.ERR_API_INVALID_RESPONSE,
    "httpx.ConnectTimeout": ErrorCode.ERR_CONN_TIMEOUT,
    "httpx.PoolTimeout": ErrorCode.ERR_TIMEOUT_REQUEST,
    "httpx.TimeoutException": ErrorCode.ERR_TIMEOUT_RESPONSE,
    "httpx.ConnectError": ErrorCode.ERR_CONN_UNAVAILABLE,
    "httpx.ProxyError": ErrorCode.ERR_CONN_UNAVAILABLE,
    "httpx.LocalProtocolError": ErrorCode.ERR_API_BAD_REQUEST,
    "httpx.UnsupportedProtocol": ErrorCode.ERR_VAL_INVALID_RANGE,
    "httpx.InvalidURL": ErrorCode.ERR_VAL_INVALID_RANGE,
    "httpx.DecodingError": ErrorCode.ERR_API_INVALID_RESPONSE,
    "httpx.SSEError": ErrorCode.ERR_API_INVALID_RESPONSE,  # httpx2 has it
    "httpx.TooManyRedirects": ErrorCode.ERR_API_INVALID_RESPONSE,
    "httpx.HTTPError": ErrorCode.ERR_CONN_LOST,
    # The program has used httpx wrongly, and will again.
    "httpx.CookieConflict": ErrorCode.ERR_API_BAD_REQUEST,
    "httpx.StreamError": ErrorCode.ERR_API_BAD_REQUEST,
    "httpcore.ConnectTimeout": ErrorCode.ERR_CONN_TIMEOUT,
    "httpcore.PoolTimeout": ErrorCode.ERR_TIMEOUT_REQUEST,
    "httpcore.TimeoutException": ErrorCode.ERR_TIMEOUT_RESPONSE,
    "httpcore.ConnectError": ErrorCode.ERR_CONN_UNAVAILABLE,
    "httpcore.ProxyError": ErrorCode.ERR_CONN_UNAVAILABLE,
    "httpcore.ConnectionNotAvailable": ErrorCode.ERR_CONN_LOST,
    "httpcore.NetworkError": ErrorCode.ERR_CONN_LOST,
    "httpcore.LocalProtocolError": ErrorCode.ERR_API_BAD_REQUEST,
    "httpcore.ProtocolError": ErrorCode.ERR_CONN_LOST,
    "httpcore.UnsupportedProtocol": ErrorCode.ERR_VAL_INVALID_RANGE,
    "torch.OutOfMemoryError": ErrorCode.ERR_ENC_OUT_OF_MEMORY,
    "torch.cuda.OutOfMemoryError": ErrorCode.ERR_ENC_OUT_OF_MEMORY,
}

#: Whose other exceptions mean one thing: torch raises RuntimeError for most of what goes wrong, and many kinds of it.
_KNOWN_PACKAGES: dict[str, ErrorCode] = {"torch": ErrorCode.ERR_ENC_FORWARD_FAILED}

#: Packages that have the exceptions of others under another name.
_SISTERS = {"httpx2": "httpx", "httpcore2": "httpcore"}

#: Its code is that of the response that it carries.
_STATUS_ERROR = "httpx.HTTPStatusError"

#: Mistakes in the program itself. They must be seen: neither retried nor papered over by a fallback.
_PROGRAMMING_ERRORS = (
    AssertionError,
    AttributeError,
    ImportError,
    NameError,
    NotImplementedError,
    SyntaxError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class ErrorClassification:
    """
    What the classifier says of one exception. Immutable.

    *error_code* is None for exceptions that no code of ours describes.
    """

    category: ErrorCategory
    severity: Severity
    retryable: bool
    error_code: ErrorCode | None
    suggestion: str

    def can_retry(self) -> bool:
        """True if asking again may help."""
        return self.retryable

    def has_fallback(self) -> bool:
        """True if a fallback may stand in: for every category but PERMANENT."""
        return self.category is not ErrorCategory.PERMANENT

    def is_critical(self) -> bool:
        """True if nothing works until a person acts."""
        return self.severity is Severity.CRITICAL


_UNKNOWN = ErrorClassification(
    ErrorCategory.UNKNOWN, Severity.MEDIUM, False, None, "look at the traceback: this error is of a kind not known here"
)
_PROGRAMMING = ErrorClassification(
    ErrorCategory.PERMANENT, Severity.HIGH, False, None, "mend the code or the arguments that raised it"
)
_BY_CODE: dict[ErrorCode, ErrorClassification] = {
    code: ErrorClassification(code.info.category, code.info.severity, code.info.retryable, code, code.info.suggestion)
    for code in ErrorCode
}


class ErrorClassifier:
    """
    Classifies exceptions; knows what it was told by :meth:`register` first.

    Safe for concurrent use: registering replaces a dict entry, classifying reads.
    """

    def __init__(self) -> None:
        self._registered: dict[type[BaseException], ErrorClassification] = {}

    def register(
        self,
        exception_type: type[BaseException],
        category: ErrorCategory,
        *,
        severity: Severity = Severity.MEDIUM,
        retryable: bool | None = None,
        suggestion: str = "",
    ) -> None:
        """
        Teach the classifier an exception type; subclasses are included.

        Without *retryable*, TRANSIENT and THROTTLED errors are retryable.
        """
        if retryable is None:
            retryable = category in (ErrorCategory.TRANSIENT, ErrorCategory.THROTTLED)
        self._registered[exception_type] = ErrorClassification(category, severity, retryable, None, suggestion)

    def classify(self, error: BaseException) -> ErrorClassification:
        """Classify *error* by what it is itself; its cause is not looked at."""
        registered = self._find_registered(type(error))
        if isinstance(error, PixelLMError):
            own = _BY_CODE[error.error_code]
            return replace(registered, error_code=own.error_code) if registered else own
        if registered:
            return registered
        code = _known_code(error)
        if code is not None:
            return _BY_CODE[code]
        return _PROGRAMMING if isinstance(error, _PROGRAMMING_ERRORS) else _UNKNOWN

    def _find_registered(self, error_type: type[BaseException]) -> ErrorClassification | None:
        if not self._registered:
            return None
        return next((self._registered[cls] for cls in error_type.__mro__ if cls in self._registered), None)


def _known_code(error: BaseException) -> ErrorCode | None:
    """The code of an exception of others, by the first name along its MRO that is known."""
    for cls in type(error).__mro__:
        module = _SISTERS.get(cls.__module__, cls.__module__)
        name = f"{module}.{cls.__qualname__}"
        if name == _STATUS_ERROR:
            return code_of_status(http_status(error) or 500)
        code = _KNOWN_NAMES.get(name) or _KNOWN_PACKAGES.get(module.partition(".")[0])
        if code is not None:
            return code
    return None


default_classifier = ErrorClassifier()


def classify_error(error: BaseException) -> ErrorClassification:
    """Classify *error* with the process-wide classifier."""
    return default_classifier.classify(error)


def root_cause(error: BaseException) -> BaseException:
    """
    The error that *error* comes from.

    A guard's refusal (DEGRADATION) stands for the error behind it: an exhausted
    retry of a wrong key is a wrong key.
    """
    seen: set[int] = set()
    while (
        error.__cause__ is not None
        and id(error) not in seen
        and classify_error(error).category is ErrorCategory.DEGRADATION
    ):
        seen.add(id(error))
        error = error.__cause__
    return error


def root_classification(error: BaseException) -> ErrorClassification:
    """Classify *error* by its root cause."""
    return classify_error(root_cause(error))


def http_status(error: BaseException) -> int | None:
    """The HTTP status that *error* came with: one of ours, or one with a ``response`` as httpx and requests have it."""
    status = error.details.get("status") if isinstance(error, PixelLMError) else None
    if status is None:
        with contextlib.suppress(Exception):  # somebody else's property may raise anything
            status = error.response.status_code  # type: ignore[attr-defined]  # if it has one
    return status if isinstance(status, int) else None


def get_recovery_suggestion(error: BaseException) -> str:
    """What a person can do about *error*, in one sentence."""
    return classify_error(error).suggestion


def is_retryable(error: BaseException) -> bool:
    """True if asking again may help."""
    return classify_error(error).retryable
