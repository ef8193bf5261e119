"""``pixel-llm policy explain``"""

from __future__ import annotations

import json
import re

from command import policy

SHOP = """
version: 1
targets:
  shop.pay:
    deadline: 9s
    idempotent: true
    fallback:
      - cache: {ttl: 5m, max_entries: 1, max_bytes: 2MiB}
      - default_value: 'a "quoted" <b>; #1'
    retry: {strategy: fixed_delay, max_attempts: 2, initial_delay: 1s}
    circuit_breaker: {failure_threshold: 1, success_threshold: 1}
    timeout: 3s
  shop.look: {}
"""


class TestPolicyExplain:
    def test_text(self, tmp_path):
        """Each target's layers, outermost first, then its bounds; one of a thing is not called several."""
        done = policy("explain", "-", cwd=tmp_path, stdin=SHOP)

        assert (0, "") == (done.returncode, done.stderr)
        assert [
            "from standard input",
            "",
            "shop.pay",
            "  deadline         9s for the whole call",
            "  fallback         cache for 5m, 1 entry, 2MiB, then default value 'a \"quoted\" <b>; #1'",
            "  retry            2 attempts in all; waits 1s, with full jitter",
            "  circuit_breaker  opens after 1 failure in a row, for 1m; closes after 1 trial call, 1 at once",
            "  timeout          3s for each attempt",
            "  call",
            "  at worst         9s, 2 attempts",
            "  breaker opens    1s into an outage that refuses connections, at 1 call a second",
            "                   4s into one that gives no answer",
            "  cache            at most 2MiB",
            "",
            "shop.look",
            "  call",
            "  at worst         without bound, 1 attempt",
        ] == done.stdout.splitlines()

    def test_one_target(self, tmp_path):
        """--target shows one; an unknown one gets a suggestion."""
        done = policy("explain", "production", "--target", "lm_studio.chat", "--rate", "0.5", cwd=tmp_path)
        wrong = policy("explain", "production", "--target", "lm_studio.chta", cwd=tmp_path)

        assert "\nlm_studio.chat\n" in done.stdout
        assert "encoder.load" not in done.stdout
        assert "at 0.5 calls a second" in done.stdout
        assert 1 == wrong.returncode
        assert "there is no target 'lm_studio.chta'; did you mean \"lm_studio.chat\"?" in wrong.stderr

    def test_no_target(self, tmp_path):
        """A policy that guards nothing is said to."""
        done = policy("explain", "-", cwd=tmp_path, stdin="version: 1\n")
        wrong = policy("explain", "-", "--target", "a.b", cwd=tmp_path, stdin="version: 1\n")

        assert "It names no targets: nothing is guarded." in done.stdout
        assert (1, "<stdin>: targets: there is no target 'a.b'; there are none\n") == (wrong.returncode, wrong.stderr)

    def test_never(self, tmp_path):
        """A breaker that no outage opens is said to open never."""
        text = "version: 1\ntargets: {a.b: {circuit_breaker: {count: ['429']}}}\n"
        done = policy("explain", "-", cwd=tmp_path, stdin=text)

        assert "breaker opens    never in an outage that refuses connections" in done.stdout

    def test_json(self, tmp_path):
        """Programs get the layers and the bounds as numbers, null for what has no bound."""
        done = policy("explain", "-", "--format", "json", "--rate", "2", cwd=tmp_path, stdin=SHOP)
        targets = json.loads(done.stdout)["targets"]

        assert {"layer": "timeout", "meaning": "3s for each attempt"} in targets["shop.pay"]["layers"]
        assert {
            "target": "shop.pay",
            "worst_latency": 9.0,
            "worst_attempts": 2,
            "typical_attempts": 1,
            "worst_upstream_calls": 2,
            "opens_after": 0.5,
            "opens_after_silence": 3.5,
            "rate": 2.0,
            "cache_bytes": 2 * 1024 * 1024,
            "held_back": False,
        } == targets["shop.pay"]["bounds"]
        assert targets["shop.look"]["bounds"]["worst_latency"] is None

    def test_mermaid(self, tmp_path):
        """A flowchart, in which nothing of a policy's texts means anything to Mermaid or HTML."""
        done = policy("explain", "-", "--format", "mermaid", cwd=tmp_path, stdin=SHOP)
        lines = done.stdout.splitlines()

        assert "flowchart LR" == lines[0]
        assert '  subgraph t0["shop.pay"]' in lines
        assert "    t0_0 --> t0_1 --> t0_2 --> t0_3 --> t0_4 --> t0_5" in lines
        assert 2 == lines.count("  end")
        for line in lines:
            for label in re.findall(r'\["(.*)"\]$', line):
                text = label.replace("<b>", "").replace("</b>", "").replace("<br/>", "")
                assert not set('"<>') & set(text)
                assert re.fullmatch(r"[^#;]*(#\d+;[^#;]*|; [^#;]*)*", text.replace("; ", ";\N{SPACE}"))

    def test_wrong_usage(self, tmp_path):
        """A rate must be more than nothing, a format one of those there are."""
        assert 2 == policy("explain", "--rate", "0", cwd=tmp_path).returncode
        assert 2 == policy("explain", "--format", "sarif", cwd=tmp_path).returncode
