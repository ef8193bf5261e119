"""httpx transports over our pools: every socket operation ends with the current limits."""

from __future__ import annotations

import ssl

import httpcore
import httpx

from pixel_llm.lm_studio.pools import LimitedAsyncPool, LimitedPool


class LimitedTransport(httpx.HTTPTransport):
    """
    httpx's transport under the current limits: no queue, no retries but that of its pool. Safe for concurrent use.

    Args:
        verify: The certificates to trust; False trusts every server.
        proxy: Where connections go instead of to the server.
    """

    def __init__(self, verify: ssl.SSLContext | bool = True, proxy: httpcore.Proxy | None = None) -> None:
        super().__init__(verify=verify)
        _check_pool(self)
        self._pool = self.pool = LimitedPool(_context(verify), proxy)


class LimitedAsyncTransport(httpx.AsyncHTTPTransport):
    """The async twin of :class:`LimitedTransport`. Belongs to the event loop that first uses it."""

    def __init__(self, verify: ssl.SSLContext | bool = True, proxy: httpcore.Proxy | None = None) -> None:
        super().__init__(verify=verify)
        _check_pool(self)
        self._pool = self.pool = LimitedAsyncPool(_context(verify), proxy)


def _context(verify: ssl.SSLContext | bool) -> ssl.SSLContext:
    return verify if isinstance(verify, ssl.SSLContext) else httpx.create_ssl_context(verify=verify)


def _check_pool(transport: httpx.HTTPTransport | httpx.AsyncHTTPTransport) -> None:
    # httpx takes no pool, and its translation of exceptions and bodies is not ours to copy. The attribute is
    # private, so a change must show at start-up, not as limits that do nothing.
    if not hasattr(transport, "_pool"):
        raise RuntimeError(
            f"httpx {httpx.__version__} keeps its connection pool elsewhere: deadlines would not reach the sockets;"
            " install httpx>=0.28,<0.29"
        )
