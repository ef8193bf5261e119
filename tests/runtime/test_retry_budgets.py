from __future__ import annotations

import pytest

from pixel_llm import load_policies
from pixel_llm.errors import ConnectionError, RetryExhausted
from pixel_llm.testing import VirtualClock

POLICY = """\
version: 1
retry_budgets:
  shop: {ratio: 0, min_retries: %d}
targets:
  shop.pay: {idempotent: true, retry: {strategy: immediate, max_attempts: 2, budget: shop}}
"""


class TestReload:
    @pytest.mark.parametrize(("allowed", "error"), [(1, RetryExhausted), (2, ConnectionError)])
    def test_named_budgets_go_on_where_they_are_as_before(self, tmp_path, allowed, error):
        """
        A policy that is loaded again forgives no retries, unless the budget itself is another.
        """
        file = tmp_path / "shop.yaml"
        file.write_text(POLICY % 1, "utf-8")

        def fail():
            raise ConnectionError("gone")

        with load_policies(tmp_path, "shop", clock=VirtualClock()) as policies:
            pay = policies.wrap("shop.pay", fail, cooperative=True)
            with pytest.raises(ConnectionError):
                pay()
            with pytest.raises(RetryExhausted):
                pay()
            file.write_text(f"{POLICY % allowed}description: New.\n", "utf-8")
            policies.reload()
            with pytest.raises(error):
                pay()
