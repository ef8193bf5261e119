import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_llm.policy.sections.circuit_breaker import WindowConfig
from pixel_llm.resilience.breaker.windows import CountWindow, TimeWindow, make_window

OUTCOMES = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)


def sums(calls):
    return len(calls), sum(failed for failed, *_ in calls), sum(slow for _, slow, *_ in calls)


def counted(window):
    return window.calls, window.failures, window.slow


class TestCountWindow:
    @given(st.integers(1, 20), OUTCOMES)
    def test_holds_the_last_calls(self, size, outcomes):
        """
        The sums are those of the last so many calls, after every one.
        """
        window = CountWindow(size)
        for number, (failed, slow) in enumerate(outcomes, 1):
            window.record(failed=failed, slow=slow, now=0.0)

            assert sums(outcomes[max(0, number - size) : number]) == counted(window)

    def test_takes_a_byte_a_call(self):
        """
        Memory is that of the window's size, however many calls there were.
        """
        window = CountWindow(10_000)
        for _ in range(30_000):
            window.record(failed=True, slow=True, now=0.0)

        assert sys.getsizeof(window._ring) < 10_100
        assert (10_000, 10_000, 10_000) == counted(window)


class TestTimeWindow:
    @given(
        st.sampled_from([20.0, 5.0]),
        st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from([0.0, 0.125, 0.25, 1.0, 4.75, 30.0]))),
    )
    def test_holds_the_calls_of_its_period(self, period, outcomes):
        """
        What is younger than 19/20 of the period is in it, what is older than the period is not.
        """
        window, now, calls = TimeWindow(period), 1000.0, []
        for failed, slow, wait in outcomes:
            now += wait
            calls.append((failed, slow, now))
            window.record(failed=failed, slow=slow, now=now)
            least = sums([call for call in calls if now - call[2] <= period * 19 / 20])
            most = sums([call for call in calls if now - call[2] < period])

            assert all(low <= number <= high for low, number, high in zip(least, counted(window), most, strict=True))

    def test_forgets_in_steps_of_a_twentieth(self):
        """
        A call stays to the end of its step, one period later.
        """
        window = TimeWindow(20.0)
        window.record(failed=True, slow=False, now=0.99)
        window.record(failed=False, slow=True, now=19.99)

        assert (2, 1, 1) == counted(window)

        window.record(failed=False, slow=False, now=20.0)

        assert (2, 0, 1) == counted(window)

    def test_a_long_pause_empties_it(self):
        """
        However long nothing came, nothing of before is left, and it costs no more than its steps.
        """
        window = TimeWindow(20.0)
        for second in range(20):
            window.record(failed=True, slow=True, now=float(second))
        window.record(failed=False, slow=False, now=1e9)

        assert (1, 0, 0) == counted(window)

    def test_time_that_seems_to_go_back(self):
        """
        A call whose time was read before that of another is counted with it.
        """
        window = TimeWindow(20.0)
        window.record(failed=True, slow=False, now=50.0)
        window.record(failed=True, slow=False, now=49.9)

        assert (2, 2, 0) == counted(window)


class TestMakeWindow:
    @pytest.mark.parametrize(
        ("config", "kind", "size"),
        [
            (WindowConfig(), CountWindow, 100),
            (WindowConfig(calls=7), CountWindow, 7),
            (WindowConfig(period=5.0), TimeWindow, None),
        ],
    )
    def test_makes_what_the_policy_says(self, config, kind, size):
        """
        Without a size it holds the last 100 calls.
        """
        window = make_window(config)
        for _ in range(200):
            window.record(failed=True, slow=False, now=1.0)

        assert kind is type(window)
        assert (size or 200) == window.calls
