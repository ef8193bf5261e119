from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixel_llm.policy.sizes import format_size, parse_size, size_complaint


class TestParseSize:
    @pytest.mark.parametrize(
        ("text", "count"),
        [
            ("1B", 1),
            ("512KiB", 512 * 1024),
            ("64MiB", 64 * 1024**2),
            ("2GiB", 2 * 1024**3),
            ("999999999B", 10**9 - 1),
        ],
    )
    def test_bytes(self, text, count):
        """
        A size is read as whole bytes; units are binary.
        """
        assert count == parse_size(text)

    @pytest.mark.parametrize(
        "text",
        [
            "", "64", "0", "0B", "064MiB", "64 MiB", " 64MiB", "64MiB\n", "64mib", "64MB", "64M", "64kib", "1.5GiB",
            "-1MiB", "+1MiB", "1e3B", "1_000B", "٣B", "1234567890B", "1TiB", "MiB", "1GiB1MiB",
        ],
    )  # fmt: skip
    def test_refused(self, text):
        """
        What lacks a unit, has a decimal one, or is no positive whole number is no size.
        """
        with pytest.raises(ValueError) as caught:
            parse_size(text)

        assert size_complaint(text) == str(caught.value)


class TestSizeComplaint:
    @pytest.mark.parametrize("value", [64, "64"])
    def test_number_without_unit(self, value):
        """
        A bare number hears two ways to mend it.
        """
        assert "64 has no unit: write 64MiB or 64KiB" == size_complaint(value)

    @pytest.mark.parametrize(
        ("value", "text"),
        [("64MB", "'64MB'"), (0, "0"), (1.5, "1.5"), (True, "true"), (None, "null"), ({}, "an empty mapping")],
    )
    def test_anything_else(self, value, text):
        """
        The value is shown as a file would have it.
        """
        assert f"must be a size such as 512KiB, 64MiB or 2GiB (got {text})" == size_complaint(value)


class TestFormatSize:
    @pytest.mark.parametrize(
        ("count", "text"), [(1, "1B"), (1023, "1023B"), (1024, "1KiB"), (1536, "1536B"), (64 * 1024**2, "64MiB")]
    )
    def test_text(self, count, text):
        """
        The largest unit that loses nothing is taken.
        """
        assert text == format_size(count)

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.integers(1, 999_999_999), st.sampled_from(["B", "KiB", "MiB", "GiB"]))
    def test_parsing_gives_the_bytes_back(self, number, unit):
        """
        Nothing is lost on the way from text to bytes and back.
        """
        count = parse_size(f"{number}{unit}")

        assert count == parse_size(format_size(count))
