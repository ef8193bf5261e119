from __future__ import annotations

import pytest

from pixel_llm.policy import TimeoutConfig


class TestLongestAttempt:
    @pytest.mark.parametrize(
        ("limits", "longest"),
        [
            ({}, None),
            ({"first_token": 5.0}, None),
            ({"attempt": 0.5}, 0.5),
            ({"attempt": 3.0, "first_token": 2.0}, 3.0),
            ({"attempt": 3.0, "first_token": 4.0}, 4.0),
        ],
    )
    def test_is_that_of_whatever_the_target_gives(self, limits, longest):
        """
        A whole answer may take `attempt`, a stream `first_token` to its first content: the longer one counts.
        """
        assert longest == TimeoutConfig(**limits).longest_attempt
