"""Doing something later, in a thread."""

import threading

from pixel_llm.resilience.streams.later import LATER, Later


class TestLater:
    def test_in_order_of_time(self):
        """
        What is due first is done first, whatever was asked for first; what was asked for at once is done at once.
        """
        done, order = threading.Event(), []
        later = Later()
        later.after(0.1, lambda: (order.append("last"), done.set()))
        later.after(0.02, lambda: order.append("second"))
        later.soon(lambda: order.append("first"))
        later.start()

        assert done.wait(5)
        assert ["first", "second", "last"] == order

    def test_no_thread_to_be_had(self, monkeypatch):
        """
        Where the system has no further thread for it, it is tried again.
        """
        refusals, done = [], threading.Event()

        class Workers:
            def run(self, task, name):
                if not refusals:
                    refusals.append(name)
                    raise RuntimeError("can't start new thread")
                task()

        monkeypatch.setattr("pixel_llm.resilience.streams.later._AGAIN", 0.01)
        Later(Workers()).after(0.0, done.set)

        assert done.wait(5)
        assert ["pixel-llm later"] == refusals

    def test_after_a_fork(self):
        """
        A forked child has no thread of its parent's, and makes its own.
        """
        later, done = Later(), threading.Event()
        later.start()
        later.forget()
        later.after(0.0, done.set)

        assert done.wait(5)

    def test_two_that_start_it(self):
        """
        Threads that start it at the same moment make one thread.
        """
        later = Later()
        later._lock.acquire()
        threads = [threading.Thread(target=later.start) for _ in range(2)]
        for thread in threads:
            thread.start()
        later._lock.release()
        for thread in threads:
            thread.join()
        made = later._thread
        later.start()

        assert made is later._thread
        assert ("pixel-llm later", True) == (made.name, made.daemon)
        assert LATER is not later
