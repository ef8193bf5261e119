"""How the pictures of a batch come to the threads that ask about them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pixel_llm.hybrid.batch import Prepared
from pixel_llm.hybrid.handover import Handover


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


class TestHandover:
    def test_in_order_to_the_end(self):
        """
        What is laid down is taken in its order; after the last there is nothing more, for everyone.
        """
        handover, taken = Handover(2), []
        handover.join()

        def ask() -> None:
            while (prepared := handover.take()) is not None:
                taken.append(prepared.index)
            handover.leave()

        asking = in_thread(ask)
        for index in range(7):
            handover.put(Prepared(index, None))
        handover.wait()
        asking.join(10)

        assert list(range(7)) == taken
        assert handover.take() is None

    def test_breaking_off_wakes_who_waits_for_pictures(self):
        """
        A batch that is broken off leaves no thread waiting for its next picture, and hands out nothing that still lies.
        """
        handover, taken = Handover(2), []
        asking = in_thread(lambda: taken.append(handover.take()))

        handover.break_off()
        asking.join(10)

        assert [None] == taken
        handover.put(Prepared(0, None))
        assert handover.take() is None

    @pytest.mark.parametrize("waiting", ["for room", "for the end"])
    def test_breaking_off_wakes_who_reads(self, waiting):
        """
        Whoever lays pictures down gets what broke the batch off: the first, if there are several.
        """
        handover, caught = Handover(1), []
        handover.join()
        handover.put(Prepared(0, None))

        def read() -> None:
            try:
                handover.put(Prepared(1, None)) if waiting == "for room" else handover.wait()
            except SystemExit as error:
                caught.append(error.code)

        reading = in_thread(read)
        handover.break_off(SystemExit(3))
        handover.break_off(SystemExit(4))
        reading.join(10)

        assert [3] == caught
