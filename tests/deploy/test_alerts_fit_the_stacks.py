"""What the alerts look for is what stacks show when it happens: without Prometheus, by the series themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pixel_llm.errors import ErrorCode, TimeoutError
from pixel_llm.monitoring.exposition.text import write_text
from pixel_llm.runtime import load_policies
from pixel_llm.testing import VirtualClock

ROOT = Path(__file__).parents[2]
RULES = {
    rule["alert"]: rule["expr"]
    for group in yaml.safe_load((ROOT / "deploy/prometheus/pixel-llm.rules.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
}
PROFILES = sorted(
    file.stem for file in (ROOT / "policies").glob("*.yaml") if "circuit_breaker: null" not in file.read_text("utf-8")
)


def matching(policies, selector):
    """The values of the series that a selector such as ``name{label!="value"}`` matches now."""
    name, _, matchers = selector.rstrip("}").partition("{")
    wanted = re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', matchers)
    fits = {
        "=": lambda value, want: value == want,
        "!=": lambda value, want: value != want,
        "=~": lambda value, want: re.fullmatch(want, value) is not None,
    }
    samples = [
        sample
        for family in text_string_to_metric_families(write_text([policies.snapshot()]))
        for sample in family.samples
        if sample.name == name
    ]
    return [one.value for one in samples if all(fits[how](one.labels[label], want) for label, how, want in wanted)]


def selectors(alert, name):
    """The selectors of one metric in an alert."""
    return re.findall(rf"\b{name}\b(?:{{[^}}]*}})?", RULES[alert])


@pytest.mark.parametrize("profile", PROFILES)
def test_a_silent_server_keeps_the_alert_going(profile):
    """
    While each trial hangs until its timeout the breaker is open and half open in turns: the alert sees both.
    """
    clock = VirtualClock()
    (selector,) = selectors("PixelLLMCircuitOpen", "pixel_llm_circuit_state")
    seen = []
    with load_policies(ROOT / "policies", profile, clock=clock, variables={}) as policies:
        target = policies.config.targets["lm_studio.chat"]
        breaker = policies.breaker("lm_studio.chat")

        def look():
            if seen or breaker.state == "open":
                seen.append((clock.monotonic(), breaker.state, sum(matching(policies, selector))))

        def hang():
            look()
            clock.advance(target.timeout.attempt)
            raise TimeoutError("silence", error_code=ErrorCode.ERR_TIMEOUT_REQUEST)

        chat = policies.wrap("lm_studio.chat", hang, cooperative=True, key=lambda: 1)
        while not seen or seen[-1][0] - seen[0][0] < 300:
            with pytest.raises(Exception, match=r"silence|circuit breaker"):
                chat()
            look()
            clock.advance(1)

    assert {"open", "half_open"} == {state for _, state, _ in seen}
    assert {1.0} == {value for *_, value in seen}


def test_a_shadow_is_not_looked_at(tmp_path):
    """
    A breaker that only watches never matches, whatever it would do.
    """
    (tmp_path / "shop.yaml").write_text(
        "version: 1\ntargets: {shop.pay: {circuit_breaker: {failure_threshold: 1, mode: shadow}}}"
    )
    (selector,) = selectors("PixelLLMCircuitOpen", "pixel_llm_circuit_state")
    with load_policies(tmp_path, "shop", variables={}) as policies:
        with pytest.raises(ConnectionError):
            policies.wrap("shop.pay", _gone)()

        assert 1 not in matching(policies, selector)


@pytest.mark.parametrize(("share", "is_cut"), [(0.57, False), (0.99, False), (1.01, True)])
@pytest.mark.parametrize("timeout", [5, 10, 30, 60, 120, 700])
def test_only_attempts_that_are_cut_are_out_of_time(tmp_path, timeout, share, is_cut):
    """
    However the bounds of the histogram lie to the timeout: calls that keep within it are none of the alert's.
    """
    clock = VirtualClock()
    (tmp_path / "shop.yaml").write_text(f"version: 1\ntargets: {{shop.pay: {{timeout: {timeout}s}}}}")
    (selector,) = selectors("PixelLLMAttemptsTimeOut", "pixel_llm_attempt_errors_total")

    def work():
        clock.advance(timeout * share)
        if share > 1:  # as a client does that is given the time that is left
            raise TimeoutError("too long", error_code=ErrorCode.ERR_TIMEOUT_REQUEST)

    with load_policies(tmp_path, "shop", clock=clock, variables={}) as policies:
        pay = policies.wrap("shop.pay", work, cooperative=True)
        for _ in range(3):
            if is_cut:
                with pytest.raises(TimeoutError):
                    pay()
            else:
                pay()

        assert (3 if is_cut else 0) == sum(matching(policies, selector))


def test_no_alert_compares_quantiles():
    """
    Buckets double, so a quantile is off by a factor of two: no limit can be told from half of it.
    """
    assert [] == [alert for alert, expr in RULES.items() if "quantile" in expr]


def _gone() -> None:
    raise ConnectionError("gone")
