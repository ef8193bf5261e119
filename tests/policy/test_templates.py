from __future__ import annotations

from typing import Any

from pixel_llm.errors import Place
from pixel_llm.policy.nodes import Node
from pixel_llm.policy.reading import read_bytes
from pixel_llm.policy.templates import Templates

SECTION = """
templates:
  retry:
    patient: {max_attempts: 5, max_delay: 60s}
    hasty: {strategy: immediate}
    gone: null
  circuit_breaker: {quick: {failure_threshold: 2}}
  fallback: {sorry: [default_value: Sorry]}
"""


def read(text: str) -> Node:
    return read_bytes(text.encode(), name="p.yaml")


def apply(target: str, section: str = SECTION) -> tuple[Any, Templates]:
    """What becomes of the target that *target* writes in a flow map, and the templates it was made with."""
    templates = Templates(read(section))
    applied = templates.apply(read(f"a: {{{target}}}").find(["a"]), ("targets", "a"))
    return applied.plain(), templates


def applied(target: str, section: str = SECTION) -> Any:
    value, templates = apply(target, section)
    assert [] == templates.problems
    return value


def problems(target: str, section: str = SECTION) -> list[str]:
    return [str(problem) for problem in apply(target, section)[1].problems]


class TestApply:
    def test_short_form(self):
        """
        A name stands for the template.
        """
        expected = {
            "retry": {"max_attempts": 5, "max_delay": "60s"},
            "circuit_breaker": {"failure_threshold": 2},
            "fallback": [{"default_value": "Sorry"}],
        }

        assert expected == applied("retry: patient, circuit_breaker: quick, fallback: sorry")

    def test_long_form(self):
        """
        What stands beside the name is laid over the template; the name itself is used up.
        """
        assert {"retry": {"max_attempts": 2, "max_delay": "60s", "jitter": "none"}} == applied(
            "retry: {jitter: none, template: patient, max_attempts: 2}"
        )

    def test_both_forms_say_the_same(self):
        """
        ``retry: patient`` is short for ``retry: {template: patient}``.
        """
        assert applied("retry: patient") == applied("retry: {template: patient}")

    def test_null_beside_the_name(self):
        """
        A null removes what the template says; its mark stays, to keep out what else would come.
        """
        assert {"retry": {"max_attempts": 5, "max_delay": None}} == applied(
            "retry: {template: patient, max_delay: null}"
        )

    def test_null_for_the_name(self):
        """
        With null there is no template, whatever was inherited.
        """
        assert {"retry": {"template": None, "max_attempts": 2}} == applied("retry: {template: null, max_attempts: 2}")

    def test_null_for_the_layer(self):
        """
        A layer that is removed takes no template.
        """
        assert {"retry": None, "fallback": None} == applied("retry: null, fallback: null")

    def test_no_template(self):
        """
        Other short forms are written out in full; the rest stays as it is.
        """
        assert {"timeout": {"attempt": "5s"}, "deadline": "9s", "retry": {"max_attempts": 2}} == applied(
            "timeout: 5s, deadline: 9s, retry: {max_attempts: 2}"
        )

    def test_a_target_that_is_removed(self):
        """
        A null target stays null.
        """
        node = Node(None, Place("p.yaml"))

        assert node is Templates(read(SECTION)).apply(node, ("targets", "a"))

    def test_values_keep_their_places(self):
        """
        What comes from a template stands where the template is written.
        """
        templates = Templates(read(SECTION))
        target = read("a: {retry: {template: patient, max_attempts: 2}}").find(["a"])
        retry = templates.apply(target, ()).find(["retry"])

        assert Place("p.yaml", 4, 43) == retry.find(["max_delay"]).place
        assert Place("p.yaml", 1, 46) == retry.find(["max_attempts"]).place


class TestUsed:
    def test_notes_layer_and_name(self):
        """
        Each template that was taken is noted, once.
        """
        _, templates = apply("retry: patient, fallback: sorry")
        templates.apply(read("b: {retry: {template: patient}}").find(["b"]), ("targets", "b"))

        assert {("retry", "patient"), ("fallback", "sorry")} == templates.used

    def test_names(self):
        """
        The names of a layer are those that were not removed.
        """
        templates = Templates(read(SECTION))

        assert ["patient", "hasty"] == templates.names("retry")
        assert [] == templates.names("timeout")

    def test_without_a_section(self):
        """
        Sections that are not there, or were removed, hold no templates.
        """
        for section in ("version: 1", "templates: null", "templates: {retry: null}"):
            assert [] == Templates(read(section)).names("retry")


class TestProblems:
    def test_misspelt(self):
        """
        A name that is close to a template's hears which one.
        """
        expected = ["p.yaml:1:12: targets.a.retry: there is no template 'patent'; did you mean \"patient\"?"]

        assert expected == problems("retry: patent")
        assert [line.replace(":12:", ":23:") for line in expected] == problems("retry: {template: patent}")

    def test_of_another_layer(self):
        """
        A template belongs to its layer.
        """
        (line,) = problems("circuit_breaker: patient")

        assert line.endswith("there is no template 'patient'; define it under templates.circuit_breaker")

    def test_removed(self):
        """
        What null has removed is not there.
        """
        (line,) = problems("retry: gone")

        assert line.endswith("there is no template 'gone'; define it under templates.retry")
        assert 1 == len(problems("retry: patient", "templates: null"))

    def test_once_for_each_place(self):
        """
        A wrong name in `defaults` is said once, not for every target that takes it.
        """
        templates = Templates(read(SECTION))
        target = read("a: {retry: patent}").find(["a"])
        for name in "ab":
            templates.apply(target, ("targets", name))

        assert ["targets.a.retry"] == [problem.path for problem in templates.problems]
