from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixel_llm.policy.durations import duration_complaint, format_duration, parse_duration


class TestParseDuration:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("500ms", 0.5),
            ("1001ms", 1.001),
            ("30s", 30.0),
            ("0.1s", 0.1),
            ("2m", 120.0),
            ("1.5h", 5400.0),
            ("1h30m", 5400.0),
            ("1h2m3s4ms", 3723.004),
            ("90s", 90.0),
            ("0s", 0.0),
            ("007s", 7.0),
            ("99999h", 359996400.0),
            ("9999999m", 599999940.0),
            ("999999999s", 999999999.0),
            ("999999999999ms", 999999999.999),
            ("0.000000000000000000000000000001ms", 1e-33),
        ],
    )
    def test_seconds(self, text, seconds):
        """
        A duration is read as float seconds, exactly.
        """
        actual = parse_duration(text)

        assert (seconds, float) == (actual, type(actual))

    @pytest.mark.parametrize(
        "text",
        [
            "", "s", "30", "30 s", " 30s", "30s ", "30s\n", "-1s", "+1s", "1S", "1sec", "1d", "1s2m", "1s1s",
            "1ms1s", ".5s", "1.s", "1,5s", "1e3s", "1_000s", "٣s", "infs", "PT5S",
            "100000h", "10000000m", "1000000000s", "1000000000000ms", f"0.{'0' * 30}1ms",
        ],
    )  # fmt: skip
    def test_refused(self, text):
        """
        What lacks a unit, has one of another language, has its parts out of order or too many digits is no duration.
        """
        with pytest.raises(ValueError) as caught:
            parse_duration(text)

        assert duration_complaint(text) == str(caught.value)


class TestDurationComplaint:
    @pytest.mark.parametrize(("value", "text"), [(30, "30"), (2.5, "2.5"), ("30", "30"), (0, "0")])
    def test_number_without_unit(self, value, text):
        """
        A bare number hears both ways to mend it.
        """
        assert f"{text} has no unit: write {text}s or {text}ms" == duration_complaint(value)

    @pytest.mark.parametrize(
        ("value", "text"),
        [("soon", "'soon'"), (True, "true"), (None, "null"), ([1], "a list"), (-1, "-1"), ("9" * 70, f"'{'9' * 56}…")],
    )
    def test_anything_else(self, value, text):
        """
        The value is shown as a file would have it, and not at any length.
        """
        assert f"must be a duration such as 500ms, 30s, 2m or 1h30m (got {text})" == duration_complaint(value)

    @pytest.mark.parametrize("value", ["100000h", "1000000000s", "12345678901234ms", "1h10000000m"])
    def test_too_long(self, value):
        """
        Nobody waits for eleven years, and no system clock can be asked to.
        """
        assert f"must be shorter than 100000h (got {value!r})" == duration_complaint(value)


class TestFormatDuration:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0ms"),
            (0.0, "0ms"),
            (0.0005, "0.5ms"),
            (0.5, "500ms"),
            (1, "1s"),
            (1.5, "1.5s"),
            (59.9999999, "59.9999999s"),
            (60, "1m"),
            (90, "1m30s"),
            (3600.0, "1h"),
            (5400, "1h30m"),
            (3723.004, "1h2m3.004s"),
            (3.6e9, "1000000h"),
        ],
    )
    def test_text(self, seconds, text):
        """
        Seconds are written as a person would write them.
        """
        assert text == format_duration(seconds)

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(st.just(0.0) | st.floats(min_value=1e-9, max_value=3e8))
    def test_parsing_gives_the_seconds_back(self, seconds):
        """
        Nothing is lost on the way to text and back.
        """
        assert seconds == parse_duration(format_duration(seconds))
