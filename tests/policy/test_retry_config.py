from __future__ import annotations

import pytest

from pixel_llm.policy import Jitter, RetryConfig, RetryStrategy


class TestRetryConfig:
    def test_defaults(self):
        """
        Three attempts, waits from one second to one minute, doubling, with full jitter.
        """
        config = RetryConfig()
        actual = (config.max_attempts, config.initial_delay, config.max_delay, config.backoff_multiplier)

        assert (3, 1.0, 60.0, 2.0) == actual
        assert (RetryStrategy.EXPONENTIAL_BACKOFF, Jitter.FULL) == (config.strategy, config.jitter)

    @pytest.mark.parametrize(
        ("jitter", "expected"),
        [(True, Jitter.FULL), (False, Jitter.NONE), ("full", Jitter.FULL), ("none", Jitter.NONE)],
    )
    def test_jitter_in_python(self, jitter, expected):
        """
        True means full, as other libraries have it; the texts of YAML work too.
        """
        assert expected is RetryConfig(jitter=jitter).jitter

    def test_unknown_jitter(self):
        """
        Any other jitter is an error at once.
        """
        with pytest.raises(ValueError, match="'some' is not a valid Jitter"):
            RetryConfig(jitter="some")


class TestCeiling:
    @pytest.mark.parametrize(
        ("strategy", "expected"),
        [
            (RetryStrategy.EXPONENTIAL_BACKOFF, [2.0, 6.0, 18.0, 30.0, 30.0]),
            (RetryStrategy.LINEAR_BACKOFF, [2.0, 4.0, 6.0, 8.0, 10.0]),
            (RetryStrategy.FIXED_DELAY, [2.0, 2.0, 2.0, 2.0, 2.0]),
            (RetryStrategy.IMMEDIATE, [0.0, 0.0, 0.0, 0.0, 0.0]),
        ],
    )
    def test_grows_by_the_strategy(self, strategy, expected):
        """
        The wait after attempt n, counted from 0, is what the strategy says, up to ``max_delay``.
        """
        config = RetryConfig(strategy=strategy, initial_delay=2.0, max_delay=30.0, backoff_multiplier=3.0)

        assert expected == [config.ceiling(attempt) for attempt in range(5)]

    @pytest.mark.parametrize("strategy", RetryStrategy)
    def test_late_attempts(self, strategy):
        """
        However many attempts there were, the wait is bounded and nothing overflows.
        """
        config = RetryConfig(strategy=strategy, backoff_multiplier=100.0)

        assert config.ceiling(10_000) <= 60.0


class TestCalculateDelay:
    def test_without_jitter(self):
        """
        Without jitter, the wait is exactly as long as computed.
        """
        config = RetryConfig(jitter=Jitter.NONE)

        assert [1.0, 2.0, 4.0] == [config.calculate_delay(attempt) for attempt in range(3)]

    def test_full_jitter_stays_below_the_ceiling(self):
        """
        Full jitter draws between nothing and the computed wait, and not always the same.
        """
        config = RetryConfig(initial_delay=8.0)
        delays = [config.calculate_delay(1) for _ in range(200)]

        assert 0.0 <= min(delays) < max(delays) <= 16.0
        assert min(delays) < 4.0 < 12.0 < max(delays)
