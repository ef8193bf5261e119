"""The guide to error handling: no code is missing, and whatever it names is there."""

from __future__ import annotations

import re
import shlex
from inspect import getsource
from pathlib import Path

import click
import pytest

from pixel_llm import events
from pixel_llm.cli.main import root
from pixel_llm.doctor.examining import CHECKS_OF_A_SERVER, CHECKS_OF_THE_POLICY
from pixel_llm.errors import ERROR_CODES, ErrorCode, ErrorFamily, exceptions
from pixel_llm.monitoring.exposition.families import FAMILIES, POLICY_FAMILIES
from pixel_llm.policy.sections.target import SYSTEM_TARGETS
from pixel_llm.runtime import Policies

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [
    "how-to/choose-a-profile.md",
    "how-to/troubleshooting.md",
    "explanation/handling-errors.md",
]
TROUBLESHOOTING = (DOCS / "how-to/troubleshooting.md").read_text("utf-8")

CHECKS = {check.name for check in (*CHECKS_OF_THE_POLICY, *CHECKS_OF_A_SERVER)}
EVENTS = {kind.name for kind in events.Event.__subclasses__()}
SETTINGS = {
    heading.replace(".<name>", "").replace("[]", "")
    for heading in re.findall(r"^#+ `(.+)`$", (DOCS / "reference/policy.md").read_text("utf-8"), re.MULTILINE)
}
#: What an error of ours has, of whatever class.
ATTRIBUTES = {
    name
    for found in re.findall(r"self\.([a-z_]+) =|^    ([a-z_]+):|def ([a-z_]+)", getsource(exceptions), re.MULTILINE)
    for name in (*found, "__cause__")
}


def code_in_text(page: str) -> list[str]:
    """What stands in backticks on *page*, outside of samples."""
    text = re.sub(r"^ *```.*?^ *```", "", (DOCS / page).read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)


def named(pattern: str, page: str) -> set[str]:
    """What the first group of *pattern* takes from the beginning of code on *page*."""
    return {found[1] for code in code_in_text(page) if (found := re.match(pattern, code))}


def is_a_setting(name: str) -> bool:
    return any(setting == name or setting.endswith(f".{name}") for setting in SETTINGS)


class TestTroubleshooting:
    def test_has_every_code_in_the_order_of_the_table(self):
        """Each code has its section below its family, and no section is of a code that there is not."""
        headings = re.findall(r"^### (.+)$", TROUBLESHOOTING, re.MULTILINE)
        families = [heading for heading in re.findall(r"^## (.+)$", TROUBLESHOOTING, re.MULTILINE) if heading.isupper()]

        assert list(ERROR_CODES) == headings
        assert list(ErrorFamily) == families

    @pytest.mark.parametrize("code", ERROR_CODES)
    def test_says_how_it_looks_how_to_confirm_and_what_to_do(self, code):
        """Each code has the three, in this order, and none is empty."""
        section = re.search(rf"^### {code}\n(.*?)(?=^##)", TROUBLESHOOTING, re.DOTALL | re.MULTILINE)[1]
        points = re.findall(r"^- \*\*(\w+)\*\*: (.+)$", section, re.MULTILINE)

        assert ["Symptom", "Confirm", "Do"] == [name for name, _ in points]
        assert [] == [name for name, text in points if len(text.split()) < 3]

    def test_checks_of_the_doctor_are_there(self):
        """A check that the page sends the reader to is one that `pixel-llm doctor` makes."""
        told = re.findall(r"checks? `([^`]+)`(?: and `([^`]+)`)?", TROUBLESHOOTING)

        assert len(told) > 5
        assert set() == {name for pair in told for name in pair if name} - CHECKS


@pytest.mark.parametrize("page", PAGES)
class TestNames:
    """Names in the guide's text are names of the system."""

    def test_codes(self, page):
        """Every error code is in the table."""
        assert set() == set(re.findall(r"ERR_[A-Z_]+[A-Z]", (DOCS / page).read_text("utf-8"))) - set(ErrorCode)

    def test_commands(self, page):
        """Every command is one of ours, with options that it has."""
        for line in named(r"(pixel-llm .+)", page):
            words = shlex.split(line)[1:]
            command: click.Command = root
            while isinstance(command, click.Group) and words:
                command = command.get_command(click.Context(command), words.pop(0))
                assert command is not None, line
            options = {name for param in command.params for name in param.opts}
            assert {word for word in words if word.startswith("-")} <= options, line

    def test_settings(self, page):
        """Every setting with a path is in the reference of policies."""
        sections = r"lm_studio|encoder|logging|retry|timeout|circuit_breaker|rate_limit|bulkhead|fallback|retry_budgets"
        paths = named(rf"((?:{sections})(?:\.[a-z_]+)+)", page) - set(SYSTEM_TARGETS)

        assert [] == [path for path in paths if not is_a_setting(path)]

    def test_words(self, page):
        """Every other name with an underscore is an event, a setting, a field of an error or result, or a function."""
        others = {"custom_function", "default_value", "error_code", "degraded_requests", "half_open", "refused_by"}
        words = named(r"(?!pixel_llm_)([a-z]+(?:_[a-z]+)+)$", page)

        assert [] == [word for word in words if word not in EVENTS | ATTRIBUTES | others and not is_a_setting(word)]

    def test_attributes(self, page):
        """What is read from errors and policies can be."""
        assert set() == named(r"error\.([a-z_]+)", page) - ATTRIBUTES
        assert set() == named(r"policies\.([a-z_]+)", page) - set(dir(Policies))

    def test_metrics(self, page):
        """Every metric is exposed under that name."""
        metrics = named(r"(pixel_llm_[a-z_]+)$", page)

        assert set() == metrics - {family.name for family in (*FAMILIES, *POLICY_FAMILIES)}
