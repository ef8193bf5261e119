from __future__ import annotations

import errno
import socket
import ssl
import time

import httpcore
import httpx
import pytest

from pixel_llm.errors import APIError, ConnectionError, ErrorCode, PixelLMError, TimeoutError, ValidationError
from pixel_llm.lm_studio import LMStudioClient
from pixel_llm.lm_studio.translation import TRANSLATED, translate
from pixel_llm.testing import Garbage, Reset, ScriptedLMStudio, Truncated

ADDRESS = "http://127.0.0.1:1234"

#: Every public exception of httpx and httpcore, and what it becomes.
EXPECTED = {
    "CloseError": ErrorCode.ERR_CONN_LOST,
    "ConnectError": ErrorCode.ERR_CONN_UNAVAILABLE,
    "ConnectTimeout": ErrorCode.ERR_CONN_TIMEOUT,
    "ConnectionNotAvailable": ErrorCode.ERR_CONN_LOST,
    "CookieConflict": ErrorCode.ERR_API_INVALID_RESPONSE,
    "DecodingError": ErrorCode.ERR_API_INVALID_RESPONSE,
    "HTTPError": ErrorCode.ERR_CONN_LOST,
    "HTTPStatusError": ErrorCode.ERR_API_INVALID_RESPONSE,
    "InvalidURL": ErrorCode.ERR_VAL_INVALID_RANGE,
    "LocalProtocolError": ErrorCode.ERR_API_BAD_REQUEST,
    "NetworkError": ErrorCode.ERR_CONN_LOST,
    "PoolTimeout": ErrorCode.ERR_TIMEOUT_REQUEST,
    "ProtocolError": ErrorCode.ERR_CONN_LOST,
    "ProxyError": ErrorCode.ERR_CONN_UNAVAILABLE,
    "ReadError": ErrorCode.ERR_CONN_LOST,
    "ReadTimeout": ErrorCode.ERR_TIMEOUT_RESPONSE,
    "RemoteProtocolError": ErrorCode.ERR_CONN_LOST,
    "RequestError": ErrorCode.ERR_CONN_LOST,
    "RequestNotRead": ErrorCode.ERR_CONN_LOST,
    "ResponseNotRead": ErrorCode.ERR_CONN_LOST,
    "StreamClosed": ErrorCode.ERR_CONN_LOST,
    "StreamConsumed": ErrorCode.ERR_CONN_LOST,
    "StreamError": ErrorCode.ERR_CONN_LOST,
    "TimeoutException": ErrorCode.ERR_TIMEOUT_RESPONSE,
    "TooManyRedirects": ErrorCode.ERR_API_INVALID_RESPONSE,
    "TransportError": ErrorCode.ERR_CONN_LOST,
    "UnsupportedProtocol": ErrorCode.ERR_VAL_INVALID_RANGE,
    "WriteError": ErrorCode.ERR_CONN_LOST,
    "WriteTimeout": ErrorCode.ERR_TIMEOUT_RESPONSE,
}

EXCEPTIONS = [
    thing
    for module in (httpx, httpcore)
    for thing in vars(module).values()
    if isinstance(thing, type) and issubclass(thing, BaseException)
]
CLASSES = {
    ErrorCode.ERR_CONN_LOST: ConnectionError,
    ErrorCode.ERR_CONN_UNAVAILABLE: ConnectionError,
    ErrorCode.ERR_CONN_TIMEOUT: TimeoutError,
    ErrorCode.ERR_TIMEOUT_REQUEST: TimeoutError,
    ErrorCode.ERR_TIMEOUT_RESPONSE: TimeoutError,
    ErrorCode.ERR_VAL_INVALID_RANGE: ValidationError,
}


def make(exception_type: type[BaseException]) -> Exception:
    """An instance without arguments: some take a request, others refuse any."""
    error = exception_type.__new__(exception_type)
    assert isinstance(error, Exception)
    return error


class TestEveryException:
    @pytest.mark.parametrize("exception_type", EXCEPTIONS, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
    def test_has_a_translation(self, exception_type):
        """
        A class that httpx or httpcore adds fails here until somebody says what it means.
        """
        error = translate(make(exception_type), ADDRESS)
        code = EXPECTED[exception_type.__name__]

        assert (code, CLASSES.get(code, APIError)) == (error.error_code, type(error))

    @pytest.mark.parametrize("exception_type", EXCEPTIONS, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
    def test_is_caught(self, exception_type):
        """
        What has a translation gets it: the except clause names its class or a base of it.
        """
        assert issubclass(exception_type, TRANSLATED)

    def test_all_are_looked_at(self):
        """
        The walk sees both packages.
        """
        assert set(EXPECTED) == {cls.__name__ for cls in EXCEPTIONS}

    @pytest.mark.parametrize(
        "exception_type", [cls for cls in EXCEPTIONS if EXPECTED[cls.__name__].info.family == "TIMEOUT"]
    )
    def test_a_timeout_after_the_deadline_is_the_deadlines(self, exception_type, limited):
        """
        Whatever was being waited for: when the deadline has passed, it is to blame.
        """
        with limited(deadline=time.monotonic() - 1):
            error = translate(make(exception_type), ADDRESS)

        assert ErrorCode.ERR_TIMEOUT_DEADLINE == error.error_code

    def test_a_lost_connection_after_the_deadline_stays_a_lost_connection(self, limited):
        """
        Only timeouts are the deadline's.
        """
        with limited(deadline=time.monotonic() - 1):
            error = translate(httpx.ReadError("gone"), ADDRESS)

        assert ErrorCode.ERR_CONN_LOST == error.error_code


class TestConnectError:
    @pytest.mark.parametrize(
        ("cause", "code"),
        [
            (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), ErrorCode.ERR_CONN_REFUSED),
            (
                ExceptionGroup("all", [OSError(errno.ENETUNREACH, "no"), OSError(errno.ECONNREFUSED, "refused")]),
                ErrorCode.ERR_CONN_REFUSED,
            ),
            (OSError(errno.EHOSTUNREACH, "No route to host"), ErrorCode.ERR_CONN_UNAVAILABLE),
            (socket.gaierror(-2, "Name or service not known"), ErrorCode.ERR_CONN_UNAVAILABLE),
            (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), ErrorCode.ERR_CONN_UNAVAILABLE),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
    )
    def test_is_refused_only_if_a_cause_says_so(self, cause, code):
        """
        The operating system's word counts, however deep it is buried.
        """
        outer = httpx.ConnectError("All connection attempts failed")
        outer.__cause__ = OSError("All connection attempts failed")
        outer.__cause__.__cause__ = cause

        assert code == translate(outer, ADDRESS).error_code

    def test_the_error_of_an_attempt_before_does_not_count(self):
        """
        A second attempt is made while the first one's error is being handled; that is no cause.
        """
        error = httpx.ConnectError("no route")
        error.__context__ = ConnectionRefusedError(errno.ECONNREFUSED, "refused")

        assert ErrorCode.ERR_CONN_UNAVAILABLE == translate(error, ADDRESS).error_code

    def test_a_refused_connection(self, world):
        """
        The message says what to do, the details where, and the cause is httpcore's.
        """
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

        with pytest.raises(ConnectionError) as caught:
            world.chat(LMStudioClient(f"http://user:hunter2hunter2@127.0.0.1:{port}/v1"))

        error = caught.value
        assert (
            f"cannot connect to http://127.0.0.1:{port}: connection refused;"
            " start LM Studio's server (Developer page, or lms server start)"
        ) == str(error)
        assert ErrorCode.ERR_CONN_REFUSED == error.error_code
        assert {"url": f"http://127.0.0.1:{port}"} == error.details
        assert isinstance(error.__cause__, httpcore.ConnectError)

    def test_an_unknown_name_says_so(self, world, monkeypatch):
        """
        Without noise such as error numbers.
        """

        def no_such_name(*args, **more):
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", no_such_name)

        with pytest.raises(ConnectionError) as caught:
            world.chat(LMStudioClient("http://nowhere.test/v1"))

        assert "cannot connect to http://nowhere.test: Name or service not known" == str(caught.value)

    def test_a_server_without_tls(self, world, serve, raw):
        """
        https to a plain http server is told from one that is down.
        """
        server = serve(raw.reply_with(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        plain = serve(lambda connection: connection.recv(1000) and connection.sendall(b"HTTP/1.1 400 Bad\r\n\r\n"))

        with pytest.raises(ConnectionError) as caught:
            world.chat(LMStudioClient(plain.address.replace("http:", "https:")))

        assert ErrorCode.ERR_CONN_UNAVAILABLE == caught.value.error_code
        assert 0 == server.accepted


class TestBrokenAnswers:
    @pytest.mark.parametrize(
        ("step", "code"),
        [
            (Reset(when="before"), ErrorCode.ERR_CONN_LOST),
            (Reset(when="body"), ErrorCode.ERR_CONN_LOST),
            (Truncated(part="body"), ErrorCode.ERR_CONN_LOST),
            (Garbage(kind="http"), ErrorCode.ERR_API_INVALID_RESPONSE),
        ],
        ids=str,
    )
    def test_what_breaks_is_told_from_what_is_not_http(self, step, code, world):
        """
        A connection that breaks may hold next time; a server that speaks no HTTP is the wrong one.
        """
        with ScriptedLMStudio(script=[step]) as server, pytest.raises(PixelLMError) as caught:
            world.chat(LMStudioClient(server.base_url))

        assert code == caught.value.error_code

    @pytest.mark.parametrize(
        ("answer", "code"),
        [
            (b"", ErrorCode.ERR_CONN_LOST),
            (b"HTTP/1.1 200 OK\r\nContent-Le", ErrorCode.ERR_CONN_LOST),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", ErrorCode.ERR_CONN_LOST),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ErrorCode.ERR_API_INVALID_RESPONSE),
            (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", ErrorCode.ERR_API_INVALID_RESPONSE),
            (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, ErrorCode.ERR_API_INVALID_RESPONSE),
            (
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
                ErrorCode.ERR_API_INVALID_RESPONSE,
            ),
        ],
        ids=["nothing", "half a head", "half a chunk", "no chunk", "another protocol", "endless head", "no gzip"],
    )
    def test_bytes(self, answer, code, world, serve, raw):
        """
        The same holds for servers that break off anywhere.
        """
        server = serve(raw.reply_with(answer))

        with pytest.raises(PixelLMError) as caught:
            world.chat(LMStudioClient(server.address))

        assert code == caught.value.error_code
