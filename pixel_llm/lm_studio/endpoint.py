"""Where the server is: a checked base URL, with the credentials taken out of what is shown."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

import httpx

from pixel_llm.errors import ErrorCode, ValidationError


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    A server and how to log in there. Immutable; its repr shows no secret.

    *base_url* has neither user name and password nor a slash at its end, *address* is its
    ``scheme://host:port``, *authorization* the header's value, *secrets* what no error may quote.
    """

    base_url: str
    address: str
    authorization: str | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def root_url(self) -> str:
        """Where ``/v1`` lies, and LM Studio's own API beside it."""
        return self.base_url.removesuffix("/v1")

    @property
    def is_encrypted(self) -> bool:
        """True for https."""
        return self.base_url.startswith("https:")

    @property
    def key_fingerprint(self) -> str:
        """Tells credentials apart without giving them away; empty when there are none."""
        return hashlib.sha256(self.authorization.encode()).hexdigest()[:16] if self.authorization else ""


def parse_endpoint(base_url: str, api_key: str | None = None) -> Endpoint:
    """
    Check *base_url* and *api_key*; white space around them is dropped.

    A user name and password in the URL become HTTP's basic authorization, unless there is a key.

    Raises:
        ValidationError: If *base_url* is no http or https address, or *api_key* fits into no header.
    """
    for name, value in (("base_url", base_url), ("api_key", api_key)):
        if not isinstance(value, str) and (name == "base_url" or value is not None):
            raise ValidationError(
                f"{name} must be a text (got {type(value).__name__})",
                error_code=ErrorCode.ERR_VAL_INVALID_RANGE,
                details={"field": name},
            )
    try:
        url = httpx.URL(base_url.strip())
    except httpx.InvalidURL:
        raise _invalid("must be an http:// or https:// address such as http://127.0.0.1:1234/v1") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise _invalid(
            "must be an http:// or https:// address such as http://127.0.0.1:1234/v1"
            f" (got scheme {url.scheme!r}, host {url.host!r})"
        )
    if url.port is not None and not 0 < url.port < 65_536:
        raise _invalid(f"must have a port from 1 to 65535 (got {url.port})")
    if url.query or url.fragment:
        raise _invalid("must end with its path, such as /v1, without ? and #")
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValidationError(
            "api_key must be printable ASCII characters", error_code=ErrorCode.ERR_VAL_INVALID_RANGE,
            details={"field": "api_key"},
        )  # fmt: skip
    authorization: str | None = None
    secrets: tuple[str, ...] = ()
    if key:
        authorization, secrets = f"Bearer {key}", (key,)
    elif url.userinfo:
        basic = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
        authorization, secrets = f"Basic {basic}", (url.password, basic)
    return Endpoint(
        base_url=str(url.copy_with(userinfo=b"")).rstrip("/"),
        address=public_address(url),
        authorization=authorization,
        secrets=secrets,
    )


def is_same_server(one: str, other: str) -> bool:
    """True if two base URLs lead to the same server: what is secret to one is not to the other."""
    return parse_endpoint(one).address == parse_endpoint(other).address


def public_address(url: httpx.URL) -> str:
    """``scheme://host:port`` of *url*: nothing in it is secret."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _invalid(demand: str) -> ValidationError:
    # The URL itself is not shown: it may hold a password.
    return ValidationError(
        f"base_url {demand}", error_code=ErrorCode.ERR_VAL_INVALID_RANGE, details={"field": "base_url"}
    )
