import dataclasses
import logging
import sys
import threading

import pytest

from pixel_llm import events
from pixel_llm.events import CallRecovered, Event, Listeners

EVENT = CallRecovered("shop.pay", 2, 1.5)


@pytest.fixture
def reports(caplog):
    """Gives the records of the logger ``pixel_llm`` so far."""
    caplog.set_level(logging.DEBUG, "pixel_llm")
    return lambda: caplog.records


def broken(event):
    raise RuntimeError("listener fault")


class TestListeners:
    def test_tells_everyone_in_order(self):
        """
        Every listener gets the event, in the order they were added.
        """
        seen = []
        listeners = Listeners([lambda event: seen.append(("first", event))])
        listeners.add(lambda event: seen.append(("second", event)))
        listeners(EVENT)

        assert [("first", EVENT), ("second", EVENT)] == seen

    def test_one_that_is_added_twice_is_told_once(self):
        """
        Whoever adds what is there already changes nothing, so nothing is counted twice.
        """
        seen = []

        def first(event):
            seen.append(event)

        listeners = Listeners([first])
        listeners.add(first)
        listeners(EVENT)

        assert [EVENT] == seen

    def test_may_be_empty(self):
        """
        Without listeners an event is told to nobody.
        """
        Listeners()(EVENT)

    def test_one_that_raises_does_not_keep_it_from_the_others(self, reports):
        """
        A listener that fails harms neither the call nor the listeners after it.
        """
        seen = []
        Listeners([broken, seen.append])(EVENT)

        assert [EVENT] == seen

    def test_one_that_raises_is_reported_once(self, reports):
        """
        The first fault is reported to the logger ``pixel_llm``, with its traceback; later ones are not.
        """
        listeners = Listeners([broken])
        for _ in range(5):
            listeners(EVENT)
        (record,) = reports()

        assert ("pixel_llm", "ERROR") == (record.name, record.levelname)
        assert f"the listener {broken!r} raised; this is reported once" == record.getMessage()
        assert "listener fault" == str(record.exc_info[1])

    def test_each_one_that_raises_is_reported(self, reports):
        """
        A second listener's fault is news, though it is the same function wrapped again.
        """
        listeners = Listeners([lambda event: broken(event), lambda event: broken(event)])
        for _ in range(3):
            listeners(EVENT)

        assert 2 == len(reports())

    def test_is_reported_once_by_threads_too(self, reports):
        """
        Threads in which it fails at the same moment report it once between them.
        """
        barrier = threading.Barrier(16)

        def fail(event):
            barrier.wait(10)
            raise RuntimeError("listener fault")

        listeners = Listeners([fail])
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            threads = [threading.Thread(target=listeners, args=(EVENT,)) for _ in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)

        assert 1 == len(reports())

    def test_can_be_added_by_threads(self):
        """
        None of the listeners that threads add at once is lost.
        """
        listeners, seen = Listeners(), []

        def add():
            for _ in range(50):
                listeners.add(seen.append)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            threads = [threading.Thread(target=add) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        listeners(EVENT)

        assert 400 == len(seen)

    def test_may_be_added_while_an_event_is_told(self):
        """
        A listener added by a listener hears the next event, not the one under way.
        """
        seen = []
        listeners = Listeners()
        listeners.add(lambda event: listeners.add(seen.append) if not seen else None)
        listeners(EVENT)

        assert [] == seen

        listeners(EVENT)

        assert [EVENT] == seen

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_interruptions_pass(self, kind, reports):
        """
        Ctrl-C while a listener runs is not the listener's fault.
        """

        def interrupt(event):
            raise kind

        with pytest.raises(kind):
            Listeners([interrupt])(EVENT)

        assert [] == reports()


KINDS = [kind for name in events.__all__ if isinstance(kind := getattr(events, name), type) and Event in kind.__bases__]


class TestEvents:
    @pytest.mark.parametrize("kind", KINDS)
    def test_are_frozen_and_small(self, kind):
        """
        An event can't be changed by a listener, and takes no dict.
        """
        event = kind(*[None] * len(dataclasses.fields(kind)))
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.target = "other"

        assert not hasattr(event, "__dict__")

    @pytest.mark.parametrize("kind", KINDS)
    def test_have_a_name_of_their_own(self, kind):
        """
        The name is the class's in the words of logs and metrics.
        """
        words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__)

        assert words.lstrip("_") == kind.name

    @pytest.mark.parametrize("kind", KINDS)
    def test_hold_neither_arguments_nor_results(self, kind):
        """
        No field of an event is made for what was passed to a call, or what it returned.
        """
        names = {field.name for field in dataclasses.fields(kind)}

        assert not names & {"args", "arguments", "kwargs", "value", "result", "prompt", "image", "key"}

    def test_are_all_exported(self):
        """
        Whoever writes a listener finds every event in the room's front door.
        """

        assert {kind.__name__ for kind in Event.__subclasses__()} == {kind.__name__ for kind in KINDS}
