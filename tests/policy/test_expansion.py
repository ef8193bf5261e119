from __future__ import annotations

from typing import Any

import pytest

from pixel_llm.policy import SYSTEM_TARGETS
from pixel_llm.policy.expansion import expand
from pixel_llm.policy.nodes import Node
from pixel_llm.policy.reading import read_bytes
from pixel_llm.policy.templates import Templates


def node(text: str) -> Node:
    document = read_bytes(text.encode(), name="p.yaml")
    templates = Templates(document)
    expanded = expand(document, templates)
    assert [] == templates.problems
    return expanded


def targets(text: str) -> Any:
    """The targets of the policy that *text* writes."""
    return node(text).plain().get("targets")


class TestDefaults:
    def test_lie_below_every_target(self):
        """
        What a target does not say comes from `defaults`, setting by setting.
        """
        text = (
            "defaults: {deadline: 60s, retry: {max_attempts: 2, jitter: none}}\n"
            "targets: {a: {retry: {max_attempts: 3}}}"
        )

        assert {"deadline": "60s", "retry": {"max_attempts": 3, "jitter": "none"}} == targets(text)["a"]

    def test_reach_the_system_s_targets(self):
        """
        Each of the system's own targets has them, named or not.
        """
        assert {name: {"deadline": "60s"} for name in SYSTEM_TARGETS} == targets("defaults: {deadline: 60s}")

    def test_null_keeps_them_out(self):
        """
        A target removes a layer that `defaults` would bring, or a setting of it.
        """
        text = (
            "defaults: {deadline: 60s, timeout: {attempt: 5s, connect: 1s}}\n"
            "targets: {a: {deadline: null, timeout: {connect: null}}}"
        )

        assert {"timeout": {"attempt": "5s"}} == targets(text)["a"]

    def test_null_for_a_target_keeps_all_of_them_out(self):
        """
        A target that is removed is not there, whatever `defaults` say.
        """
        assert {*SYSTEM_TARGETS} - {"lm_studio.chat"} == set(
            targets("defaults: {deadline: 60s}\ntargets: {lm_studio.chat: null}")
        )

    def test_are_used_up(self):
        """
        Neither `defaults` nor `templates` are left in what holds.
        """
        document = node("version: 1\ntemplates: {retry: {patient: {}}}\ndefaults: {deadline: 60s}").plain()

        assert {"version", "targets"} == set(document)

    @pytest.mark.parametrize(
        "text", ["version: 1", "defaults: null", "defaults: null\ntargets: {lm_studio.chat: null}"]
    )
    def test_nothing_said(self, text):
        """
        Without anything to say of a target there is none.
        """
        assert not targets(text)


class TestPatterns:
    def test_lie_over_defaults_and_below_the_target(self):
        """
        `defaults`, then the pattern, then the target: the more specific one counts.
        """
        text = (
            "defaults: {deadline: 1s, timeout: 1s, idempotent: false}\n"
            "targets: {billing.*: {deadline: 2s, timeout: 2s}, billing.charge: {deadline: 3s}}"
        )

        assert {"deadline": "3s", "timeout": {"attempt": "2s"}, "idempotent": False} == targets(text)["billing.charge"]

    @pytest.mark.parametrize("turned", [False, True])
    def test_the_most_specific_wins(self, turned):
        """
        Of several patterns the longer one counts, setting by setting, in whatever order they stand.
        """
        patterns = ["billing.*: {deadline: 1s, timeout: 1s}", "billing.eu.*: {timeout: 2s}", "billing.eu.de.x: {}"]
        text = f"targets: {{{', '.join(reversed(patterns) if turned else patterns)}}}"

        assert {"deadline": "1s", "timeout": {"attempt": "2s"}} == targets(text)["billing.eu.de.x"]

    def test_cover_only_what_lies_below_their_prefix(self):
        """
        ``billing.*`` covers neither ``billing`` itself nor what merely begins like it.
        """
        text = "targets: {billing.*: {deadline: 1s}, billing: {}, billings.x: {}, a.billing.x: {}, billing.a.b: {}}"
        expanded = targets(text)

        assert [{}, {}, {}] == [expanded[name] for name in ("billing", "billings.x", "a.billing.x")]
        assert {"deadline": "1s"} == expanded["billing.a.b"]

    def test_stay_written_out(self):
        """
        Patterns stay, for names that only the program knows: each with what lies below it.
        """
        expanded = targets("defaults: {idempotent: true}\ntargets: {a.*: {deadline: 1s}, a.b.*: {timeout: 2s}}")

        assert {"deadline": "1s", "timeout": {"attempt": "2s"}, "idempotent": True} == expanded["a.b.*"]
        assert {"deadline": "1s", "idempotent": True} == expanded["a.*"]

    def test_bring_in_the_system_s_targets_that_they_cover(self):
        """
        ``lm_studio.*`` is said of every target of the system below it.
        """
        assert {"lm_studio.*", "lm_studio.chat", "lm_studio.models"} == set(
            targets("targets: {lm_studio.*: {deadline: 1s}}")
        )

    def test_null_keeps_them_out(self):
        """
        A null in a more specific pattern or in the target removes what comes from below.
        """
        text = "targets: {a.*: {deadline: 1s, timeout: 1s}, a.b.*: {timeout: null}, a.b.c: {}, a.d: {deadline: null}}"
        expanded = targets(text)

        assert {"deadline": "1s"} == expanded["a.b.c"]
        assert {"timeout": {"attempt": "1s"}} == expanded["a.d"]

    def test_null_for_a_pattern(self):
        """
        A pattern that is removed covers nothing.
        """
        assert {"a.b": {}} == targets("targets: {a.*: null, a.b: {}}")


class TestShortForms:
    @pytest.mark.parametrize(
        ("below", "above", "expected"),
        [
            ("30s", "{connect: 1s}", {"attempt": "30s", "connect": "1s"}),
            ("{attempt: 30s, connect: 1s}", "{attempt: 5s}", {"attempt": "5s", "connect": "1s"}),
            ("{connect: 1s}", "{attempt: null}", {"connect": "1s"}),
        ],
    )
    def test_are_refined_by_a_map(self, below, above, expected):
        """
        A map over a short form changes what it says, and leaves the rest.
        """
        text = f"targets: {{a.*: {{timeout: {below}}}, a.b: {{timeout: {above}}}}}"

        assert expected == targets(text)["a.b"]["timeout"]

    @pytest.mark.parametrize("below", ["30s", "{attempt: 30s, connect: 1s}"])
    def test_replace(self, below):
        """
        A short form replaces what is below it, as any text does.
        """
        text = f"targets: {{a.*: {{timeout: {below}}}, a.b: {{timeout: 5s}}}}"

        assert {"attempt": "5s"} == targets(text)["a.b"]["timeout"]

    def test_lists_replace(self):
        """
        A list is taken whole.
        """
        text = "targets: {a.*: {fallback: [none, raise]}, a.b: {fallback: [cache: {}]}}"

        assert [{"cache": {}}] == targets(text)["a.b"]["fallback"]


class TestTemplates:
    @staticmethod
    def retry_of(target: str, more: str) -> Any:
        """What becomes of the target's retry section in a policy of two templates and *more*."""
        templates = "{retry: {patient: {max_attempts: 5, max_delay: 60s}, hasty: {strategy: immediate}}}"
        return targets(f"templates: {templates}\n{more}")[target]["retry"]

    def test_lie_below_all_that_is_said(self):
        """
        A template that a pattern names lies below the pattern's own settings and the target's.
        """
        text = "targets: {a.*: {retry: {template: patient, max_delay: 9s}}, a.b: {retry: {max_attempts: 2}}}"

        assert {"max_attempts": 2, "max_delay": "9s"} == self.retry_of("a.b", text)

    def test_a_target_takes_another(self):
        """
        The most specific name counts, and brings its template alone.
        """
        text = "defaults: {retry: patient}\ntargets: {a: {retry: hasty}, b: {retry: {template: hasty}}}"

        assert {"strategy": "immediate"} == self.retry_of("a", text) == self.retry_of("b", text)

    def test_a_target_takes_none(self):
        """
        A null keeps the template of a pattern out.
        """
        text = "targets: {a.*: {retry: {template: patient, jitter: none}}, a.b: {retry: {template: null}}}"

        assert {"jitter": "none"} == self.retry_of("a.b", text)


class TestPlaces:
    def test_of_what_comes_from_below(self):
        """
        Every value stands where it was written, be it in `defaults` or a pattern.
        """
        document = node("defaults:\n  deadline: 60s\ntargets:\n  a.*: {timeout: 5s}\n  a.b: {idempotent: true}\n")
        target = document.find(["targets", "a.b"])

        assert ["p.yaml:2:13", "p.yaml:4:18", "p.yaml:5:21"] == [
            str(target.find(path).place) for path in (["deadline"], ["timeout", "attempt"], ["idempotent"])
        ]
        assert "p.yaml:5:3" == str(document.find(["targets"]).place_of_key("a.b"))
