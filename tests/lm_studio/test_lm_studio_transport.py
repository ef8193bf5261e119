from __future__ import annotations

import socket
import threading
import time

import pytest

from pixel_llm.errors import ErrorCode, PixelLMError
from pixel_llm.lm_studio import LMStudioClient
from pixel_llm.lm_studio.limited_sockets import Window
from pixel_llm.lm_studio.transport import LimitedAsyncTransport, LimitedTransport
from pixel_llm.testing import VirtualClock

LIMIT = 0.2
#: How late an attempt may end, in seconds.
TOLERANCE = 0.3
#: More than the buffers of both ends hold.
BIG = "x" * 12_000_000


def drip(raw, content: bytes):
    def handler(connection: socket.socket) -> None:
        raw.read_request(connection)
        for byte in content:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)

    return handler


def failure_of(world, client, **request) -> tuple[ErrorCode, float]:
    """The code that a chat fails with, and how long that took."""
    started = time.monotonic()
    with pytest.raises(PixelLMError) as caught:
        world.chat(client, **request)
    return caught.value.error_code, time.monotonic() - started


class TestLimits:
    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(b"HTTP/1.1 200 OK\r\nX-Patience: " + b"x" * 1000, id="headers"),
            pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, id="interim answers"),
        ],
    )
    def test_dripped_headers_end_at_the_limit(self, content, world, serve, raw, limited):
        """
        A server that drips headers answers every read in time; the attempt ends all the same.
        """
        server = serve(drip(raw, content))

        with limited(within=LIMIT):
            code, elapsed = failure_of(world, LMStudioClient(server.address))

        assert ErrorCode.ERR_TIMEOUT_RESPONSE == code
        assert LIMIT / 2 < elapsed < LIMIT + TOLERANCE

    def test_a_dripped_body_ends_at_the_limit(self, world, serve, raw, limited):
        """
        A server that drips its body cannot outlive the attempt.
        """

        def handler(connection):
            raw.read_request(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(1000):
                connection.sendall(b" ")
                time.sleep(0.02)

        server = serve(handler)

        with limited(within=LIMIT):
            code, elapsed = failure_of(world, LMStudioClient(server.address))

        assert ErrorCode.ERR_TIMEOUT_RESPONSE == code
        assert LIMIT / 2 < elapsed < LIMIT + TOLERANCE

    def test_a_request_that_nobody_takes_ends_at_the_limit(self, world, serve, raw, limited):
        """
        A server that stops reading in the middle of a picture cannot hold the caller.
        """
        done = threading.Event()
        server = serve(lambda connection: done.wait(5))

        with limited(within=0.5):
            code, elapsed = failure_of(world, LMStudioClient(server.address), prompt=BIG)
        done.set()

        assert ErrorCode.ERR_TIMEOUT_RESPONSE == code
        assert elapsed < 0.5 + TOLERANCE

    def test_a_dripped_request_is_not_given_time_for_each_piece(self, world, serve, raw, limited):
        """
        A server that takes a large request in small sips cannot outlive the attempt.
        """

        def handler(connection):
            while connection.recv(20_000):
                time.sleep(0.02)

        server = serve(handler)

        with limited(within=0.5):
            code, elapsed = failure_of(world, LMStudioClient(server.address), prompt=BIG)

        assert ErrorCode.ERR_TIMEOUT_RESPONSE == code
        assert elapsed < 0.5 + TOLERANCE

    def test_a_silent_tls_handshake_ends_with_the_time_to_connect(self, world, serve, raw, limited):
        """
        TCP and TLS share the time to connect.
        """
        server = serve(raw.hang)

        with limited(connect=LIMIT):
            code, elapsed = failure_of(world, LMStudioClient(server.address.replace("http:", "https:")))

        assert ErrorCode.ERR_CONN_TIMEOUT == code
        assert LIMIT / 2 < elapsed < LIMIT + TOLERANCE

    def test_a_slow_answer_is_no_slow_connection(self, world, serve, raw, limited):
        """
        The time to connect ends when the connection stands.
        """

        def handler(connection):
            raw.read_request(connection)
            time.sleep(0.1)
            connection.sendall(raw.http(raw.CHAT))

        server = serve(handler)

        with limited(connect=0.05):
            reply = world.chat(LMStudioClient(server.address))

        assert "A cat." == reply.text

    def test_a_deadline_that_has_passed_sends_nothing(self, world, serve, raw, limited):
        """
        Without time left no connection is opened, and the deadline is to blame.
        """
        server = serve(raw.reply_with(raw.http(raw.CHAT)))

        with limited(deadline=time.monotonic() - 1):
            code, _ = failure_of(world, LMStudioClient(server.address))

        assert (ErrorCode.ERR_TIMEOUT_DEADLINE, 0) == (code, server.accepted)

    def test_an_attempt_may_be_longer_than_the_clients_own_timeout(self, world, serve, raw, limited):
        """
        The client's timeout holds only where nobody set limits.
        """

        def handler(connection):
            raw.read_request(connection)
            time.sleep(0.15)
            connection.sendall(raw.http(raw.CHAT))

        server = serve(handler)

        with limited(within=5.0):
            reply = world.chat(LMStudioClient(server.address, timeout=0.05))

        assert "A cat." == reply.text

    def test_without_limits_the_clients_timeout_holds(self, world, serve, raw):
        """
        Outside of a policy no call hangs for ever either.
        """
        server = serve(raw.hang)

        code, elapsed = failure_of(world, LMStudioClient(server.address, timeout=0.1))

        assert ErrorCode.ERR_TIMEOUT_RESPONSE == code
        assert elapsed < 0.1 + TOLERANCE


class TestVirtualClock:
    def test_moving_the_clock_ends_a_hanging_read(self, world, serve, raw, limited):
        """
        30 s of silence pass as soon as the test moves its clock.
        """
        clock = VirtualClock()

        def handler(connection):
            raw.read_request(connection)
            clock.advance(30)
            raw.hang(connection)

        server = serve(handler)

        with limited(clock=clock, deadline=clock.monotonic() + 30):
            code, elapsed = failure_of(world, LMStudioClient(server.address))

        assert ErrorCode.ERR_TIMEOUT_DEADLINE == code
        assert elapsed < TOLERANCE

    def test_moving_the_clock_ends_a_hanging_write(self, world, serve, raw, limited):
        """
        The same holds for a request that the server stops taking.
        """
        clock = VirtualClock()

        def handler(connection):
            connection.recv(1000)
            clock.advance(30)
            done.wait(5)

        done = threading.Event()
        server = serve(handler)

        with limited(clock=clock, attempt_ends=clock.monotonic() + 30):
            code, elapsed = failure_of(world, LMStudioClient(server.address), prompt=BIG)
        done.set()

        assert ErrorCode.ERR_TIMEOUT_RESPONSE == code
        assert elapsed < TOLERANCE + 0.2

    def test_a_clock_that_stands_still_cuts_nothing(self, world, serve, raw, limited):
        """
        Real time does not count: a large request and a late answer go through, each byte once.
        """
        clock = VirtualClock()
        received = []

        def handler(connection):
            time.sleep(0.05)
            received.append(raw.read_request(connection))
            time.sleep(0.05)
            connection.sendall(raw.http(raw.CHAT))

        server = serve(handler)

        with limited(clock=clock, attempt_ends=clock.monotonic() + 0.001):
            reply = world.chat(LMStudioClient(server.address), prompt="x" * 5_000_000)

        assert "A cat." == reply.text
        assert 5_000_000 == received[0].count(b"x" * 1000) * 1000


class TestWindow:
    def test_the_nearest_moment_counts(self, limited):
        """
        Attempt, deadline, httpx's timeout and the time to connect: whichever ends first.
        """
        clock = VirtualClock(start=100.0)

        with limited(clock=clock, deadline=120.0, attempt_ends=110.0, connect=3.0):
            moments = [
                Window.open(None).ends,
                Window.open(5.0).ends,
                Window.open(50.0).ends,
                Window.open(None, connecting=True).ends,
                Window.open(None, ends=101.0).ends,
            ]

        assert [110.0, 105.0, 110.0, 103.0, 101.0] == moments

    def test_no_limit_is_a_wait_that_the_system_can_take(self):
        """
        Without any limit a wait is long, not infinite, which sockets refuse.
        """
        assert 86_400.0 == Window.open(None).patience()


class TestConnecting:
    def test_all_addresses_of_a_name_share_the_time(self, monkeypatch, limited):
        """
        A name with many dead addresses takes no longer than one.
        """
        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(4):  # a full queue: the kernel drops what comes next, so connecting hangs
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))] * 5
        lookup = socket.getaddrinfo
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *args, **more: found if host == "many.test" else lookup(host, *args, **more),
        )
        client = LMStudioClient(f"http://many.test:{port}")

        started = time.monotonic()
        with limited(connect=0.2), client, pytest.raises(PixelLMError) as caught:
            client.models()
        elapsed = time.monotonic() - started
        for sock in (listener, *fillers):
            sock.close()

        assert ErrorCode.ERR_CONN_TIMEOUT == caught.value.error_code
        assert 0.1 < elapsed < 0.2 + TOLERANCE

    def test_the_next_address_is_tried(self, monkeypatch, serve, raw):
        """
        A name whose first address refuses is reached at its second.
        """
        server = serve(raw.reply_with(raw.http({"data": []})))
        lookup = socket.getaddrinfo
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *args, **more: (
                lookup(host if host != "two.test" else "127.0.0.2", *args, **more)
                + (lookup("127.0.0.1", *args, **more) if host == "two.test" else [])
            ),
        )

        with LMStudioClient(f"http://two.test:{server.port}") as client:
            models = client.models()

        assert () == models.ids

    def test_a_name_that_cannot_be_is_an_unreachable_server(self, world):
        """
        A label of more than 63 letters makes Python's resolver raise a UnicodeError.
        """
        code, _ = failure_of(world, LMStudioClient(f"http://{'x' * 70}.test"))

        assert ErrorCode.ERR_CONN_UNAVAILABLE == code


class TestConstruction:
    @pytest.mark.parametrize("transport_type", [LimitedTransport, LimitedAsyncTransport])
    def test_another_httpx_is_noticed_at_start_up(self, transport_type, monkeypatch):
        """
        If httpx moves its connection pool, construction fails: limits that do nothing would be worse.
        """
        monkeypatch.setattr(transport_type.__base__, "__init__", lambda self, **options: None)

        with pytest.raises(RuntimeError, match="keeps its connection pool elsewhere"):
            transport_type(verify=False)
