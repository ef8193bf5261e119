from __future__ import annotations

from pixel_llm.policy.lint.wording import duration


class TestDuration:
    def test_to_the_millisecond(self):
        """
        What was computed has no more digits than what is written.
        """
        assert ["1.235s", "0ms", "1m", "333ms"] == [duration(seconds) for seconds in (1.23456, 0.0004, 60.0, 1 / 3)]
