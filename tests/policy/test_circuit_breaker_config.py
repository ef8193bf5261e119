import pytest

from pixel_llm.policy import BreakerMode, CircuitBreakerConfig, WindowConfig
from pixel_llm.policy.sections.matching import ErrorMatcher

CLOSES = "; closes after 2 trial calls, 1 at once"


class TestDefaults:
    def test_are_failures_in_a_row(self):
        """
        Where nothing is said, five failures in a row open the breaker, and nothing else does.
        """
        config = CircuitBreakerConfig()

        assert (5, 60.0, 2, 1) == (
            config.failure_threshold,
            config.cooldown,
            config.success_threshold,
            config.half_open_max_calls,
        )
        assert (False, True, True) == (config.has_rate, config.refuses, config.measures)

    @pytest.mark.parametrize(
        ("settings", "threshold"),
        [
            ({"failure_rate": 0.5}, None),
            ({"failure_rate": 0.5, "failure_threshold": 7}, 7),
            ({"slow_call_rate": 0.5, "slow_call_duration": 5.0}, 5),
        ],
    )
    def test_a_failure_rate_replaces_them(self, settings, threshold):
        """
        A failure rate stands in the place of failures in a row, unless both are given; slow calls replace nothing.
        """
        assert threshold == CircuitBreakerConfig(**settings).failure_threshold

    @pytest.mark.parametrize("window", [None, WindowConfig()])
    def test_of_the_window(self, window):
        """
        Rates are taken of the last 100 calls.
        """
        assert (100, None) == (
            CircuitBreakerConfig(window=window).measured_over.size,
            CircuitBreakerConfig(window=window).measured_over.period,
        )


class TestModes:
    @pytest.mark.parametrize(
        ("mode", "refuses", "measures"),
        [
            (BreakerMode.ENABLED, True, True),
            (BreakerMode.SHADOW, False, True),
            (BreakerMode.FORCED_OPEN, True, False),
            (BreakerMode.DISABLED, False, False),
        ],
    )
    def test_what_they_do(self, mode, refuses, measures):
        """
        A mode says whether calls are refused, and whether what they end with matters.
        """
        config = CircuitBreakerConfig(mode=mode)

        assert (refuses, measures) == (config.refuses, config.measures)


class TestCooldown:
    def test_grows_up_to_its_cap(self):
        """
        Each opening without a closing in between multiplies it.
        """
        config = CircuitBreakerConfig(cooldown=10.0, cooldown_multiplier=3.0, max_cooldown=80.0)

        assert [10.0, 30.0, 80.0, 80.0] == [config.cooldown_after(openings) for openings in (1, 2, 3, 1000)]

    def test_stays_a_number(self):
        """
        Without a cap it grows and grows, but never beyond what a float holds.
        """
        config = CircuitBreakerConfig(cooldown_multiplier=100.0)

        assert config.cooldown_after(10**6) == config.cooldown_after(10**9) < float("inf")


class TestInWords:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({}, f"opens after 5 failures in a row, for 1m{CLOSES}"),
            (
                {"failure_rate": 0.07},
                f"opens when 7% of the last 100 calls fail (20 calls at least), for 1m{CLOSES}",
            ),
            (
                {"failure_rate": 1.0, "failure_threshold": 3, "count": ErrorMatcher.of("429"), "minimum_calls": 1},
                (
                    "opens after 3 failures in a row of 429, or when 100% of the last 100 calls fail of 429 "
                    f"(1 call at least), for 1m{CLOSES}"
                ),
            ),
            (
                {
                    "slow_call_rate": 0.75,
                    "slow_call_duration": 5.0,
                    "window": WindowConfig(period=30.0),
                    "minimum_calls": 4,
                    "mode": BreakerMode.SHADOW,
                },
                (
                    "shadow, refuses nobody: opens after 5 failures in a row, or when 75% of the calls of the last 30s "
                    f"take longer than 5s (4 calls at least), for 1m{CLOSES}"
                ),
            ),
            (
                {"cooldown_multiplier": 2.0, "window": WindowConfig(calls=1), "failure_rate": 0.5, "minimum_calls": 1},
                f"opens when 50% of the last 1 call fail (1 call at least), for 1m, then × 2 each time{CLOSES}",
            ),
            (
                {
                    "cooldown_multiplier": 1.5,
                    "max_cooldown": 600.0,
                    "half_open_max_wait": 90.0,
                    "per": "model",
                    "max_keys": 7,
                },
                (
                    "opens after 5 failures in a row, for 1m, then × 1.5 each time up to 10m"
                    f"{CLOSES}, for 1m30s at most; one for each model, at most 7"
                ),
            ),
            ({"mode": BreakerMode.DISABLED}, "disabled: lets every call through, and measures nothing"),
            ({"mode": BreakerMode.FORCED_OPEN}, "forced open: refuses every call"),
        ],
    )
    def test_says_what_it_means(self, settings, words):
        """
        Every setting that does something is in the words.
        """
        assert words == CircuitBreakerConfig(**settings).in_words()
