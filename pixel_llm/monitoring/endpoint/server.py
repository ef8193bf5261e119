"""A small server for the endpoint, on a thread of its own, for programs that serve nothing else."""

from __future__ import annotations

import errno
import ipaddress
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from pixel_llm.errors import ValidationError
from pixel_llm.events.trouble import report_trouble
from pixel_llm.monitoring.endpoint.answers import Answers
from pixel_llm.monitoring.endpoint.wsgi import WSGIApp, wsgi_app
from pixel_llm.monitoring.sources import HasSnapshot, ReadSnapshots
from pixel_llm.resilience.threads.forking import forget_after_fork

#: The port unless told otherwise; Prometheus' list of exporters has it for clients of OpenTelemetry.
DEFAULT_PORT = 9464

#: Seconds that a client may keep us waiting for its request.
_PATIENCE = 10.0

#: Seconds after which the server looks whether it was closed.
_LOOK_UP = 0.1


class MetricsServer:
    """
    Serves an endpoint until it is closed, on daemon threads. Safe for concurrent use.

    It never harms the program: if it can't listen, *trouble* says so, and it serves nothing. In a forked child it
    serves nothing either.

    Args:
        policies: One or several, or a function that gives snapshots.
        port: Where it listens; 0 takes a free one.
        host: The address that it listens on.

    Attributes:
        trouble: Why it does not serve, in a sentence; None if it does.

    Raises:
        ValidationError: If an argument makes no sense.
    """

    def __init__(
        self,
        policies: HasSnapshot | Iterable[HasSnapshot] | ReadSnapshots,
        port: int = DEFAULT_PORT,
        host: str = "127.0.0.1",
    ) -> None:
        answers = Answers(policies)
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
            raise ValidationError(f"port must be a whole number from 0 to 65535 (got {port!r})")
        if not isinstance(host, str) or not host:
            raise ValidationError(f'host must be an address such as "127.0.0.1" (got {host!r})')
        self._host, self._port = host, port
        self.trouble: str | None = None
        self._server: _Server | None = None
        try:
            self._server = _Server(host, port)
        except (OSError, UnicodeError) as error:
            self.trouble = f"metrics can't be served on {_netloc(host, port)}: {_why(error)}"
            return
        self._port = self._server.server_port
        self._server.set_app(_signed(wsgi_app(answers)))
        forget_after_fork(self)
        threading.Thread(target=self._serve, args=(self._server,), name="pixel-llm metrics", daemon=True).start()

    @property
    def port(self) -> int:
        """The port that it listens on, or would."""
        return self._port

    @property
    def url(self) -> str:
        """Where it can be asked; if it does not serve, where it would be, and another program may be."""
        return f"http://{_netloc(self._host, self._port)}"

    @property
    def is_serving(self) -> bool:
        """True from the beginning until it is closed, unless it could not listen."""
        return self._server is not None

    def close(self) -> None:
        """Serve no longer; the port is free when this returns. May be done twice."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def forget(self) -> None:
        """In a forked child: the thread that serves is the parent's, so let go of the port."""
        server, self._server = self._server, None
        if server is not None:
            server.socket.close()

    def _serve(self, server: _Server) -> None:
        """Of the thread, which keeps this object alive: a program need not."""
        server.serve_forever(_LOOK_UP)

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def serve_metrics(
    policies: HasSnapshot | Iterable[HasSnapshot], port: int = DEFAULT_PORT, *, host: str = "127.0.0.1"
) -> MetricsServer:
    """
    Serve ``/metrics``, ``/snapshot`` and ``/health`` of *policies* on a daemon thread, for as long as the program runs.

    A port that is in use takes no call down: the log says so, and so does ``trouble`` of what is returned. Only this
    machine can ask, unless *host* says otherwise; nobody is asked for a password.

    Args:
        policies: One or several.
        port: Where to listen; 0 takes a free port, see ``port`` of what is returned.
        host: The address to listen on; ``0.0.0.0`` for all.

    Raises:
        ValidationError: If an argument makes no sense.
    """
    server = MetricsServer(policies, port, host)
    if server.trouble is not None:
        report_trouble("%s; calls go on without them", server.trouble, level=logging.WARNING, exc_info=False)
    return server


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if _is_v6(host) else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the name service for the host's full name: that may take seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or kept us waiting, is no error of ours."""
        logging.getLogger("pixel_llm").debug("a request for metrics ended early", exc_info=True)


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE

    def version_string(self) -> str:
        """Whom to thank, and no versions."""
        return "pixel-llm"

    def get_environ(self) -> dict[str, Any]:
        """The path alone, where a client names the whole address, as it may (RFC 9112, section 3.2.2)."""
        whole = re.match(r"https?://[^/?#]*(.*)", self.path, re.IGNORECASE)
        if whole is not None:
            self.path = whole[1] or "/"
        environ: dict[str, Any] = super().get_environ()
        return environ

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class' name
        """Requests are not logged: a scrape comes every few seconds."""


def _signed(app: WSGIApp) -> WSGIApp:
    """*app* with a header that tells no versions, as the standard library's would."""

    def signed(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return app(environ, lambda status, headers: start_response(status, [*headers, ("Server", "pixel-llm")]))

    return signed


def _is_v6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if _is_v6(host) else f"{host}:{port}"


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "the port is in use, perhaps by another run of this program"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
