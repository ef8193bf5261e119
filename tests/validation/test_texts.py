import contextlib
import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.validation import sanitize_input

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1), inner, max_size=4),
    max_leaves=20,
)


def complaint(value, **settings):
    with pytest.raises(ValidationError) as caught:
        sanitize_input(value, **settings)
    assert ErrorCode.ERR_VAL_INVALID_RANGE is caught.value.error_code
    return str(caught.value)


class TestTexts:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a\0b", "ab"),
            ("\x1b[31mred\x7f\x9b", "[31mred"),
            ("a\tb\r\nc", "a\tb\r\nc"),
            ("half \ud83d of a pair", "half  of a pair"),
            ("file\u202egnp.exe\u2069", "filegnp.exe"),
            ("Grüße, 世界 👩‍👩‍👧 e\u0301", "Grüße, 世界 👩‍👩‍👧 e\u0301"),
            ("a\u200bb\u2060c\ufeffd\u00ade\u200ef\u061cg\u3164h", "abcdefgh"),
            ("see\U000e0041\U000e0042\U000e007f", "see"),
            ("", ""),
        ],
    )
    def test_only_what_can_not_be_seen_is_taken_out(self, text, expected):
        assert expected == sanitize_input(text)

    @given(st.text(st.characters(codec=None)))
    def test_what_comes_out_can_be_sent_and_is_clean(self, text):
        """
        It is UTF-8, and cleaning it again changes nothing.
        """
        cleaned = sanitize_input(text)

        assert cleaned == sanitize_input(cleaned)
        assert cleaned == cleaned.encode().decode()

    def test_length_is_that_of_the_clean_text(self):
        assert "abc" == sanitize_input("a\0b\0c", max_length=3)
        assert "input: must have at most 3 characters (got 4)" == complaint("ab\0cd", max_length=3)
        assert "input: must have at most 3 characters (got 100000)" == complaint("a" * 100_000, max_length=3)


class TestInside:
    @given(JSON)
    def test_what_is_passed_in_stays_as_it_was(self, value):
        before = copy.deepcopy(value)
        with contextlib.suppress(ValidationError):  # two keys may be equal when cleaned
            sanitize_input(value)

        assert before == value

    def test_lists_dicts_and_keys_are_cleaned_all_the_way_down(self):
        value = {"a\0": ["b\0", ("c\0", {"d": 1.5})], "e": None, "f": True}

        assert {"a": ["b", ("c", {"d": 1.5})], "e": None, "f": True} == sanitize_input(value)

    def test_everything_wrong_is_said_with_its_place(self):
        value = {"list": [1, b"bytes", {"deep": {1, 2}}], "long": "abcdef", 3: "three"}

        assert [
            "prompt.list[1]: must be a text, a number, a list or a dict (got 5 bytes)",
            "prompt.list[2].deep: must be a text, a number, a list or a dict (got set)",
            "prompt.long: must have at most 5 characters (got 6)",
            "prompt: must have texts as keys (got 3)",
        ] == complaint(value, name="prompt", max_length=5).splitlines()

    def test_keys_that_become_equal(self):
        assert "input: must have each key once (got 'a' twice when cleaned)" == complaint({"a": 1, "a\0": 2})

    def test_cycles(self):
        value = {"list": []}
        value["list"].append(value)

        assert "input.list[0]: must not hold itself (got a dict that does)" == complaint(value)

    def test_twice_the_same_is_no_cycle(self):
        inner = ["a"]

        assert [["a"], ["a"]] == sanitize_input([inner, inner])

    def test_depth(self):
        value = "x"
        for _ in range(3):
            value = [value]

        assert [[["x"]]] == sanitize_input(value, max_depth=3)
        assert "input[0][0]: must be at most 2 levels deep (got more)" == complaint(value, max_depth=2)

    def test_depth_beyond_python_recursion_is_refused_too(self):
        value = []
        for _ in range(100_000):
            value = [value]

        assert "levels deep" in complaint(value)

    def test_number_of_values(self):
        assert [1, 2] == sanitize_input([1, 2], max_items=3)
        assert "input[2]: must be among at most 3 values in all (got more)" == complaint([1, 2, 3], max_items=3)
        assert "input.c: must be among at most 3 values in all (got more)" == complaint(
            {"a": 1, "b": 2, "c": 3, "d": 4}, max_items=3
        )

    def test_values_that_multiply_are_refused_early(self):
        """
        Ten lists of ten of the former each, ten times over, are ten thousand million values in little memory.
        """
        value = ["x"]
        for _ in range(10):
            value = [value] * 10

        assert "values in all" in complaint(value)

    def test_a_million_complaints_are_twenty_lines_and_a_number(self):
        lines = complaint([b""] * 5000).splitlines()

        assert 21 == len(lines)
        assert "and 4980 more" == lines[-1]
