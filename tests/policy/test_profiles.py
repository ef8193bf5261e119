from __future__ import annotations

from typing import Any

import pytest

from pixel_llm.policy import (
    CacheConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    Jitter,
    LMStudioConfig,
    LoadedPolicy,
    LoggingConfig,
    LogLevel,
    PolicyConfig,
    RotationConfig,
    Secret,
    TargetPolicy,
    load_policy,
    policy_files,
    shipped_folder,
)

RAISE = (FallbackStep(FallbackStrategy.RAISE),)
ROTATION = RotationConfig(max_size=32 * 1024**2, keep=10)


def cache(ttl: float, max_entries: int = 1000) -> FallbackStep:
    return FallbackStep(FallbackStrategy.CACHE, cache=CacheConfig(ttl=ttl, max_entries=max_entries))


#: The table of profiles. What it leaves open is None here, and not compared.
TABLE: dict[str, dict[str, Any]] = {
    "basic": {
        "timeout": 60.0,
        "retry": (3, 1.0, 60.0),
        "breaker": CircuitBreakerConfig(failure_threshold=5, cooldown=60.0, success_threshold=2),
        "fallback": RAISE,
        "logging": LoggingConfig(level=LogLevel.INFO),
    },
    "production": {
        "timeout": 30.0,
        "retry": (3, 1.0, 30.0),
        "breaker": CircuitBreakerConfig(
            failure_threshold=5, cooldown=60.0, success_threshold=2, half_open_max_calls=3
        ),
        "fallback": (
            cache(3600.0), FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="Unable to generate caption"),
        ),
        "logging": LoggingConfig(level=LogLevel.INFO, file="logs/pixel_llm.log", rotation=ROTATION),
    },
    "development": {
        "timeout": 10.0,
        "retry": (1, None, None),
        "breaker": None,
        "fallback": RAISE,
        "logging": LoggingConfig(level=LogLevel.DEBUG, console=True),
    },
    "high-throughput": {
        "timeout": 120.0,
        "retry": (5, 2.0, 60.0),
        "breaker": CircuitBreakerConfig(failure_threshold=10, cooldown=30.0),
        "fallback": (cache(7200.0, 1000),),
        "logging": LoggingConfig(level=LogLevel.WARNING, file="logs/pixel_llm.log", rotation=ROTATION),
    },
    "low-latency": {
        "timeout": 5.0,
        "retry": (1, 0.1, None),
        "breaker": CircuitBreakerConfig(failure_threshold=3, cooldown=10.0, success_threshold=1),
        "fallback": (cache(3600.0, 100),),
        "logging": LoggingConfig(level=LogLevel.ERROR),
    },
}  # fmt: skip


def load(profile: str) -> PolicyConfig:
    return load_policy(shipped_folder("policies"), profile, variables={}).config


def longest(target: TargetPolicy) -> float:
    """The longest time in seconds that every attempt and every wait of *target* can take."""
    assert target.timeout is not None
    attempts = target.retry.max_attempts if target.retry else 1
    waits = sum(target.retry.ceiling(attempt) for attempt in range(attempts - 1)) if target.retry else 0.0
    return attempts * (target.timeout.attempt or 0.0) + waits


@pytest.mark.parametrize("profile", TABLE)
class TestTable:
    def test_attempt_timeout(self, profile):
        """
        An attempt of ``lm_studio.chat`` takes no longer than the table says.
        """
        assert TABLE[profile]["timeout"] == load(profile).targets["lm_studio.chat"].timeout.attempt

    def test_retry(self, profile):
        """
        Attempts, first wait and cap are those of the table.
        """
        retry = load(profile).targets["lm_studio.chat"].retry
        actual = (retry.max_attempts, retry.initial_delay, retry.max_delay)
        expected = TABLE[profile]["retry"]

        assert expected == tuple(
            is_ if wanted is not None else None for wanted, is_ in zip(expected, actual, strict=True)
        )

    def test_breaker(self, profile):
        """
        The breaker is that of the table, or none.
        """
        assert TABLE[profile]["breaker"] == load(profile).targets["lm_studio.chat"].circuit_breaker

    def test_fallback(self, profile):
        """
        The fallback stands on the whole of ``generate()``, and nowhere else.
        """
        targets = load(profile).targets

        assert TABLE[profile]["fallback"] == targets["pixel_llm.generate"].fallback
        assert {"pixel_llm.generate"} == {name for name, target in targets.items() if target.fallback}

    def test_logging(self, profile):
        """
        The log is written as the table says.
        """
        assert TABLE[profile]["logging"] == load(profile).logging


class TestProductionJitter:
    def test_is_full(self):
        """
        Production spreads its waits, so that its clients do not return together.
        """
        assert Jitter.FULL == load("production").targets["lm_studio.chat"].retry.jitter


@pytest.mark.parametrize("profile", TABLE)
class TestDeadlines:
    def test_every_target_has_one(self, profile):
        """
        No target of a shipped profile can take for ever.
        """
        assert [] == [name for name, target in load(profile).targets.items() if target.deadline is None]

    def test_attempts_and_waits_fit(self, profile):
        """
        Every attempt may use its whole timeout and every wait its whole length within the deadline.
        """
        targets = load(profile).targets

        assert {"lm_studio.chat", "lm_studio.models"} == {name for name, target in targets.items() if target.timeout}
        for target in targets.values():
            if target.timeout:
                assert longest(target) <= target.deadline

    def test_what_generate_calls_fits_into_it(self, profile):
        """
        The encoder and the model may both use their whole deadlines within that of ``generate()``.
        """
        targets = load(profile).targets
        inner = targets["encoder.forward"].deadline + targets["lm_studio.chat"].deadline

        assert inner <= targets["pixel_llm.generate"].deadline

    def test_connecting_leaves_time_for_the_attempt(self, profile):
        """
        Making a connection takes only a part of the attempt.
        """
        timeout = load(profile).targets["lm_studio.chat"].timeout

        assert timeout.connect < timeout.attempt


class TestLowLatency:
    def test_promises_its_deadlines_tightly(self):
        """
        Ten seconds are more than anybody waits here.
        """
        targets = load("low-latency").targets

        assert targets["lm_studio.chat"].timeout.attempt == targets["lm_studio.chat"].deadline
        assert targets["pixel_llm.generate"].deadline < 10


class TestFiles:
    def test_are_the_five(self):
        """
        The table and the folder hold the same profiles.
        """
        assert sorted(TABLE) == [path.stem for path in policy_files(shipped_folder("policies"))]

    @pytest.mark.parametrize("path", policy_files(shipped_folder("policies")), ids=lambda path: path.stem)
    def test_tell_editors_their_schema(self, path):
        """
        The first line leads editors to the schema, and the schema is there.
        """
        first, *_ = path.read_text("utf-8").splitlines()
        reference = "../schemas/policy.schema.json"

        assert f"# yaml-language-server: $schema={reference}" == first
        assert (path.parent / reference).is_file()

    @pytest.mark.parametrize("profile", TABLE)
    def test_say_what_they_are_for(self, profile):
        """
        Each profile describes itself.
        """
        assert load(profile).description.endswith(".")


@pytest.mark.parametrize("profile", TABLE)
class TestLoading:
    def test_from_any_folder(self, profile, tmp_path, monkeypatch):
        """
        A shipped profile is the same from wherever it is loaded.
        """
        expected = load_policy(profile=profile, variables={})
        monkeypatch.chdir(tmp_path)
        actual = load_policy(profile=profile, variables={})

        assert isinstance(actual, LoadedPolicy)
        assert (expected.config, profile) == (actual.config, actual.profile)

    def test_needs_no_environment(self, profile):
        """
        With nothing set, a profile speaks to the server where LM Studio puts it, without a key.
        """
        defaults = LMStudioConfig()
        server = load(profile).lm_studio

        assert (defaults.base_url, defaults.model, None) == (server.base_url, server.model, server.api_key)

    def test_takes_its_server_from_the_environment(self, profile):
        """
        Address, model and key can be set without touching a file.
        """
        variables = {"LM_STUDIO_BASE_URL": "http://lm:1/v1", "LM_STUDIO_MODEL": "m", "LM_STUDIO_API_KEY": "k"}
        server = load_policy(shipped_folder("policies"), profile, variables=variables).config.lm_studio

        assert ("http://lm:1/v1", "m", Secret("k")) == (server.base_url, server.model, server.api_key)
