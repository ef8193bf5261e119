"""What a model value that a program has made is told, by the kind of its setting."""

from __future__ import annotations

import pytest

from pixel_llm.policy import (
    CacheConfig,
    ChaosConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    RetryBudgetConfig,
    RetryConfig,
    TargetPolicy,
    TimeoutConfig,
    load_policy_file,
)
from pixel_llm.policy.kinds import Size
from pixel_llm.policy.sections.chaos import ChaosResult
from pixel_llm.policy.sections.fallback import FALLBACK_CHAIN
from pixel_llm.policy.settings import Section


class TestComplain:
    @pytest.mark.parametrize(
        ("size", "complaint"),
        [
            (1, ""),
            (0, "must be a number of bytes (got 0)"),
            (-5, "must be a number of bytes (got -5)"),
            (True, "must be a number of bytes (got True)"),
            (1.5, "must be a number of bytes (got 1.5)"),
            ("64MiB", "must be a number of bytes (got '64MiB')"),
        ],
    )
    def test_of_a_size(self, size, complaint):
        """
        In Python a size is a positive number of bytes; the words of policies are for policies.
        """
        assert complaint == Size().complain(size)
        assert (f"max_bytes {complaint}" if complaint else "") == Section(CacheConfig).complain(
            CacheConfig(max_bytes=size)
        )

    @pytest.mark.parametrize("value", [None, "", object()])
    def test_of_what_may_be_anything(self, value):
        """
        A value of any kind is never wrong.
        """
        assert "" == Section(ChaosConfig).complain(ChaosConfig(result=ChaosResult(rate=1.0, value=value)))

    @pytest.mark.parametrize(
        ("target", "complaint"),
        [
            (TargetPolicy(), ""),
            (TargetPolicy(timeout=TimeoutConfig(attempt=1.0), retry=RetryConfig()), ""),
            (TargetPolicy(fallback=(FallbackStep(FallbackStrategy.NONE),)), ""),
            (TargetPolicy(timeout=1.0), "timeout must be a TimeoutConfig (got 1.0)"),
            (
                TargetPolicy(circuit_breaker=CircuitBreakerConfig(cooldown="1s")),
                "circuit_breaker cooldown must be more than 0 seconds, as a number (got '1s')",
            ),
        ],
    )
    def test_of_what_has_a_short_form(self, target, complaint):
        """
        In Python there is only the long form: a section's config, which is looked into.
        """
        assert complaint == Section(TargetPolicy).complain(target)


class TestThaw:
    def test_of_fallback_steps(self):
        """
        A chain goes back to what a policy file would say, and comes back the same.
        """
        written = [
            {"target": "shop.till", "reserve": "2s", "when": ["TRANSIENT", "429"]},
            {"cache": {"ttl": "1m", "max_entries": 5, "max_bytes": "1KiB"}},
            {"default_value": [1, {"a": None}]},
            {"custom_function": "shop.apologise"},
            "none",
        ]
        steps = FALLBACK_CHAIN.freeze(written)

        assert (2.0, None) == (steps[0].reserve, steps[3].reserve)
        assert written == FALLBACK_CHAIN.thaw(steps)
        assert steps == FALLBACK_CHAIN.freeze(FALLBACK_CHAIN.thaw(steps))

    def test_of_what_is_a_name_or_the_thing_itself(self):
        """
        A retry budget goes back to a map, the name of a shared one to that name.
        """
        kind = Section(RetryConfig)
        own = RetryBudgetConfig(ratio=0.5, min_retries=3)

        assert {"ratio": 0.5, "min_retries": 3, "window": "10s"} == kind.thaw(RetryConfig(budget=own))["budget"]
        assert "ours" == kind.thaw(RetryConfig(budget="ours"))["budget"]


class TestResolve:
    def test_null_in_place_of_a_list(self, tmp_path):
        """
        A null where nothing is inherited leaves the default, of lists as of anything else.
        """
        file = tmp_path / "policy.yaml"
        file.write_text("version: 1\ntargets: {lm_studio.chat: {retry: {retry_on: null}, fallback: null}}\n")
        target = load_policy_file(file, variables={}).config.targets["lm_studio.chat"]

        assert (RetryConfig(), None) == (target.retry, target.fallback)
