from __future__ import annotations

import pytest

from pixel_llm.policy.checking import check_files


@pytest.mark.parametrize(
    "retry",
    [
        "{jitter: decorrelated}",
        "{jitter: decorrelated, strategy: immediate}",
        "{jitter: decorrelated, max_attempts: 1, backoff_multiplier: 4}",
    ],
)
def test_decorrelated_jitter_alone_replaces_nothing(tmp_path, retry):
    """PL210 is about settings that are written beside it and do nothing."""
    path = tmp_path / "policy.yaml"
    path.write_text(f"version: 1\ntargets: {{lm_studio.chat: {{retry: {retry}}}}}\n", "utf-8")

    assert "PL210" not in {problem.rule for problem in check_files([path], variables={}).problems}


@pytest.mark.parametrize(("cooldown", "told"), [("29s", False), ("30s", True)])
def test_a_cooldown_as_long_as_the_deadline_is_too_long(tmp_path, cooldown, told):
    """The breaker is asked again when the time is up."""
    target = f"{{deadline: 30s, retry: {{wait_for_breaker: true}}, circuit_breaker: {{cooldown: {cooldown}}}}}"
    path = tmp_path / "policy.yaml"
    path.write_text(f"version: 1\ntargets: {{lm_studio.chat: {target}}}\n", "utf-8")

    assert told is ("PL214" in {problem.rule for problem in check_files([path], variables={}).problems})
