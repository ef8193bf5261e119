"""What `explain` and the pages say of each layer, for every way in which a section can be written."""

from __future__ import annotations

import pytest

from pixel_llm.policy import load_policy_file
from pixel_llm.policy.layers_in_words import layers_in_words
from pixel_llm.policy.sections.fallback import FallbackStep, FallbackStrategy, reserved

#: A layer of `lm_studio.chat`, and its meaning.
WORDS = [
    (
        "deadline: 1m30s",
        "1m30s for the whole call",
    ),
    (
        "fallback: [cache: {ttl: 1h, max_entries: 1, max_bytes: 1KiB}, raise]",
        "cache for 1h, 1 entry, 1KiB, then raise",
    ),
    (
        "fallback: [{target: lm_studio.models, reserve: 2s, when: [TRANSIENT]}, default_value: {a: 1}]",
        "target lm_studio.models, 2s kept for it (for TRANSIENT), then default value a mapping with 'a'",
    ),
    (
        "fallback: [custom_function: shop.fn, none]",
        "function shop.fn, then none",
    ),
    (
        'fallback: [model: m2, endpoint: "http://127.0.0.1:5/v1"]',
        "model m2, then endpoint http://127.0.0.1:5/v1",
    ),
    (
        "cache: {ttl: 5m, max_entries: 7}",
        "results for 5m, 7 entries, 64MiB; equal calls at once make one",
    ),
    (
        "retry: {max_attempts: 1}",
        "1 attempt, no retry",
    ),
    (
        "retry: {max_attempts: 1, retry_on_result: empty}",
        "1 attempt, no retry; a result that empty names is a failure",
    ),
    (
        "retry: {max_attempts: 3, strategy: immediate}",
        "3 attempts in all; no waits",
    ),
    (
        "retry: {max_attempts: 3, strategy: fixed_delay, initial_delay: 2s, jitter: none}",
        "3 attempts in all; waits 2s",
    ),
    (
        "retry: {max_attempts: 3, strategy: linear_backoff, initial_delay: 2s, jitter: equal}",
        "3 attempts in all; waits 2s, then 2s more each time up to 1m, with equal jitter",
    ),
    (
        (
            "retry: {max_attempts: 4, strategy: exponential_backoff, initial_delay: 2s, max_delay: 9s, "
            "backoff_multiplier: 1.5, jitter: full}"
        ),
        "4 attempts in all; waits 2s, then × 1.5 up to 9s, with full jitter",
    ),
    (
        (
            "retry: {max_attempts: 4, strategy: exponential_backoff, initial_delay: 2s, max_delay: 9s, jitter: "
            "decorrelated, retry_on: [429, TRANSIENT]}"
        ),
        (
            "4 attempts in all, for TRANSIENT, 429; waits between 2s and 3 × the last wait, up to 9s "
            "(decorrelated jitter)"
        ),
    ),
    (
        "retry: {max_attempts: 4, budget: {ratio: 0.1}, wait_for_breaker: true}",
        (
            "4 attempts in all; waits 1s, then × 2 up to 1m, with full jitter; retries for at most 10% of the "
            "calls within 10s, or 10 if that is more; waits for an open breaker"
        ),
    ),
    (
        "retry: {max_attempts: 4, budget: shared}",
        "4 attempts in all; waits 1s, then × 2 up to 1m, with full jitter; within the shared budget shared",
    ),
    (
        "hedge: {delay: 500ms}",
        "1 more attempt beside one that takes longer than 500ms",
    ),
    (
        "hedge: {quantile: 0.95, max_hedges: 2, min_samples: 50, min_delay: 5ms, max_delay: 9s}",
        ("2 more attempts beside one that takes longer than 95 % of the latest, 5ms to 9s, once 50 have succeeded"),
    ),
    (
        "circuit_breaker: {failure_threshold: 5, cooldown: 60s}",
        "opens after 5 failures in a row, for 1m; closes after 2 trial calls, 1 at once",
    ),
    (
        (
            "circuit_breaker: {failure_threshold: 1, cooldown: 60s, max_cooldown: 4m, cooldown_multiplier: 2, "
            "half_open_max_calls: 3, success_threshold: 2}"
        ),
        ("opens after 1 failure in a row, for 1m, then × 2 each time up to 4m; closes after 2 trial calls, 3 at once"),
    ),
    (
        "circuit_breaker: {failure_rate: 0.5, minimum_calls: 10, window: {calls: 20}}",
        ("opens when 50% of the last 20 calls fail (10 calls at least), for 1m; closes after 2 trial calls, 1 at once"),
    ),
    (
        ("circuit_breaker: {slow_call_rate: 0.5, slow_call_duration: 3s, window: {period: 30s}, count: [TRANSIENT]}"),
        (
            "opens after 5 failures in a row of TRANSIENT, or when 50% of the calls of the last 30s take longer "
            "than 3s (20 calls at least), for 1m; closes after 2 trial calls, 1 at once"
        ),
    ),
    (
        "circuit_breaker: {mode: disabled}",
        "disabled: lets every call through, and measures nothing",
    ),
    (
        "circuit_breaker: {mode: forced_open}",
        "forced open: refuses every call",
    ),
    (
        "circuit_breaker: {mode: shadow}",
        ("shadow, refuses nobody: opens after 5 failures in a row, for 1m; closes after 2 trial calls, 1 at once"),
    ),
    (
        "rate_limit: {max_calls: 10, period: 1s, max_wait: 2s}",
        "10 calls in 1s; waits up to 2s",
    ),
    (
        "rate_limit: {max_calls: 10, period: 1s}",
        "10 calls in 1s; refuses at once",
    ),
    (
        "rate_limit: {max_calls: 10, period: 1s, tokens: {max_tokens: 1000, period: 1m}}",
        "10 calls in 1s and 1000 tokens in 1m; refuses at once",
    ),
    (
        "bulkhead: {max_concurrent: 4}",
        "4 at once; none waits",
    ),
    (
        "bulkhead: {max_concurrent: 4, max_waiting: 3}",
        "4 at once; 3 may wait",
    ),
    (
        ("bulkhead: {max_concurrent: 4, max_waiting: 3, max_wait: 5s, adaptive: {min_limit: 2, initial_limit: 3}}"),
        "4 at once (adaptive from 2, × 0.9 at overload); 3 may wait up to 5s",
    ),
    (
        (
            "bulkhead: {max_concurrent: 4, adaptive: {min_limit: 2, initial_limit: 3, slow_call_duration: 20s, "
            "backoff_ratio: 0.75}}"
        ),
        "4 at once (adaptive from 2, × 0.75 at overload or calls over 20s); none waits",
    ),
    (
        "timeout: 30s",
        "30s for each attempt",
    ),
    (
        "timeout: {connect: 2s}",
        "2s to connect",
    ),
    (
        ("timeout: {attempt: 30s, connect: 2s, first_token: 5s, idle: 3s, max_pause: 1m, max_abandoned_threads: 1}"),
        (
            "30s for each attempt, 2s to connect, 5s to a stream's first content, 3s for each further chunk, 1m "
            "for the consumer of a stream to pause, refused beyond 1 abandoned thread"
        ),
    ),
    (
        "timeout: {max_pause: 1m, max_abandoned_threads: 7}",
        "1m for the consumer of a stream to pause",
    ),
    (
        "timeout: {}",
        "none",
    ),
    (
        "timeout: {idle: 4s, max_abandoned_threads: 7}",
        "4s for each further chunk, refused beyond 7 abandoned threads",
    ),
    (
        (
            "chaos: {delay: {rate: 0.5, duration: 2s}, error: {rate: 0.1, codes: [ERR_CONN_REFUSED, "
            "ERR_API_RATE_LIMIT]}, result: {rate: 0.01, value: x}, seed: 7}"
        ),
        (
            "delays 50 % of the attempts by 2s, fails 10 % of the attempts with ERR_CONN_REFUSED, "
            "ERR_API_RATE_LIMIT, gives 'x' to 1 % of the attempts; seed 7"
        ),
    ),
    (
        "chaos: {error: {rate: 0.1, codes: [ERR_CONN_REFUSED]}}",
        "fails 10 % of the attempts with ERR_CONN_REFUSED",
    ),
    (
        "chaos: {result: {rate: 1, value: [1]}}",
        "gives a list to 100 % of the attempts",
    ),
    (
        "chaos: {delay: {rate: 0.125, duration: 2s}}",
        "delays 12.5 % of the attempts by 2s",
    ),
]

ALL = """version: 1
targets:
  lm_studio.chat:
    chaos: {delay: {rate: 0.5, duration: 1s}}
    timeout: 1s
    bulkhead: {max_concurrent: 4}
    rate_limit: {max_calls: 10, period: 1s}
    circuit_breaker: {failure_threshold: 5}
    hedge: 500ms
    retry: {max_attempts: 2}
    cache: {ttl: 1h}
    fallback: [none]
    deadline: 9s
"""


@pytest.fixture
def target(tmp_path):
    """The target `lm_studio.chat` of a policy."""

    def target(text):
        file = tmp_path / "policy.yaml"
        file.write_text(text, "utf-8")
        return load_policy_file(file, variables={}).config.targets["lm_studio.chat"]

    return target


class TestLayersInWords:
    @pytest.mark.parametrize(("layer", "words"), WORDS)
    def test_say_what_a_section_means(self, layer, words, target):
        """
        Only what the section says is told, and what there is one of is no plural.
        """
        text = f"version: 1\nretry_budgets: {{shared: {{}}}}\ntargets:\n  lm_studio.chat:\n    {layer}\n"

        assert [(layer.partition(":")[0], words), ("call", "")] == target(text).layers_in_words()

    def test_outermost_first(self, target):
        """
        The order is the stack's, however the policy is written; the call itself comes last and needs no words.
        """
        names = [
            "deadline", "fallback", "cache", "retry", "hedge", "circuit_breaker", "rate_limit", "bulkhead", "timeout",
            "chaos", "call",
        ]  # fmt: skip

        assert names == [name for name, _ in target(ALL).layers_in_words()]

    def test_of_nothing(self, target):
        """
        A target without any layer is the call.
        """
        assert [("call", "")] == target("version: 1\ntargets: {lm_studio.chat: {}}\n").layers_in_words()


class TestSeveralServers:
    def words(self, tmp_path, lm_studio, target="lm_studio.chat"):
        file = tmp_path / "policy.yaml"
        layers = "{deadline: 9s, retry: {max_attempts: 2}, circuit_breaker: {failure_threshold: 5}, timeout: 1s}"
        file.write_text(
            f"version: 1\nlm_studio: {lm_studio}\ntargets: {{lm_studio.chat: {layers}, lm_studio.models: {layers}}}\n",
            "utf-8",
        )
        return layers_in_words(load_policy_file(file, variables={}).config, target)

    def test_stand_above_the_layers_of_each(self, tmp_path):
        """
        The layers of the whole call stand above the servers, those that each has for itself below.
        """
        two = "[{base_url: 'http://a/v1'}, {base_url: 'http://b/v1'}]"

        words = self.words(tmp_path, f"{{endpoints: {two}, cold_start: {{grace: 45s}}}}")

        assert ["deadline", "retry", "endpoints", "cold_start", "circuit_breaker", "timeout", "call"] == [
            name for name, _ in words
        ]
        assert "2 servers, each in turn; each has the layers below for itself" == dict(words)["endpoints"]
        assert "up to 45s for a model that is not loaded, before the attempt" == dict(words)["cold_start"]

    def test_the_least_busy(self, tmp_path):
        """
        How they are chosen is told.
        """
        two = "[{base_url: 'http://a/v1'}, {base_url: 'http://b/v1'}]"
        words = self.words(tmp_path, f"{{endpoints: {two}, balance: least_busy}}")

        assert "2 servers, the least busy first; each has the layers below for itself" == dict(words)["endpoints"]

    def test_one_server(self, tmp_path):
        """
        One server is not told of; nor is a cold start where no model is asked for.
        """
        cold = "{cold_start: {grace: 45s}}"

        assert "endpoints" not in dict(self.words(tmp_path, cold))
        assert "cold_start" in dict(self.words(tmp_path, cold))
        assert "cold_start" not in dict(self.words(tmp_path, cold, "lm_studio.models"))
        assert self.words(tmp_path, "{}") == [layer for layer in self.words(tmp_path, cold) if layer[0] != "cold_start"]


class TestReserved:
    def test_is_the_sum(self):
        """
        What the steps of a chain keep of the deadline adds up; a step that keeps nothing adds nothing.
        """
        steps = [FallbackStep(FallbackStrategy.TARGET, value="a.b", reserve=seconds) for seconds in (2.0, None, 0.5)]

        assert (2.5, 0.0) == (reserved(steps), reserved([]))
