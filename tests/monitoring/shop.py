"""A shop whose policy has every layer, for tests of what is seen of it."""

from __future__ import annotations

import pytest

from pixel_llm.errors import ConnectionError
from pixel_llm.runtime import load_policies

SHOP = """
version: 1
logging: {level: CRITICAL}
retry_budgets:
  shared: {ratio: 0.5, min_retries: 4}
targets:
  shop.pay:
    deadline: 20s
    timeout: 5s
    idempotent: true
    retry: {strategy: immediate, max_attempts: 2, budget: shared}
    circuit_breaker: {failure_threshold: 2, cooldown: 30s}
    rate_limit: {max_calls: 100, period: 10s}
    bulkhead: {max_concurrent: 4, max_waiting: 10, max_wait: 1s}
    fallback: [{cache: {ttl: 1m}}, {default_value: sorry}]
  shop.stock:
    circuit_breaker: {failure_threshold: 1, cooldown: 30s, per: item}
  shop.list:
    cache: {ttl: 1m}
  shop.ship:
    circuit_breaker: {failure_threshold: 1, cooldown: 30s}
"""


def load_shop(folder, clock, text=SHOP, **more):
    """The shop's policies."""
    (folder / "shop.yaml").write_text(text)
    return load_policies(folder, "shop", clock=clock, variables={}, **more)


def gone(*args, **kwargs):
    raise ConnectionError("gone")


def fail(call, *args, error=Exception, **kwargs):
    """*call* must fail."""
    with pytest.raises(error):
        call(*args, **kwargs)
