from __future__ import annotations

from typing import Any

import pytest

from pixel_llm.errors import Place
from pixel_llm.policy.interpolation import Interpolator
from pixel_llm.policy.kinds import Duration, Flag, Integer, Kind, Number, SecretText, Text
from pixel_llm.policy.nodes import Node

PLACE = Place("p.yaml", 3, 7)
VARIABLES = {
    "NAME": "value", "EMPTY": "", "NUMBER": "42", "ZEROS": "0123", "YAML": "{a: [1]}", "NESTED": "${NAME}",
    "API_KEY": "sk-1", "_x1": "low",
}  # fmt: skip


def resolve(text: Any, kind: Kind | None = None) -> Any:
    """What *text* becomes in a setting of *kind*; must be without a problem."""
    interpolator = Interpolator(VARIABLES)
    value = interpolator(Node(text, PLACE), kind or Text(), ("a", "b")).value
    assert [] == interpolator.problems
    return value


def problem(text: str, kind: Kind | None = None) -> str:
    """The one thing that is wrong with *text*."""
    interpolator = Interpolator(VARIABLES)
    node = Node(text, PLACE)
    assert node is interpolator(node, kind or Text(), ("a", "b"))
    (found,) = interpolator.problems
    assert str(found).startswith("p.yaml:3:7: a.b: ")
    return found.message


class TestReferences:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("${NAME}", "value"),
            ("${_x1}", "low"),
            ("a ${NAME} and ${NUMBER}.", "a value and 42."),
            ("${NAME}${NAME}", "valuevalue"),
            ("${NAME:-other}", "value"),
            ("${UNSET:-other}", "other"),
            ("${UNSET:-}", ""),
            ("${EMPTY:-other}", "other"),
            ("${EMPTY:-}", ""),
            ("${UNSET:-a:-b $ x\ny}", "a:-b $ x\ny"),
            ("${UNSET:-http://127.0.0.1:1234/v1}", "http://127.0.0.1:1234/v1"),
        ],
    )
    def test_resolve(self, text, expected):
        """
        A reference becomes the variable, or its default where the variable is unset or empty.
        """
        assert expected == resolve(text)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [("$${NAME}", "${NAME}"), ("$${", "${"), ("a $${NAME} ${NAME}", "a ${NAME} value"), ("$$${NAME}", "$${NAME}")],
    )
    def test_escaped(self, text, expected):
        """
        ``$${`` is a ``${`` in the text.
        """
        assert expected == resolve(text)

    @pytest.mark.parametrize("text", ["plain", "$NAME", "$ {NAME}", "costs $5", "{NAME}", "", 5, None, True])
    def test_nothing_to_resolve(self, text):
        """
        What holds no reference stays the very same node.
        """
        node = Node(text, PLACE)

        assert node is Interpolator(VARIABLES)(node, Text(), ())

    def test_what_comes_out_is_not_looked_into_again(self):
        """
        A variable's text is taken as it is, references in it too.
        """
        assert "${NAME}" == resolve("${NESTED}")

    def test_keeps_the_place(self):
        """
        The value stands where its reference was written.
        """
        assert PLACE == Interpolator(VARIABLES)(Node("${NAME}", PLACE), Text(), ()).place


class TestTypes:
    @pytest.mark.parametrize(
        ("text", "kind", "expected"),
        [
            ("${NUMBER}", Integer(0, 100), 42),
            ("${UNSET:--7}", Integer(-10, 10), -7),
            ("${ZEROS}", Integer(0, 1000), 123),
            ("1${NUMBER}", Integer(0, 1000), 142),
            ("${NUMBER}", Number(0, 100), 42.0),
            ("${UNSET:-.5e-1}", Number(0, 1), 0.05),
            ("${UNSET:-true}", Flag(), True),
            ("${UNSET:-false}", Flag(), False),
            ("${NUMBER}s", Duration(), "42s"),
            ("${NUMBER}", Text(), "42"),
            ("${ZEROS}", Text(), "0123"),
            ("${YAML}", Text(), "{a: [1]}"),
            ("${YAML}", Kind(), "{a: [1]}"),
            ("${NUMBER}", Kind(), "42"),
        ],
    )
    def test_what_the_setting_wants(self, text, kind, expected):
        """
        Text is typed by its setting and never parsed as YAML.
        """
        actual = resolve(text, kind)

        assert (expected, type(expected)) == (actual, type(actual))

    @pytest.mark.parametrize(
        ("text", "kind", "expected"),
        [
            ("${NAME}", Integer(0, 9), "must be a whole number (got 'value'), from ${NAME}"),
            ("${UNSET:-1.0}", Integer(0, 9), "must be a whole number (got '1.0'), from ${UNSET:-1.0}"),
            ("${UNSET:-0x1}", Integer(0, 9), "must be a whole number (got '0x1'), from ${UNSET:-0x1}"),
            ("${NAME}", Number(0, 9), "must be a number (got 'value'), from ${NAME}"),
            ("${UNSET:-nan}", Number(0, 9), "must be a number (got 'nan'), from ${UNSET:-nan}"),
            ("${UNSET:-1_0}", Number(0, 9), "must be a number (got '1_0'), from ${UNSET:-1_0}"),
            ("${UNSET:-yes}", Flag(), "must be true or false (got 'yes'), from ${UNSET:-yes}"),
            ("${NUMBER}", Duration(), "42 has no unit: write 42s or 42ms, from ${NUMBER}"),
        ],
    )
    def test_wrong(self, text, kind, expected):
        """
        The message names what came and where it came from.
        """
        assert expected == problem(text, kind)


class TestProblems:
    def test_unset(self):
        """
        A variable that is not set needs a default.
        """
        expected = "the variable UNSET is not set, and there is no default: ${UNSET:-…} gives one"

        assert expected == problem("${UNSET}")

    def test_empty(self):
        """
        A variable that is set to nothing needs one too, and is told apart.
        """
        expected = "the variable EMPTY is empty, and there is no default: ${EMPTY:-…} gives one"

        assert expected == problem("x${EMPTY}")

    @pytest.mark.parametrize(
        "reference", ["${}", "${1}", "${A-B}", "${A:+B}", "${ NAME }", "${ÄRGER}", "${NAME", "${NAME:-x", "${"]
    )
    def test_malformed(self, reference):
        """
        What begins like a reference and is none is never taken for text.
        """
        expected = f"{reference} is no reference: write ${{NAME}} or ${{NAME:-default}}, or $${{ for text"

        assert expected == problem(f"text {reference}")

    @pytest.mark.parametrize("text", ["${UNSET:-${NAME}}", "${NAME:-${UNSET:-x}}", "${UNSET:-a${NAME}"])
    def test_a_reference_in_a_default(self, text):
        """
        A default is plain text: another reference in it used to be taken for text, in part.
        """
        name = text[2:].partition(":")[0]
        expected = f"the default of {name} holds another reference; variables have plain defaults"

        assert expected == problem(text)

    def test_a_variable_that_is_no_text(self):
        """
        What the environment holds may be any bytes; half of them can't be sent anywhere.
        """
        interpolator = Interpolator({"BYTES": b"caf\xe9".decode(errors="surrogateescape")})
        interpolator(Node("${BYTES}", PLACE), Text(), ("a",))

        assert ["the variable BYTES is not UTF-8 text"] == [problem.message for problem in interpolator.problems]

    def test_each_setting_has_its_own(self):
        """
        Problems of several settings are collected.
        """
        interpolator = Interpolator({})
        for name in "AB":
            interpolator(Node(f"${{{name}}}", PLACE), Text(), (name,))

        assert ["A", "B"] == [problem.path for problem in interpolator.problems]


class TestSecrets:
    @pytest.mark.parametrize(
        "name", ["API_KEY", "GITHUB_TOKEN", "CLIENT_SECRET", "DB_PASSWORD", "api_key", "KEY", "Password", "A_B_token"]
    )
    def test_only_settings_that_keep_secrets_take_one(self, name):
        """
        A variable named like a secret goes nowhere but into a secret; whether it is set does not matter.
        """
        expected = f"${{{name}}} is named like a secret; only lm_studio.api_key may take one"

        assert expected == problem(f"${{{name}}}")
        assert expected == problem(f"http://x/${{{name}:-}}")

    def test_a_secret_takes_it(self):
        """
        The key itself may come from a variable named like one.
        """
        assert "sk-1" == resolve("${API_KEY}", SecretText())

    @pytest.mark.parametrize("name", ["KEYBOARD", "TOKENS", "MONKEY", "TOKENIZER_PATH", "KEY_PATH"])
    def test_other_names_only_look_alike(self, name):
        """
        Only the end of a name, after an underscore, makes it a secret's.
        """
        assert "x" == resolve(f"${{{name}:-x}}")
