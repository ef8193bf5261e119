import asyncio
import gzip
import http.client
import json
import logging
import os
import socket
import sys
import threading
import urllib.error
import urllib.request
from wsgiref.validate import validator

import pytest
from shop import fail, gone

from pixel_llm.errors import ValidationError
from pixel_llm.monitoring.endpoint import metrics_asgi_app, metrics_wsgi_app, serve_metrics
from pixel_llm.monitoring.endpoint.answers import Answers, Unavailable
from pixel_llm.monitoring.exposition.text import CONTENT_TYPE
from pixel_llm.monitoring.snapshot.documents import read_document

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url, method="GET"):
    """Status, content type and body of what a real server answers."""
    request = urllib.request.Request(url, method=method)
    try:
        with OPENER.open(request, timeout=10) as reply:
            return reply.status, reply.headers["Content-Type"], reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


@pytest.fixture
def serve():
    """Starts servers, and closes them at the end."""
    servers = []

    def serve(policies, port=0, **more):
        servers.append(serve_metrics(policies, port, **more))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


@pytest.fixture
def reports(caplog):
    caplog.set_level(logging.DEBUG, "pixel_llm")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "pixel_llm"]


class TestServer:
    def test_serves_metrics_snapshot_and_health(self, shop, serve):
        """
        Each has a path and a content type of its own.
        """
        server = serve(shop)
        status, kind, metrics = get(f"{server.url}/metrics")

        assert (200, CONTENT_TYPE, True) == (status, kind, server.is_serving)
        assert 'pixel_llm_calls_total{profile="shop",target="shop.pay",outcome="failed"} 0\n' in metrics
        status, kind, snapshot = get(f"{server.url}/snapshot")
        assert (200, "application/json") == (status, kind)
        assert "shop" == read_document(snapshot)[0].profile
        status, kind, health = get(f"{server.url}/health")
        assert (200, "application/json", "ok") == (status, kind, json.loads(health)["status"])

    def test_health_is_503_while_a_target_is_failing(self, shop, serve):
        """
        A load balancer needs no more than the status.
        """
        fail(shop.wrap("shop.ship", gone))
        status, _, body = get(f"{serve(shop).url}/health")

        assert (503, "failing") == (status, json.loads(body)["status"])

    def test_tells_what_there_is(self, shop, serve):
        """
        The root names the paths, and so does the answer to any other path.
        """
        server = serve(shop)

        assert "/metrics  for Prometheus" in get(server.url)[2]
        assert (404, "there are /metrics, /snapshot, /health\n") == get(f"{server.url}/metric")[::2]
        assert 200 == get(f"{server.url}/health/")[0]

    def test_answers_nothing_but_reading(self, shop, serve):
        """
        Nothing can be changed from outside; HEAD gives the headers alone.
        """
        server = serve(shop)

        assert (405, "only GET and HEAD are answered here\n") == get(f"{server.url}/health", "DELETE")[::2]
        assert (200, "") == get(f"{server.url}/health", "HEAD")[::2]

    def test_says_plainly_that_a_port_is_in_use(self, shop, serve, reports):
        """
        The program goes on without the endpoint; the log says so, once, and whoever asks is told.
        """
        first = serve(shop)
        second = serve(shop, first.port)
        expected = (
            f"metrics can't be served on 127.0.0.1:{first.port}: the port is in use, perhaps by another run of this "
            "program"
        )

        assert (False, expected) == (second.is_serving, second.trouble)
        assert [f"{expected}; calls go on without them"] == reports()
        assert 200 == get(f"{first.url}/health")[0]
        second.close()

    @pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a" * 70])
    def test_says_plainly_that_an_address_is_not_ours(self, shop, serve, host):
        """
        Other trouble with listening is reported as well.
        """
        server = serve(shop, host=host)

        assert server.trouble.startswith(f"metrics can't be served on {host}:0: ")
        assert not server.is_serving

    @pytest.mark.parametrize("port", [-1, 65536, "80", True, 1.5, None])
    def test_takes_ports_only(self, shop, port):
        """
        What is no port is the program's mistake, and raised.
        """
        with pytest.raises(ValidationError, match="port must be a whole number from 0 to 65535"):
            serve_metrics(shop, port)

    @pytest.mark.parametrize("host", ["", None, 3])
    def test_takes_addresses_only(self, shop, host):
        """
        What is no address is raised, too.
        """
        with pytest.raises(ValidationError, match="host must be an address"):
            serve_metrics(shop, 0, host=host)

    def test_serves_on_ipv6(self, shop, serve):
        """
        An IPv6 address stands in brackets.
        """
        server = serve(shop, host="::1")
        if server.trouble:
            pytest.skip("this machine has no IPv6")

        assert server.url.startswith("http://[::1]:")
        assert 200 == get(f"{server.url}/health")[0]

    def test_frees_its_port(self, shop, serve):
        """
        After closing, which may be done twice, another one can listen there.
        """
        with serve(shop) as first:
            pass
        first.close()

        assert serve(shop, first.port).trouble is None

    def test_a_silent_client_keeps_nobody_waiting(self, shop, serve):
        """
        Clients that connect and say nothing, or half a request, hold back no other one.
        """
        server = serve(shop)
        with socket.create_connection(("127.0.0.1", server.port)) as silent:
            silent.sendall(b"GET /metr")
            assert 200 == get(f"{server.url}/metrics")[0]

    def test_rubbish_does_no_harm(self, shop, serve, capfd):
        """
        What is no HTTP is answered or dropped, and nothing is printed.
        """
        server = serve(shop)
        for rubbish in (b"\x00\xff\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
                client.sendall(rubbish)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass

        assert 200 == get(f"{server.url}/health")[0]
        assert ("", "") == tuple(capfd.readouterr())

    def test_says_what_may_be_done(self, shop, serve):
        """
        A refused method is told those that are not; nothing tells the versions of what serves.
        """
        server = serve(shop)
        for method, path, status in (("GET", "/health", 200), ("POST", "/health", 405), ("GET", "/no", 404)):
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            connection.request(method, path)
            reply = connection.getresponse()
            assert (status, "pixel-llm") == (reply.status, reply.headers["Server"])
            assert ("GET, HEAD" if status == 405 else None) == reply.headers["Allow"]
            connection.close()
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(b"GET / HTTP/9.9\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: client.recv(65536), b""))

        assert b"CPython" not in answer
        assert b"WSGIServer" not in answer

    @pytest.mark.parametrize("target", ["http://x/health", "HTTP://x:9464/health?a=b", "https://[::1]/health"])
    def test_whole_addresses_are_paths(self, shop, serve, target):
        """
        As a client sends them to a proxy.
        """
        with socket.create_connection(("127.0.0.1", serve(shop).port), timeout=10) as client:
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            answer = b"".join(iter(lambda: client.recv(65536), b""))

        assert answer.startswith(b"HTTP/1.0 200 OK")

    @pytest.mark.parametrize(
        ("accepted", "path", "coding"),
        [
            ("gzip", "/metrics", "gzip"),
            ("br, GZIP;q=0.5", "/snapshot", "gzip"),
            ("gzip;q=0", "/metrics", None),
            ("gzip; q=0.000, br", "/metrics", None),
            ("*", "/metrics", None),
            ("", "/metrics", None),
            ("gzip", "/", None),
        ],
    )
    def test_compresses_what_is_large(self, shop, serve, accepted, path, coding):
        """
        If the client takes it; the text is the same.
        """
        connection = http.client.HTTPConnection("127.0.0.1", serve(shop).port)
        connection.request("GET", path, headers={"Accept-Encoding": accepted})
        reply = connection.getresponse()
        body = reply.read()
        connection.close()

        assert coding == reply.headers["Content-Encoding"]
        assert str(len(body)) == reply.headers["Content-Length"]
        assert b"pixel_llm" in (gzip.decompress(body) if coding else body) or path == "/"
        assert ("Accept-Encoding" if path != "/" else None) == reply.headers["Vary"]

    def test_the_same_policies_count_once(self, shop, serve):
        """
        However often they are named.
        """
        shop.wrap("shop.ship", str)()
        body = get(f"{serve([shop, shop]).url}/metrics")[2]

        assert 'pixel_llm_calls_total{profile="shop",target="shop.ship",outcome="succeeded"} 1\n' in body
        assert 1 == len(read_document(get(f"{serve([shop, shop]).url}/snapshot")[2]))

    def test_many_ask_at_once(self, shop, serve):
        """
        Scrapes need not wait for each other, and calls go on.
        """
        server = serve(shop)
        statuses = []
        ship = shop.wrap("shop.ship", lambda: 1)
        threads = [threading.Thread(target=lambda: statuses.append(get(f"{server.url}/metrics")[0])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(1000):
            ship()
        for thread in threads:
            thread.join()

        assert [200] * 8 == statuses
        assert 'target="shop.ship",outcome="succeeded"} 1000\n' in get(f"{server.url}/metrics")[2]

    def test_needs_not_be_kept(self, shop, serve):
        """
        It serves although the program has forgotten it.
        """
        port = serve_metrics(shop, 0).port

        assert 200 == get(f"http://127.0.0.1:{port}/health")[0]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
    def test_a_forked_child_lets_go_of_the_port(self, shop, serve):
        """
        The child does not serve, and does not keep the port when the parent closes it.
        """
        server = serve(shop)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # lives until the parent has closed its end
            os._exit(int(server.is_serving))
        os.close(reading)
        server.close()
        again = serve(shop, server.port)
        os.close(writing)

        assert (None, 0) == (again.trouble, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


class TestWSGI:
    def test_keeps_the_standard(self, shop):
        """
        The standard library's validator has nothing to say.
        """
        app = validator(metrics_wsgi_app(shop))
        started = []
        environ = {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "/internal", "PATH_INFO": "/health", "SERVER_NAME": "localhost",
            "SERVER_PORT": "80", "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": sys.stdin.buffer,
            "wsgi.errors": sys.stderr, "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
            "SERVER_PROTOCOL": "HTTP/1.1", "QUERY_STRING": "",
        }  # fmt: skip
        environ["wsgi.input"] = type(
            "Input", (), {name: lambda *_: b"" for name in ("read", "readline", "readlines", "__iter__")}
        )()
        body = app(environ, lambda *args: started.append(args))
        content = b"".join(body)
        body.close()

        assert "ok" == json.loads(content)["status"]
        assert "200 OK" == started[0][0]

    @pytest.mark.parametrize("policies", [3, [], "shop"])
    def test_takes_policies_only(self, policies):
        """
        What has no snapshot is refused when it is given.
        """
        with pytest.raises(ValidationError, match="metrics are those of policies"):
            metrics_wsgi_app(policies)


class TestASGI:
    def ask(self, app, path="/health", method="GET", **scope):
        sent = []

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sent.append(message)

        asyncio.run(app({"type": "http", "method": method, "path": path, **scope}, receive, send))
        start, body = sent
        return start["status"], dict(start["headers"]), body["body"]

    def test_answers(self, shop):
        """
        As the WSGI application does, HEAD included.
        """
        app = metrics_asgi_app([shop])
        status, headers, body = self.ask(app)

        assert (200, b"application/json", str(len(body)).encode()) == (
            status, headers[b"content-type"], headers[b"content-length"],
        )  # fmt: skip
        assert (200, headers, b"") == self.ask(app, method="HEAD")
        assert (405, b"GET, HEAD") == (
            self.ask(app, method="POST")[0], self.ask(app, method="POST")[1][b"allow"],
        )  # fmt: skip

    def test_compresses_what_is_large(self, shop):
        """
        Where the request's header says so.
        """
        _, headers, body = self.ask(metrics_asgi_app(shop), "/snapshot", headers=[(b"accept-encoding", b"br, gzip")])

        assert b"gzip" == headers[b"content-encoding"]
        assert "shop" == read_document(gzip.decompress(body))[0].profile

    @pytest.mark.parametrize(
        ("path", "mount", "status"),
        [
            ("/health", "", 200),
            ("/internal/health", "/internal", 200),
            ("/health", "/internal", 200),
            ("/internal", "/internal", 200),
            ("/healthy/health", "/health", 404),
            ("/internal/health", "", 404),
        ],
    )
    def test_can_be_mounted(self, shop, path, mount, status):
        """
        The path is that below the mount, whether the server has the mount's own path in it or not.
        """
        assert status == self.ask(metrics_asgi_app(shop), path, root_path=mount)[0]

    def test_lives_with_its_server(self, shop):
        """
        Start and end of the server are acknowledged; websockets are closed.
        """
        sent = []
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive():
            return {"type": next(messages)}

        async def send(message):
            sent.append(message["type"])

        async def live():
            app = metrics_asgi_app(shop)
            await app({"type": "lifespan"}, receive, send)
            await app({"type": "websocket", "path": "/"}, receive, send)

        asyncio.run(live())

        assert ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"] == sent


class TestAnswers:
    def test_says_why_snapshots_can_not_be_had(self):
        """
        Where they come from another process, that one may have ended.
        """

        def read():
            raise Unavailable("nobody answers")

        assert (502, b"nobody answers\n") == (
            Answers(read).answer("GET", "/metrics").status,
            Answers(read).answer("GET", "/metrics").body,
        )
