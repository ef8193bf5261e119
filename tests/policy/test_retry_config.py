from __future__ import annotations

import pytest

from pixel_llm.policy import Jitter, RetryBudgetConfig, RetryConfig, RetryStrategy


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

    @pytest.mark.parametrize("strategy", RetryStrategy)
    @pytest.mark.parametrize("jitter", Jitter)
    def test_stays_between_floor_and_ceiling(self, jitter, strategy):
        """
        However chance plays, a wait is neither shorter than its certain part nor longer than the computed one.
        """
        config = RetryConfig(jitter=jitter, strategy=strategy, initial_delay=2.0, max_delay=30.0)
        for attempt in range(6):
            delays = [config.calculate_delay(attempt) for _ in range(50)]

            assert config.floor(attempt) <= min(delays) <= max(delays) <= config.ceiling(attempt)

    def test_equal_jitter_leaves_half_to_chance(self):
        """
        Equal jitter waits at least half of the computed wait.
        """
        config = RetryConfig(initial_delay=8.0, jitter=Jitter.EQUAL)
        delays = [config.calculate_delay(1) for _ in range(200)]

        assert 8.0 <= min(delays) < 10.0 < 14.0 < max(delays) <= 16.0

    def test_decorrelated_jitter_grows_by_three(self):
        """
        Decorrelated jitter starts at ``initial_delay`` and at most trebles, whatever strategy and multiplier say.
        """
        config = RetryConfig(
            initial_delay=2.0, max_delay=30.0, backoff_multiplier=9.0, jitter=Jitter.DECORRELATED,
            strategy=RetryStrategy.LINEAR_BACKOFF,
        )  # fmt: skip

        assert [6.0, 18.0, 30.0] == [config.ceiling(attempt) for attempt in range(3)]
        assert [2.0, 2.0, 2.0] == [config.floor(attempt) for attempt in range(3)]
        assert 6.0 < max(config.calculate_delay(2) for _ in range(200))
        assert 2.0 <= config.draw(5, 2.0) <= 6.0


class TestInWords:
    @pytest.mark.parametrize(
        ("config", "expected"),
        [
            (RetryConfig(), "3 attempts in all; waits 1s, then × 2 up to 1m, with full jitter"),
            (RetryConfig(max_attempts=1), "1 attempt, no retry"),
            (
                RetryConfig(strategy=RetryStrategy.FIXED_DELAY, jitter=Jitter.EQUAL),
                "3 attempts in all; waits 1s, with equal jitter",
            ),
            (
                RetryConfig(jitter=Jitter.DECORRELATED, budget="lm_studio", wait_for_breaker=True),
                (
                    "3 attempts in all; waits between 1s and 3 × the last wait, up to 1m (decorrelated jitter); "
                    "within the shared budget lm_studio; waits for an open breaker"
                ),
            ),
            (
                RetryConfig(strategy=RetryStrategy.IMMEDIATE, budget=RetryBudgetConfig()),
                "3 attempts in all; no waits; retries for at most 20% of the calls within 10s, or 10 if that is more",
            ),
            (
                RetryConfig(strategy=RetryStrategy.IMMEDIATE, budget=RetryBudgetConfig(min_retries=0)),
                "3 attempts in all; no waits; retries for at most 20% of the calls within 10s",
            ),
        ],
    )
    def test_says_what_it_does(self, config, expected):
        """
        What ``policy explain`` says of the layer.
        """
        assert expected == config.in_words()
