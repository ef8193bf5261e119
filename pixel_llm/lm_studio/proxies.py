"""Which proxy leads to a server, by the environment: as httpx has it, but for servers on this machine."""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from urllib.request import getproxies

import httpcore
import httpx

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.lm_studio.endpoint import public_address


def environment_proxy(base_url: str) -> httpcore.Proxy | None:
    """
    The proxy for the server at *base_url*; None if it is asked directly.

    ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, in either case of letters, and on macOS and
    Windows the system's settings. No proxy leads to this machine: ``localhost`` and loopback addresses are always
    asked directly.

    Raises:
        ValidationError: If the proxy's address can't be one.
    """
    url = httpx.URL(base_url)
    known = getproxies()
    name = url.scheme if known.get(url.scheme) else "all"
    address = known.get(name)
    if not address or _is_loopback(url.host) or _is_exempt(url, known.get("no", "")):
        return None
    return _parse(address if "://" in address else f"http://{address}", f"{name.upper()}_PROXY")


def _parse(address: str, variable: str) -> httpcore.Proxy:
    try:
        proxy = httpx.Proxy(address)
    except (httpx.InvalidURL, ValueError):
        raise _invalid(variable, "must be an address such as http://127.0.0.1:3128") from None  # it may hold a password
    if proxy.url.port is not None and not 0 < proxy.url.port < 65_536:
        raise _invalid(variable, f"must have a port from 1 to 65535 (got {proxy.url.port})")
    if not proxy.url.host:
        raise _invalid(variable, "must name a host, such as http://127.0.0.1:3128")
    if proxy.url.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise _invalid(variable, "is a SOCKS proxy, which needs: pip install 'httpx[socks]'")
    url = httpcore.URL(
        scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target=proxy.url.raw_path
    )
    ssl_context = httpx.create_ssl_context() if proxy.url.scheme == "https" else None
    return httpcore.Proxy(url, proxy.raw_auth, proxy.headers.raw, ssl_context)


def address_of(proxy: httpcore.Proxy) -> str:
    """``scheme://host:port`` of *proxy*: nothing in it is secret."""
    url = proxy.url
    port = "" if url.port is None else f":{url.port}"
    return public_address(httpx.URL(f"{url.scheme.decode()}://{url.host.decode()}{port}"))


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_exempt(url: httpx.URL, no_proxy: str) -> bool:
    """
    True if ``NO_PROXY`` names the server.

    ``example.com`` stands for itself and all below it, ``.example.com`` for all below it; addresses stand for
    themselves. A port, and a scheme, narrow an entry. ``*`` stands for everything.
    """
    return any(entry == "*" or (entry and _matches(entry, url)) for entry in map(str.strip, no_proxy.split(",")))


def _matches(entry: str, url: httpx.URL) -> bool:
    scheme, separator, rest = entry.rpartition("://")
    if rest.count(":") > 1 and not rest.startswith("["):  # a bare address of version 6
        rest = f"[{rest}]"
    try:
        named = httpx.URL(f"all://{rest}")
    except httpx.InvalidURL:
        return False
    if scheme not in ("", "all", url.scheme) or named.port not in (None, _port_of(url)):
        return False
    host = named.host
    if separator or _is_address(host) or host == "localhost":  # an entry with a scheme says what it says
        return host == url.host
    below = host.startswith(".")
    domain = re.escape(host[1:] if below else host)
    return re.fullmatch(rf".+\.{domain}" if below else rf"(.+\.)?{domain}", url.host) is not None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _port_of(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _invalid(variable: str, demand: str) -> ValidationError:
    return ValidationError(
        f"the proxy in ${variable} {demand}", error_code=ErrorCode.ERR_VAL_INVALID_RANGE, details={"field": variable}
    )
