"""Proxies and certificates of the environment, over real sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from pathlib import Path

import httpx
import pytest

from pixel_llm.errors import APIError, ConnectionError, ErrorCode, PixelLMError, ValidationError
from pixel_llm.lm_studio import ChatRequest, LMStudioClient
from pixel_llm.lm_studio.proxies import environment_proxy

TLS = Path(__file__).parent / "tls"
#: A name that leads nowhere: only a proxy gets there.
SERVER = "http://lm.test:1234/v1"
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def secure(serve, raw):
    """Starts a server with TLS, whose handler gets the connection once the handshake is done."""

    def start(handler):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")

        def wrapped(connection):
            with contextlib.suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as encrypted:
                handler(encrypted)

        return serve(wrapped)

    return start


def tunnel(raw, port, seen):
    """A proxy that connects every CONNECT to *port*."""

    def handler(connection):
        seen.append(raw.read_request(connection))
        with socket.create_connection(("127.0.0.1", port)) as server:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=pump, args=(server, connection))
            back.start()
            pump(connection, server)
            back.join()

    return handler


def pump(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def refuse():
    """The address of a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


class TestCertificates:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    def test_one_that_the_environment_trusts(self, host, world, secure, raw, monkeypatch):
        """
        $SSL_CERT_FILE names it, as for httpx.
        """
        monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "certificate.pem"))
        server = secure(raw.reply_with(raw.http(raw.CHAT)))

        assert "A cat." == world.chat(LMStudioClient(f"https://{host}:{server.port}", api_key="lm-key")).text

    def test_one_that_nobody_trusts(self, world, secure, raw):
        """
        The key is not sent, and the message says why.
        """
        requests = []
        server = secure(lambda connection: requests.append(connection.recv(1)))

        with pytest.raises(ConnectionError, match="certificate verify failed") as caught:
            world.chat(LMStudioClient(f"https://127.0.0.1:{server.port}", api_key="lm-key"))

        assert ErrorCode.ERR_CONN_UNAVAILABLE is caught.value.error_code
        assert requests in ([], [b""])

    def test_one_for_another_host(self, world, serve, secure, raw, monkeypatch):
        """
        The name is checked, too.
        """
        inside = secure(raw.reply_with(raw.http(raw.CHAT)))
        monkeypatch.setenv("HTTPS_PROXY", serve(tunnel(raw, inside.port, [])).address)
        monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "certificate.pem"))

        with pytest.raises(ConnectionError, match="certificate verify failed: Hostname mismatch"):
            world.chat(LMStudioClient("https://other.test"))


class TestProxies:
    @pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
    def test_plain_http(self, variable, world, serve, raw, monkeypatch):
        """
        The proxy gets the whole URL.
        """
        requests = []

        def handler(connection):
            requests.append(raw.read_request(connection))
            connection.sendall(raw.http(raw.CHAT))

        monkeypatch.setenv(variable, f"http://user:hunter2@127.0.0.1:{serve(handler).port}")
        reply = world.chat(LMStudioClient(SERVER))

        assert "A cat." == reply.text
        assert requests[0].startswith(b"POST http://lm.test:1234/v1/chat/completions HTTP/1.1\r\n")
        assert b"Proxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n" in requests[0]
        assert b"Host: lm.test:1234\r\n" in requests[0]

    def test_streams(self, serve, raw, monkeypatch):
        """
        They go the same way.
        """
        event = b'data: {"choices": [{"delta": {"content": "A cat."}}]}\n\ndata: [DONE]\n\n'
        server = serve(raw.reply_with(raw.http(event, kind="text/event-stream")))
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{server.port}")

        with LMStudioClient(SERVER) as client:
            chunks = list(client.stream(ChatRequest(model="m", prompt="p")))

        assert ["A cat.", ""] == [chunk.text for chunk in chunks]

    def test_https(self, world, serve, secure, raw, monkeypatch):
        """
        A tunnel, through which the proxy sees neither key nor picture; the server's certificate is checked in it.
        """
        seen: list[bytes] = []
        inside = secure(raw.reply_with(raw.http(raw.CHAT)))
        proxy = serve(tunnel(raw, inside.port, seen))
        monkeypatch.setenv("HTTPS_PROXY", proxy.address)
        monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "certificate.pem"))

        reply = world.chat(LMStudioClient("https://lm.test:1234/v1", api_key="lm-key"))

        assert "A cat." == reply.text
        assert seen[0].startswith(b"CONNECT lm.test:1234 HTTP/1.1\r\n")
        assert b"lm-key" not in seen[0]

    @pytest.mark.parametrize("address", ["http://127.0.0.1:{}/v1", "http://localhost:{}/v1"])
    def test_this_machine_is_asked_directly(self, address, world, serve, raw, monkeypatch):
        """
        No proxy leads back to the loopback.
        """
        monkeypatch.setenv("HTTP_PROXY", f"http://{refuse()}")
        server = serve(raw.reply_with(raw.http(raw.CHAT)))

        assert "A cat." == world.chat(LMStudioClient(address.format(server.port))).text

    def test_the_environment_need_not_be_trusted(self, world, serve, raw, monkeypatch):
        """
        ``trust_env=False`` leaves its proxies alone.
        """
        proxy = serve(raw.reply_with(raw.http(raw.CHAT)))
        monkeypatch.setenv("HTTP_PROXY", proxy.address)

        with pytest.raises(ConnectionError):
            world.chat(LMStudioClient("http://127.255.255.254.nip.invalid:1", trust_env=False))
        assert 0 == proxy.accepted

    @pytest.mark.parametrize("server", [SERVER, "https://lm.test"])
    def test_a_proxy_that_refuses(self, server, world, monkeypatch):
        """
        It is named, without its password.
        """
        address = refuse()
        monkeypatch.setenv("ALL_PROXY", f"http://user:hunter2@{address}")

        with pytest.raises(ConnectionError) as caught:
            world.chat(LMStudioClient(server))

        where = server.removesuffix("/v1")
        assert (
            f"cannot connect to {where}: the proxy http://{address} refuses connections;"
            " start it, or name the server in $NO_PROXY"
        ) == str(caught.value)
        assert ErrorCode.ERR_CONN_REFUSED is caught.value.error_code

    def test_a_proxy_that_wants_a_password(self, world, serve, raw, monkeypatch):
        """
        Its answer is told.
        """
        server = serve(raw.reply_with(raw.http(b"", "407 Proxy Authentication Required")))
        monkeypatch.setenv("HTTPS_PROXY", server.address)

        with pytest.raises(ConnectionError, match="407 Proxy Authentication Required") as caught:
            world.chat(LMStudioClient("https://lm.test"))

        assert ErrorCode.ERR_CONN_UNAVAILABLE is caught.value.error_code
        assert f"through the proxy {server.address}" in str(caught.value)

    @pytest.mark.parametrize("server", [SERVER, "https://lm.test"])
    @pytest.mark.parametrize("drips", [False, True])
    def test_a_proxy_that_says_nothing(self, server, drips, world, serve, raw, monkeypatch, limited):
        """
        The deadline reaches its sockets, those of the tunnel's beginning included.
        """

        def drip(connection):
            raw.read_request(connection)
            for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000:
                connection.sendall(bytes([byte]))
                time.sleep(0.02)

        monkeypatch.setenv("ALL_PROXY", serve(drip if drips else raw.hang).address)
        started = time.monotonic()

        with limited(deadline=started + 0.3), pytest.raises(PixelLMError) as caught:
            world.chat(LMStudioClient(server))

        assert ErrorCode.ERR_TIMEOUT_DEADLINE is caught.value.error_code
        assert time.monotonic() - started < 0.9

    def test_a_tunnel_to_nowhere(self, world, serve, raw, monkeypatch, limited):
        """
        A silent handshake inside it ends with the time to connect.
        """

        def handler(connection):
            raw.read_request(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            raw.hang(connection)

        monkeypatch.setenv("HTTPS_PROXY", serve(handler).address)
        started = time.monotonic()

        with limited(connect=0.3), pytest.raises(PixelLMError) as caught:
            world.chat(LMStudioClient("https://lm.test"))

        assert ErrorCode.ERR_CONN_TIMEOUT is caught.value.error_code
        assert time.monotonic() - started < 0.9

    def test_redirects_of_a_proxy_are_not_followed(self, world, serve, raw, monkeypatch):
        """
        The key goes to nobody else.
        """
        other = serve(raw.reply_with(raw.http(raw.CHAT)))
        proxy = serve(raw.reply_with(raw.http(b"", "302 Found", f"Location: {other.address}")))
        monkeypatch.setenv("HTTP_PROXY", proxy.address)

        with pytest.raises(APIError):
            world.chat(LMStudioClient(SERVER, api_key="lm-key"))

        assert 0 == other.accepted


class TestChoice:
    @pytest.mark.parametrize(
        "no_proxy",
        [
            "",
            "*",
            "lm.test",
            ".lm.test",
            "test",
            "other.test, lm.test",
            "lm.test:1234",
            "lm.test:1235",
            "http://lm.test",
            "https://lm.test",
            "http://lm.test:1234",
            "all://lm.test",
            "10.1.2.3",
            "10.1.2.3:1234",
            "2001:db8::1",
            "localhost",
            "LM.test",
            ",,",
            "x y",
            "http://[x",
        ],
    )
    @pytest.mark.parametrize(
        "url",
        [
            "http://lm.test:1234/v1",
            "http://a.lm.test:1234/v1",
            "http://alm.test:1234/v1",
            "https://lm.test:1234/v1",
            "http://10.1.2.3:1234/v1",
            "http://[2001:db8::1]:1234/v1",
        ],
    )
    def test_it_is_that_of_httpx(self, no_proxy, url, monkeypatch):
        """
        Whether a server is asked through the proxy is decided as httpx does.
        """
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:2")
        monkeypatch.setenv("NO_PROXY", no_proxy)
        try:
            with httpx.Client() as client:
                theirs = client._transport_for_url(httpx.URL(url)) is not client._transport
        except (httpx.InvalidURL, ValueError):
            theirs = True  # it can't be asked

        assert theirs == (environment_proxy(url) is not None)

    @pytest.mark.parametrize(
        ("entry", "url"),
        [
            ("lm.test:80", "http://lm.test/v1"),
            ("lm.test:443", "https://lm.test/v1"),
            ("[2001:db8::1]", "http://[2001:db8::1]/v1"),
            ("[2001:db8::1]:80", "http://[2001:db8::1]/v1"),
        ],
    )
    def test_ports_and_brackets(self, entry, url, monkeypatch):
        """
        Ports that go without saying count where an entry names them, and so do brackets.
        """
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", entry)

        assert environment_proxy(url) is None

    @pytest.mark.parametrize(
        "url",
        ["http://127.0.0.1/v1", "http://127.1.2.3/v1", "http://[::1]/v1", "http://localhost/v1", "http://a.localhost"],
    )
    def test_loopback(self, url, monkeypatch):
        """
        This machine is always asked directly.
        """
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

        assert environment_proxy(url) is None

    @pytest.mark.parametrize(
        ("address", "demand"),
        [
            ("ftp://user:hunter2@h", "must be an address such as http://127.0.0.1:3128"),
            ("http://user:hunter2@h:port", "must be an address such as http://127.0.0.1:3128"),
            ("http://user:hunter2@h:99999", "must have a port from 1 to 65535 (got 99999)"),
            ("http://", "must name a host, such as http://127.0.0.1:3128"),
            ("socks5://h:1080", "is a SOCKS proxy, which needs: pip install 'httpx[socks]'"),
        ],
    )
    def test_addresses_that_cannot_be(self, address, demand, monkeypatch):
        """
        They are refused at construction, naming the variable and showing no password.
        """
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        monkeypatch.setenv("HTTP_PROXY", address)

        with pytest.raises(ValidationError) as caught:
            LMStudioClient(SERVER)

        assert (f"the proxy in $HTTP_PROXY {demand}", {"field": "HTTP_PROXY"}) == (
            str(caught.value),
            caught.value.details,
        )
