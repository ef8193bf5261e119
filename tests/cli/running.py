"""A running process with an endpoint, and servers that are none."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

from pixel_llm.monitoring.endpoint import serve_metrics
from pixel_llm.runtime import Policies, load_policies

SHOP = """
version: 1
logging: {level: CRITICAL}
targets:
  shop.pay:
    bulkhead: {max_concurrent: 4}
    fallback: [{default_value: sorry}]
  shop.ship:
    circuit_breaker: {failure_threshold: 1, cooldown: 1h}
  shop.list: {}
"""


@contextlib.contextmanager
def running_shop(folder: Path, port: int = 0) -> Iterator[tuple[Policies, str]]:
    """Policies that were called, and the address of their endpoint."""
    folder.mkdir(exist_ok=True)
    (folder / "shop.yaml").write_text(SHOP)
    with load_policies(folder, "shop", variables={}) as policies, serve_metrics(policies, port) as server:
        pay = policies.wrap("shop.pay", lambda works: works or gone())
        for works in (True, True, True, False):
            pay(works)
        with contextlib.suppress(ConnectionError):
            policies.wrap("shop.ship", gone)()
        yield policies, server.url


def gone() -> None:
    raise ConnectionError("gone \x1b[2J\nfar away")


@contextlib.contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[str]:
    """The address of a server that gives the same answer to everybody."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
