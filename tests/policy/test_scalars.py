from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pixel_llm.policy.scalars import LookAlikeError, resolve_plain


class TestCoreSchema:
    """The table of YAML 1.2.2, section 10.3.2."""

    @pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
    def test_null(self, text):
        """
        Null has five spellings.
        """
        assert resolve_plain(text) is None

    @pytest.mark.parametrize(
        ("text", "expected"),
        [(text, True) for text in ("true", "True", "TRUE")] + [(text, False) for text in ("false", "False", "FALSE")],
    )
    def test_booleans(self, text, expected):
        """
        A boolean is true or false, in three cases each.
        """
        assert expected is resolve_plain(text)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("0", 0),
            ("-0", 0),
            ("+0", 0),
            ("-19", -19),
            ("+7", 7),
            ("0x3A", 58),
            ("0xff", 255),
        ],
    )
    def test_integers(self, text, expected):
        """
        Whole numbers are decimal, or hexadecimal with 0x.
        """
        actual = resolve_plain(text)

        assert (expected, int) == (actual, type(actual))

    @pytest.mark.parametrize(
        ("text", "expected"),
        [("0.", 0.0), ("-0.0", -0.0), (".5", 0.5), ("+12.e+03", 12000.0), ("-2.0E+05", -200000.0), ("1.5e-1", 0.15)],
    )
    def test_floats(self, text, expected):
        """
        A point or an exponent makes a float.
        """
        actual = resolve_plain(text)

        assert (expected, float) == (actual, type(actual))

    @pytest.mark.parametrize(
        "text",
        ["5s", "1.2.3", "127.0.0.1", "0o8", "0xyz", "-", "+", ".", "-x", "1e", "nullable", "nUll", "tRue", "yEs",
         "noon", "inf", "nan", "12 monkeys", "1:90", "2024-W01", "a_b", "._"],
    )  # fmt: skip
    def test_text(self, text):
        """
        Everything else is text.
        """
        assert text == resolve_plain(text)


class TestLookAlikes:
    @pytest.mark.parametrize(
        "text", [case(word) for word in ("y", "n", "yes", "no", "on", "off") for case in (str, str.title, str.upper)]
    )
    def test_booleans(self, text):
        """
        The other booleans of YAML 1.1 are reported, with both ways to write what was meant.
        """
        meant = "true" if text.lower() in ("y", "yes", "on") else "false"
        expected = f'{text} is a boolean in YAML 1.1 and a text in YAML 1.2: write {meant}, or "{text}"'

        with pytest.raises(LookAlikeError) as caught:
            resolve_plain(text)

        assert expected == str(caught.value)

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("012", "an octal number"),
            ("-07", "an octal number"),
            ("00", "an octal number"),
            ("0b11", "a binary number"),
            ("1_000", "a number with separators"),
            ("1_000.5", "a number with separators"),
            ("1.0_5", "a number with separators"),
            (".5_", "a number with separators"),
            ("1_0.5e+3", "a number with separators"),
            ("-0x1F", "a hexadecimal number"),
            ("0xFF_FF", "a hexadecimal number"),
            ("1:30", "a number to base 60"),
            ("-190:20:30.15", "a number to base 60"),
            ("2024-01-31", "a date"),
            ("2001-12-14t21:59:43.10-05:00", "a date"),
            ("2001-12-14T21:59:43", "a date"),
            ("2001-12-14 21:59:43.10 -5", "a date"),
        ],
    )
    def test_numbers(self, text, what):
        """
        What YAML 1.1 reads as a number of another kind, or as a date, is reported.
        """
        expected = f'{text} is {what} in YAML 1.1 and not in YAML 1.2: write it plainly, or "{text}"'

        with pytest.raises(LookAlikeError) as caught:
            resolve_plain(text)

        assert expected == str(caught.value)

    @pytest.mark.parametrize(
        ("text", "plainly"),
        [
            ("0o14", "12"),
            ("08", "8"),
            ("-019", "-19"),
            ("1e3", "1000.0"),
            ("1.5e3", "1500.0"),
            ("-2E+05", "-200000.0"),
            ("-.5", "-0.5"),
            ("+.5e-1", "0.05"),
            ("1e30", "1.0e+30"),
            ("15e-20", "1.5e-19"),
        ],
    )
    def test_numbers_of_yaml_1_2_alone(self, text, plainly):
        """
        What only YAML 1.2 reads as a number is reported, and how both would read it.
        """
        expected = f'{text} is a text in YAML 1.1 and a number in YAML 1.2: write {plainly}, or "{text}"'

        with pytest.raises(LookAlikeError) as caught:
            resolve_plain(text)

        assert expected == str(caught.value)
        assert resolve_plain(plainly) == yaml.safe_load(plainly)

    @pytest.mark.parametrize(("text", "what"), [("=", "the default key"), ("<<", "the merge key")])
    def test_keys_with_a_meaning(self, text, what):
        """
        Two texts have a meaning of their own in YAML 1.1.
        """
        expected = f'{text} is {what} in YAML 1.1 and a text in YAML 1.2: write "{text}"'

        with pytest.raises(LookAlikeError) as caught:
            resolve_plain(text)

        assert expected == str(caught.value)

    @pytest.mark.parametrize("text", [".inf", "-.INF", "+.Inf", ".nan", ".NaN", "1e999", "-1e999"])
    def test_not_finite(self, text):
        """
        No setting wants infinity or "not a number", so neither is read, however it is written.
        """
        with pytest.raises(LookAlikeError) as caught:
            resolve_plain(text)

        assert f"{text} is not a finite number" == str(caught.value)

    def test_endless_integer(self):
        """
        An integer is bounded: Python takes quadratic time to read one.
        """
        with pytest.raises(LookAlikeError) as caught:
            resolve_plain("9" * 41)

        assert f"the number {'9' * 37}… has 41 digits" == str(caught.value)

    @pytest.mark.parametrize(
        "text", ["1" + "_" * 500_000 + "x", "1_" * 250_000 + "x", "0x" + "_" * 500_000 + "z", "1:1" * 200_000 + "x"]
    )
    def test_hostile_text_takes_linear_time(self, text):
        """
        No pattern backtracks: half a megabyte of separators once took hours.
        """
        start = time.process_time()
        resolve_plain(text)

        assert time.process_time() - start < 2

    @settings(max_examples=2000, deadline=None, derandomize=True)
    @given(st.text("0123456789.:_-+eEobxaf~Tty=<", min_size=1, max_size=8))
    def test_what_is_not_reported_means_the_same_in_both(self, text):
        """
        PyYAML, a reader of YAML 1.1, agrees on everything that is accepted.
        """
        try:
            actual = resolve_plain(text)
        except LookAlikeError:
            return
        loader = yaml.SafeLoader("")
        node = yaml.ScalarNode(loader.resolve(yaml.ScalarNode, text, (True, False)), text)
        expected = loader.construct_object(node)

        assert (expected, type(expected)) == (actual, type(actual))
