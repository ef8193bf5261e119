"""``pixel-llm metrics``, and the metrics of ``pixel-llm caption``, in processes of their own."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import pixel_llm
from PIL import Image
from running import answering, running_shop

from pixel_llm.errors import ValidationError
from pixel_llm.monitoring.endpoint import remote
from pixel_llm.monitoring.endpoint.answers import Unavailable
from pixel_llm.monitoring.endpoint.remote import RemoteSnapshots
from pixel_llm.testing import Answer, ScriptedLMStudio


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with running_shop(tmp_path / "policies") as (_, url):
        yield url


def metrics(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = pixel_llm("metrics", *words, cwd=cwd)
    assert "Traceback" not in done.stderr
    return done


def get(url: str) -> str:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as reply:
        body: bytes = reply.read()
    return body.decode()


class TestPrinting:
    def test_the_exposition(self, url, tmp_path):
        """By default what Prometheus would see."""
        done = metrics("--url", url, cwd=tmp_path)

        assert (0, "") == (done.returncode, done.stderr)
        assert 'pixel_llm_calls_total{profile="shop",target="shop.pay",outcome="succeeded"} 3\n' in done.stdout

    def test_json(self, url, tmp_path):
        """The snapshot, as the endpoint gives it; the address of one of its paths will do."""
        done = metrics("--url", f"{url}/metrics", "--format", "json", cwd=tmp_path)

        assert "shop" == json.loads(done.stdout)["policies"][0]["profile"]

    def test_health(self, url, tmp_path):
        """The health; exit 1 while a target is failing, so a container's check can use it."""
        done = metrics("--url", url, "--format", "health", cwd=tmp_path)

        assert (1, "failing") == (done.returncode, json.loads(done.stdout)["status"])


class TestServing:
    def test_serves_on(self, url, tmp_path):
        """An exporter for a process that only offers /snapshot, until Ctrl-C."""
        words = [sys.executable, "-m", "pixel_llm", "metrics", "--url", url, "--port", "0"]
        with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as exporter:
            assert exporter.stderr is not None
            try:
                line = exporter.stderr.readline()
                (served,) = re.findall(r"on (http://\S+)/metrics\n", line)
                text = get(f"{served}/metrics")
                exporter.send_signal(signal.SIGINT)
                _, rest = exporter.communicate(timeout=20)
            finally:
                exporter.kill()

        assert f"serves the metrics of {url} on " in line
        assert 'target="shop.pay",outcome="succeeded"} 3\n' in text
        assert (0, "") == (exporter.returncode, rest)

    def test_a_port_in_use(self, url, tmp_path):
        """It says so plainly, and exits 1."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = metrics("--url", url, "--port", str(port), cwd=tmp_path)

        assert (1, "") == (done.returncode, done.stdout)
        assert f"metrics can't be served on 127.0.0.1:{port}: the port is in use" in done.stderr
        assert 1 == len(done.stderr.splitlines())
        assert "calls" not in done.stderr  # an exporter has none that could go on

    def test_a_format_makes_no_sense(self, url, tmp_path):
        """Served is every format."""
        done = metrics("--port", "0", "--format", "json", cwd=tmp_path)

        assert 2 == done.returncode
        assert "--port serves every format: leave --format out" in done.stderr


class TestTrouble:
    def test_nothing_answers(self, tmp_path):
        """One plain line, exit 1."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        done = metrics("--url", f"http://127.0.0.1:{port}", cwd=tmp_path)

        assert (1, "", 1) == (done.returncode, done.stdout, len(done.stderr.splitlines()))
        assert f"error: http://127.0.0.1:{port}: nothing answers there: the process has ended, " in done.stderr

    @pytest.mark.parametrize(
        "url", ["nonsense", "ftp://localhost", "http://", "http://a:99999", "http://a:b", "http://\x07"]
    )
    def test_what_is_no_address(self, tmp_path, url):
        """Wrong usage, exit 2."""
        done = metrics("--url", url, cwd=tmp_path)

        assert 2 == done.returncode
        assert "the address of an endpoint is one such as http://127.0.0.1:9464" in done.stderr


class TestRemoteSnapshots:
    @pytest.mark.parametrize(
        ("body", "status", "message"),
        [
            (b"<html>", 200, "has no metrics of pixel-llm: a snapshot must be JSON"),
            (b"\xff\xfe\x00", 200, "has no metrics of pixel-llm: a snapshot must be JSON"),
            (b"[1]", 200, "must be an object with version and policies"),
            (b"gone away\n", 502, "has no metrics of pixel-llm: /snapshot gives 502: gone away"),
            (b"<h1>nothing</h1>", 404, "has no metrics of pixel-llm: /snapshot gives 404"),
            (b"", 302, "/snapshot gives 302"),
        ],
    )
    def test_rubbish(self, body, status, message):
        """What is no snapshot is told apart from silence; redirects are not followed."""
        with answering(body, status) as url, pytest.raises(Unavailable) as caught:
            RemoteSnapshots(url)()

        assert message in str(caught.value)

    def test_too_much(self, monkeypatch):
        """An answer without an end is not read to it."""
        monkeypatch.setattr(remote, "LARGEST", 10)
        with answering(b"x" * 100) as url, pytest.raises(Unavailable, match="sends more than any snapshot has"):
            RemoteSnapshots(url)()

    def test_silence(self):
        """Nobody waits longer than the timeout."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(Unavailable, match="it does not answer in time"):
                RemoteSnapshots(url, timeout=0.1)()

    @pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-"])
    def test_dripping(self, begin):
        """A server that sends a byte now and then can't outlast the timeout, in its headers or its body."""
        ended = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as server:

            def drip() -> None:
                client, _ = server.accept()
                with client, contextlib.suppress(OSError):
                    client.recv(1000)
                    client.sendall(begin)
                    while True:
                        client.sendall(b"H")
                        time.sleep(0.02)
                ended.set()

            thread = threading.Thread(target=drip)
            thread.start()
            began = time.monotonic()
            with pytest.raises(Unavailable, match="it does not answer in time"):
                RemoteSnapshots(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=0.5)()
            took = time.monotonic() - began
            thread.join(20)

        assert 0.4 < took < 10
        assert ended.is_set(), "the connection is still there"

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("127.0.0.1:9871", "http://127.0.0.1:9871"),
            ("localhost:9464/metrics", "http://localhost:9464"),
            ("[::1]:9464", "http://[::1]:9464"),
        ],
    )
    def test_needs_no_scheme(self, url, shown):
        """Host and port are enough."""
        assert shown == RemoteSnapshots(url).url

    def test_no_http(self):
        """What answers in another tongue is named."""
        with socket.create_server(("127.0.0.1", 0)) as server:

            def answer() -> None:
                client, _ = server.accept()
                with client:
                    client.recv(1000)
                    client.sendall(b"220 mail.example ESMTP\r\n")

            thread = threading.Thread(target=answer)
            thread.start()
            with pytest.raises(Unavailable, match="what answers there is no HTTP server"):
                RemoteSnapshots(f"http://127.0.0.1:{server.getsockname()[1]}")()
            thread.join()

    def test_unknown_hosts(self):
        """The system's own words."""
        with pytest.raises(Unavailable, match=r"no\.such\.host\.invalid: "):
            RemoteSnapshots("http://no.such.host.invalid")()

    def test_has_no_password(self):
        """An address with a password would be shown with it."""
        with pytest.raises(ValidationError, match="no user and no password") as caught:
            RemoteSnapshots("http://me:secret@localhost")

        assert "secret" not in str(caught.value)


class TestCaption:
    def test_serves_metrics_while_it_runs(self, tmp_path):
        """The address stands on standard error; a port in use is said, and the captions come all the same."""
        Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
        with ScriptedLMStudio([Answer(text="A colour."), Answer(text="A colour.")]) as server:
            words = ("caption", "a.png", "--profile", "development", "--base-url", server.base_url, "--metrics-port")
            done = pixel_llm(*words, "0", cwd=tmp_path)
            with socket.create_server(("127.0.0.1", 0)) as taken:
                blocked = pixel_llm(*words, str(taken.getsockname()[1]), "--stream", cwd=tmp_path)

        assert (0, "A colour.\n") == (done.returncode, done.stdout)
        assert re.fullmatch(r"metrics: http://127\.0\.0\.1:\d+\n", done.stderr)
        assert (0, "A colour.\n") == (blocked.returncode, blocked.stdout)
        assert 1 == blocked.stderr.count("pixel-llm: metrics can't be served")  # and on the console of the policy's log
