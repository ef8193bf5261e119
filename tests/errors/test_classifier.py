from __future__ import annotations

import asyncio
import concurrent.futures
import json
import socket
import ssl
from types import ModuleType, SimpleNamespace

import httpcore
import httpx
import httpx2
import pytest

import pixel_llm.errors as errors
from pixel_llm.errors import (
    APIError,
    CircuitBreakerOpen,
    ErrorCategory,
    ErrorClassification,
    ErrorClassifier,
    ErrorCode,
    PixelLMError,
    RetryExhausted,
    Severity,
    classify_error,
    default_classifier,
    get_recovery_suggestion,
    http_status,
    is_retryable,
    root_classification,
)

#: Exceptions of others, and the code that says what they are.
KNOWN: list[tuple[BaseException, str]] = [
    (ConnectionRefusedError(), "CONN_REFUSED"),
    (ConnectionResetError(), "CONN_LOST"),
    (ConnectionAbortedError(), "CONN_LOST"),
    (BrokenPipeError(), "CONN_LOST"),
    (ConnectionError(), "CONN_LOST"),
    (TimeoutError(), "TIMEOUT_REQUEST"),
    (asyncio.TimeoutError(), "TIMEOUT_REQUEST"),  # noqa: UP041 - older code raises it by this name
    (concurrent.futures.TimeoutError(), "TIMEOUT_REQUEST"),
    (socket.timeout(), "TIMEOUT_REQUEST"),  # noqa: UP041 - so did its libraries
    (socket.gaierror(), "CONN_UNAVAILABLE"),
    (ssl.SSLError(), "CONN_LOST"),
    (ssl.SSLCertVerificationError(), "CONN_UNAVAILABLE"),
    (json.JSONDecodeError("", "", 0), "API_INVALID_RESPONSE"),
    (httpcore.ConnectError(), "CONN_UNAVAILABLE"),
    (httpcore.ConnectTimeout(), "CONN_TIMEOUT"),
    (httpcore.ReadTimeout(), "TIMEOUT_RESPONSE"),
    (httpcore.ReadError(), "CONN_LOST"),
    (httpcore.RemoteProtocolError(), "CONN_LOST"),
]

#: What the exceptions of httpx and httpcore mean: they have the same names for the same things.
HTTP = {
    "CloseError": "CONN_LOST",
    "ConnectError": "CONN_UNAVAILABLE",
    "ConnectTimeout": "CONN_TIMEOUT",
    "ConnectionNotAvailable": "CONN_LOST",
    "CookieConflict": "API_BAD_REQUEST",
    "DecodingError": "API_INVALID_RESPONSE",
    "HTTPError": "CONN_LOST",
    "HTTPStatusError": "API_SERVER_ERROR",
    "InvalidURL": "VAL_INVALID_RANGE",
    "LocalProtocolError": "API_BAD_REQUEST",
    "NetworkError": "CONN_LOST",
    "PoolTimeout": "TIMEOUT_REQUEST",
    "ProtocolError": "CONN_LOST",
    "ProxyError": "CONN_UNAVAILABLE",
    "ReadError": "CONN_LOST",
    "ReadTimeout": "TIMEOUT_RESPONSE",
    "RemoteProtocolError": "CONN_LOST",
    "RequestError": "CONN_LOST",
    "RequestNotRead": "API_BAD_REQUEST",
    "ResponseNotRead": "API_BAD_REQUEST",
    "SSEError": "API_INVALID_RESPONSE",
    "StreamClosed": "API_BAD_REQUEST",
    "StreamConsumed": "API_BAD_REQUEST",
    "StreamError": "API_BAD_REQUEST",
    "TimeoutException": "TIMEOUT_RESPONSE",
    "TooManyRedirects": "API_INVALID_RESPONSE",
    "TransportError": "CONN_LOST",
    "UnsupportedProtocol": "VAL_INVALID_RANGE",
    "WriteError": "CONN_LOST",
    "WriteTimeout": "TIMEOUT_RESPONSE",
}


def exceptions_of(*modules: ModuleType) -> list[type[BaseException]]:
    """Every public exception of *modules* that is their own, each once."""
    found = []
    for module in modules:
        package = module.__name__.partition(".")[0]
        for name, cls in sorted(vars(module).items()):
            # torch.distributed.reduce_op warns when its class is asked for: isinstance() would.
            is_exception = issubclass(type(cls), type) and issubclass(cls, Exception) and not issubclass(cls, Warning)
            if is_exception and not name.startswith("_") and cls.__module__.partition(".")[0] == package:
                found.append(cls)
    return list(dict.fromkeys(found))


def name_of(cls: type[BaseException]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


class BillingError(Exception):
    """An exception of a user's."""


class LateBillingError(BillingError):
    """One below it."""


class QuotaError(APIError):
    """An exception of a user's below one of ours."""


@pytest.fixture
def classifier():
    return ErrorClassifier()


class TestOurs:
    @pytest.mark.parametrize("code", ErrorCode)
    def test_by_its_code(self, code):
        """
        An error of ours is what the table says of its code.
        """
        info = code.info
        expected = ErrorClassification(info.category, info.severity, info.retryable, code, info.suggestion)

        assert expected == classify_error(PixelLMError(error_code=code))

    def test_the_code_counts_not_the_built_in_parent(self):
        """
        A deadline that passed is a TimeoutError, and not retryable for all that.
        """
        error = errors.TimeoutError(error_code=ErrorCode.ERR_TIMEOUT_DEADLINE)

        assert "ERR_TIMEOUT_DEADLINE" == classify_error(error).error_code
        assert not is_retryable(error)


class TestOthers:
    @pytest.mark.parametrize(("error", "code"), KNOWN, ids=lambda value: getattr(type(value), "__name__", ""))
    def test_known(self, error, code):
        """
        Well-known exceptions of Python and of the HTTP stack have a code.
        """
        assert f"ERR_{code}" == classify_error(error).error_code

    @pytest.mark.parametrize("cls", exceptions_of(httpx, httpcore, httpx2), ids=name_of)
    def test_http(self, cls):
        """
        Each exception of httpx, httpcore and httpx2 has the code of what happened; a new one fails here.
        """
        assert f"ERR_{HTTP[cls.__name__]}" == classify_error(cls.__new__(cls)).error_code

    def test_no_name_is_left_over(self):
        """
        The table has no names that are none.
        """
        assert set(HTTP) == {cls.__name__ for cls in exceptions_of(httpx, httpcore, httpx2)}

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (301, "API_INVALID_RESPONSE"),
            (400, "API_BAD_REQUEST"),
            (401, "API_UNAUTHORIZED"),
            (403, "API_UNAUTHORIZED"),
            (408, "API_SERVER_ERROR"),
            (418, "API_BAD_REQUEST"),
            (429, "API_RATE_LIMIT"),
            (500, "API_SERVER_ERROR"),
            (503, "API_OVERLOAD"),
            (599, "API_SERVER_ERROR"),
        ],
    )
    def test_statuses(self, status, code):
        """
        What raise_for_status() raises has the code of its status.
        """
        with pytest.raises(httpx.HTTPStatusError) as caught:
            httpx.Response(status, request=httpx.Request("GET", "http://h")).raise_for_status()

        assert f"ERR_{code}" == classify_error(caught.value).error_code

    @pytest.mark.parametrize("cls", exceptions_of(ssl, json), ids=name_of)
    def test_ssl_and_json(self, cls):
        """
        A certificate that is not trusted stays so; all else of TLS is a connection that broke.
        """
        codes = {"SSLCertVerificationError": "CONN_UNAVAILABLE", "JSONDecodeError": "API_INVALID_RESPONSE"}

        assert f"ERR_{codes.get(cls.__name__, 'CONN_LOST')}" == classify_error(cls.__new__(cls)).error_code

    def test_torch(self):
        """
        Out of memory is that; all else that torch raises by a class of its own is a forward pass that failed. The
        classes are known by their names, without torch being imported for it.
        """
        torch = pytest.importorskip("torch")
        public = [name for name in vars(torch) if not name.startswith("_")]
        rooms = [room for name in public if isinstance(room := getattr(torch, name), ModuleType)]
        classes = exceptions_of(torch, *[room for room in rooms if room.__name__.startswith("torch")])
        codes = {cls: classify_error(cls.__new__(cls)).error_code for cls in classes}

        assert {torch.OutOfMemoryError, torch.AcceleratorError, torch.cuda.CudaError} <= set(codes)
        assert ErrorCode.ERR_ENC_OUT_OF_MEMORY is codes.pop(torch.OutOfMemoryError)
        assert {ErrorCode.ERR_ENC_FORWARD_FAILED} == set(codes.values())

    def test_subclass_of_a_known_one(self):
        """
        What derives from a known exception is one.
        """

        class PeerGoneError(ConnectionResetError):
            pass

        assert "ERR_CONN_LOST" == classify_error(PeerGoneError()).error_code

    def test_same_name_elsewhere(self):
        """
        Names count with their modules: another library's ConnectError is unknown.
        """
        other = type("ConnectError", (Exception,), {"__module__": "otherlib"})

        assert ErrorCategory.UNKNOWN == classify_error(other()).category

    @pytest.mark.parametrize(
        "error",
        [
            TypeError(), ValueError(), AttributeError(), NameError(), AssertionError(), NotImplementedError(),
            ImportError(), ModuleNotFoundError(), SyntaxError(), UnboundLocalError(),
            UnicodeDecodeError("utf-8", b"", 0, 1, ""),
        ],
        ids=lambda error: type(error).__name__,
    )  # fmt: skip
    def test_programming_errors(self, error):
        """
        A mistake in the program is permanent: neither retried nor papered over by a fallback.
        """
        classification = classify_error(error)

        assert (ErrorCategory.PERMANENT, Severity.HIGH) == (classification.category, classification.severity)
        assert (False, False, None) == (
            classification.can_retry(), classification.has_fallback(), classification.error_code
        )  # fmt: skip

    @pytest.mark.parametrize(
        "error", [Exception(), RuntimeError(), OSError(), BillingError()], ids=lambda error: type(error).__name__
    )
    def test_unknown(self, error):
        """
        Anything else is unknown: not retried by itself, and a fallback may serve.
        """
        classification = classify_error(error)

        assert (ErrorCategory.UNKNOWN, None) == (classification.category, classification.error_code)
        assert (False, True, False) == (
            classification.can_retry(), classification.has_fallback(), classification.is_critical()
        )  # fmt: skip

    def test_the_cause_is_not_looked_at(self):
        """
        An error is classified by what it is itself.
        """
        error = BillingError()
        error.__cause__ = ConnectionRefusedError()

        assert ErrorCategory.UNKNOWN == classify_error(error).category


class TestClassification:
    @pytest.mark.parametrize("category", ErrorCategory)
    def test_has_fallback(self, category):
        """
        A fallback may stand in for every category but PERMANENT.
        """
        classification = ErrorClassification(category, Severity.LOW, False, None, "")

        assert (category != ErrorCategory.PERMANENT) == classification.has_fallback()

    @pytest.mark.parametrize("severity", Severity)
    def test_is_critical(self, severity):
        """
        Only CRITICAL is critical.
        """
        classification = ErrorClassification(ErrorCategory.UNKNOWN, severity, False, None, "")

        assert (severity == Severity.CRITICAL) == classification.is_critical()


class TestRegister:
    @pytest.mark.parametrize("category", ErrorCategory)
    def test_retryable_by_category(self, classifier, category):
        """
        Unless it is said, TRANSIENT and THROTTLED are retryable and the rest is not.
        """
        classifier.register(BillingError, category)
        expected = ErrorClassification(category, Severity.MEDIUM, category in ("TRANSIENT", "THROTTLED"), None, "")

        assert expected == classifier.classify(BillingError())

    def test_everything_said(self, classifier):
        """
        Severity, retryability and suggestion can be given.
        """
        classifier.register(
            BillingError, ErrorCategory.UNKNOWN, severity=Severity.CRITICAL, retryable=True, suggestion="pay"
        )
        expected = ErrorClassification(ErrorCategory.UNKNOWN, Severity.CRITICAL, True, None, "pay")

        assert expected == classifier.classify(BillingError())

    def test_includes_subclasses(self, classifier):
        """
        A subclass counts as its nearest registered parent, in whatever order they came.
        """
        classifier.register(LateBillingError, ErrorCategory.TRANSIENT)
        classifier.register(BillingError, ErrorCategory.PERMANENT)

        class VeryLateBillingError(LateBillingError):
            pass

        assert ErrorCategory.TRANSIENT == classifier.classify(VeryLateBillingError()).category
        assert ErrorCategory.PERMANENT == classifier.classify(BillingError()).category

    def test_comes_before_what_is_known(self, classifier):
        """
        A registered type counts before the built-in knowledge.
        """
        classifier.register(OSError, ErrorCategory.PERMANENT)

        assert ErrorCategory.PERMANENT == classifier.classify(ConnectionRefusedError()).category

    def test_one_of_ours_keeps_its_code(self, classifier):
        """
        Registering an exception below ours changes what is done about it, not what it is.
        """
        classifier.register(QuotaError, ErrorCategory.PERMANENT, suggestion="buy more")
        classification = classifier.classify(QuotaError(error_code=ErrorCode.ERR_API_RATE_LIMIT))

        assert (ErrorCategory.PERMANENT, "ERR_API_RATE_LIMIT", "buy more") == (
            classification.category, classification.error_code, classification.suggestion
        )  # fmt: skip
        assert (
            ErrorCategory.THROTTLED == classifier.classify(APIError(error_code=ErrorCode.ERR_API_RATE_LIMIT)).category
        )

    def test_stays_with_its_classifier(self, classifier):
        """
        What one classifier is told, the others do not know.
        """
        classifier.register(BillingError, ErrorCategory.TRANSIENT)

        assert ErrorCategory.UNKNOWN == default_classifier.classify(BillingError()).category


class TestRootClassification:
    def test_of_a_refusal(self):
        """
        A guard's refusal stands for the error behind it, through several guards.
        """
        outer, inner = CircuitBreakerOpen(), RetryExhausted()
        outer.__cause__, inner.__cause__ = inner, APIError(error_code=ErrorCode.ERR_API_UNAUTHORIZED)

        assert "ERR_API_UNAUTHORIZED" == root_classification(outer).error_code

    def test_of_a_refusal_without_a_cause(self):
        """
        Where nothing is behind it, a refusal is itself.
        """
        assert "ERR_CB_OPEN" == root_classification(CircuitBreakerOpen()).error_code

    def test_of_any_other_error(self):
        """
        An error that is no refusal is its own root, whatever caused it.
        """
        error = errors.ConnectionError()
        error.__cause__ = APIError(error_code=ErrorCode.ERR_API_UNAUTHORIZED)

        assert "ERR_CONN_LOST" == root_classification(error).error_code

    def test_of_a_foreign_cause(self):
        """
        The root may be an exception of somebody else's.
        """
        error = CircuitBreakerOpen()
        error.__cause__ = ConnectionRefusedError()

        assert "ERR_CONN_REFUSED" == root_classification(error).error_code

    def test_of_a_circle(self):
        """
        Causes that lead back to where they began come to an end.
        """
        one, other = CircuitBreakerOpen(), RetryExhausted()
        one.__cause__, other.__cause__ = other, one

        assert ErrorCategory.DEGRADATION == root_classification(one).category


class TestHttpStatus:
    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (APIError("no", details={"status": 503}), 503),
            (APIError("no"), None),
            (APIError("no", details={"status": "503"}), None),
            (KeyError("no"), None),
            (httpx.HTTPStatusError("no", request=httpx.Request("GET", "http://x"), response=httpx.Response(429)), 429),
            (httpx.ReadTimeout("no"), None),
        ],
        ids=repr,
    )
    def test_of_ours_and_of_others(self, error, status):
        """
        Ours keep the status in their details, others in their response.
        """
        assert status == http_status(error)

    def test_of_ours_with_a_response(self):
        """
        An error of ours may have a response as others do; its details come first.
        """

        class ResponseError(APIError):
            response = httpx.Response(500)

        assert 500 == http_status(ResponseError("no"))
        assert 503 == http_status(ResponseError("no", details={"status": 503}))

    @pytest.mark.parametrize("status", ["503", None, 503.0, b"503"])
    def test_that_is_no_number(self, status):
        """
        What is no whole number is no status.
        """
        error = KeyError("no")
        error.response = SimpleNamespace(status_code=status)

        assert http_status(error) is None

    def test_that_can_not_be_looked_at(self):
        """
        Somebody else's property may raise what it likes.
        """

        class ShyError(Exception):
            @property
            def response(self):
                raise RuntimeError("not yet")

        assert http_status(ShyError()) is None


class TestConveniences:
    def test_get_recovery_suggestion(self):
        """
        The suggestion of the table is one call away.
        """
        assert ErrorCode.ERR_CB_OPEN.info.suggestion == get_recovery_suggestion(CircuitBreakerOpen())

    def test_is_retryable(self):
        """
        So is whether asking again may help.
        """
        assert is_retryable(ConnectionRefusedError())
        assert not is_retryable(ValueError())
