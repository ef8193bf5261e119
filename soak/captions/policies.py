"""The two policies, one with fallbacks, one without: times so short that thousands of failures fit into minutes."""

from __future__ import annotations

from typing import Any

#: What is served where nothing else is.
DEFAULT = "No caption."
#: Seconds that a call may take.
DEADLINE = 3.0


def policy(base_url: str, *, fallback: bool) -> dict[str, Any]:
    """Sections for ``error_config``, over the profile `basic`."""
    chain = [{"cache": {"ttl": "1h", "max_entries": 20}}, {"default_value": DEFAULT}] if fallback else ["raise"]
    return {
        "lm_studio": {"base_url": base_url, "image": {"max_side": 64}},
        "encoder": {"cache": {"max_bytes": "64KiB"}},  # less than all pictures need: some go, and come again
        "targets": {
            "pixel_llm.generate": {"deadline": f"{DEADLINE:g}s", "fallback": chain},
            "lm_studio.chat": {
                "deadline": "2s",
                "fallback": ["raise"],
                "timeout": {"attempt": "250ms", "idle": "150ms", "connect": "200ms"},
                "retry": {"max_attempts": 3, "initial_delay": "2ms", "max_delay": "10ms", "retry_after_max": "100ms"},
                "circuit_breaker": {"failure_threshold": 10, "cooldown": "30ms", "half_open_max_calls": 2},
                "bulkhead": {"max_concurrent": 12, "max_waiting": 8, "max_wait": "500ms"},
            },
        },
    }
