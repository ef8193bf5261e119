"""``pixel-llm policy diff``"""

from __future__ import annotations

import json

import pytest
from command import git, policy

BEFORE = "version: 1\ntargets: {lm_studio.chat: {timeout: 30s, retry: {strategy: fixed_delay, retry_after_max: 2s}}}\n"
AFTER = (
    "version: 1\ntargets:\n  lm_studio.chat:\n    timeout: 60s\n"
    "    retry: {strategy: fixed_delay, retry_after_max: 2s, max_attempts: 5}\n"
)


class TestPolicyDiff:
    def test_by_meaning(self, tmp_path):
        """First what a call can cost, then the settings, whatever the lines look like."""
        (tmp_path / "before.yaml").write_text(BEFORE)
        (tmp_path / "after.yaml").write_text(AFTER)
        done = policy("diff", "before.yaml", "after.yaml", cwd=tmp_path)

        assert (0, "") == (done.returncode, done.stderr)
        assert [
            "What a call can cost",
            "  lm_studio.chat",
            "    worst case 1m36s → 5m12s",
            "    attempts at worst 3 → 5",
            "",
            "Settings",
            "  lm_studio.chat",
            "    retry.max_attempts 3 → 5",
            "    timeout.attempt 30s → 1m",
        ] == done.stdout.splitlines()

    def test_breaker(self, tmp_path):
        """When the breaker opens is compared at the stated rate."""
        breaker = "version: 1\ntargets: {a.b: {timeout: 2s, circuit_breaker: {failure_threshold: %s}}}\n"
        (tmp_path / "before.yaml").write_text(breaker % 2)
        (tmp_path / "after.yaml").write_text(breaker % 6)
        done = policy("diff", "before.yaml", "after.yaml", "--rate", "2", cwd=tmp_path)

        assert "    breaker opens, connections refused, after 1s → 3s" in done.stdout.splitlines()
        assert "    breaker opens, no answers, after 3s → 5s" in done.stdout.splitlines()

    def test_same(self, tmp_path):
        """Policies that are written differently may mean the same."""
        (tmp_path / "before.yaml").write_text(BEFORE)
        (tmp_path / "after.yaml").write_text(
            "version: 1\ndescription: Other words.\n"
            "templates: {retry: {r: {strategy: fixed_delay, retry_after_max: 2s}}}\n"
            "targets: {lm_studio.chat: {timeout: {attempt: 30000ms}, retry: r}}\n"
        )
        done = policy("diff", "before.yaml", "after.yaml", cwd=tmp_path)

        assert (0, "before.yaml and after.yaml mean the same.\n") == (done.returncode, done.stdout)

    def test_json(self, tmp_path):
        """One object a change, bounds first, as numbers: seconds, counts, bytes."""
        changes = json.loads(policy("diff", "basic", "low-latency", "--format", "json", cwd=tmp_path).stdout)
        kinds = [change["kind"] for change in changes]

        assert {"kind", "target", "what", "before", "after"} == set(changes[0])
        assert kinds == sorted(kinds)
        latency = {"target": "lm_studio.chat", "what": "worst_latency", "before": 190.0, "after": 5.0}
        assert {"kind": "bound", **latency} in changes
        assert {"bound", "setting"} == set(kinds)

    def test_secrets(self, tmp_path):
        """That a key has changed is shown, the keys are not."""
        for name in ("a", "b"):
            (tmp_path / f"{name}.yaml").write_text(f"version: 1\nlm_studio: {{api_key: '${{{name.upper()}_KEY}}'}}\n")
        for style in ("text", "json"):
            done = policy(
                "diff", "a.yaml", "b.yaml", "--format", style, cwd=tmp_path, A_KEY="sk-first", B_KEY="sk-second"
            )

            assert 0 == done.returncode
            assert "sk-" not in done.stdout + done.stderr
            assert "*** (another one)" in done.stdout

    def test_revision(self, tmp_path):
        """git:REV alone is the other one as it was then."""
        git("init", "--quiet", "--initial-branch", "main", cwd=tmp_path)
        (tmp_path / "chat.yaml").write_text(BEFORE)
        git("add", ".", cwd=tmp_path)
        git("commit", "--quiet", "--message", "Before", cwd=tmp_path)
        (tmp_path / "chat.yaml").write_text(AFTER)

        for words in (["git:main", "chat.yaml"], ["git:main:chat.yaml", "chat.yaml"]):
            assert "worst case 1m36s → 5m12s" in policy("diff", *words, cwd=tmp_path).stdout
        assert "worst case 5m12s → 1m36s" in policy("diff", "chat.yaml", "git:HEAD", cwd=tmp_path).stdout
        assert "mean the same" in policy("diff", "git:main", "git:HEAD", cwd=tmp_path).stdout

    def test_standard_input(self, tmp_path):
        """One of the two may come from standard input."""
        (tmp_path / "before.yaml").write_text(BEFORE)

        assert "1m36s → 5m12s" in policy("diff", "before.yaml", "-", cwd=tmp_path, stdin=AFTER).stdout
        assert 2 == policy("diff", "-", "-", cwd=tmp_path).returncode

    @pytest.mark.parametrize("words", [[], ["basic"], ["basic", "production", "--rate", "0"]])
    def test_wrong_usage(self, tmp_path, words):
        """Too few policies, and a rate of nothing, are wrong usage."""
        assert 2 == policy("diff", *words, cwd=tmp_path).returncode

    def test_wrong_policy(self, tmp_path):
        """A policy that is wrong can't be compared; its problems are listed."""
        (tmp_path / "wrong.yaml").write_text("version: 2\n")
        done = policy("diff", "basic", "wrong.yaml", cwd=tmp_path)

        assert (1, "", "wrong.yaml:1:10: version: must be 1 (got 2)\n") == (done.returncode, done.stdout, done.stderr)
