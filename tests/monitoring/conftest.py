from __future__ import annotations

import sys
import threading

import pytest
from logs_reading import Kept
from shop import load_shop

from pixel_llm.testing import VirtualClock


@pytest.fixture
def keep(tmp_path):
    """Makes logs with a file, and closes them at the end."""
    logs = []

    def keep(name="shop.log", **config):
        logs.append(Kept(tmp_path / name, **config))
        return logs[-1]

    yield keep
    for kept in logs:
        kept.log.close()


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def shop(tmp_path, clock):
    """Policies that have every layer."""
    with load_shop(tmp_path, clock) as policies:
        yield policies


@pytest.fixture
def busily():
    """
    Runs functions in a thread each, changing between threads as often as can be; gives what they return.

    Those that run *meanwhile* are begun again and again until the others have ended.
    """

    def busily(functions, meanwhile=()):
        results, done = [None] * len(functions), threading.Event()

        def work(number, function):
            results[number] = function()

        def repeat(function):
            while not done.is_set():
                function()

        works = [threading.Thread(target=work, args=one) for one in enumerate(functions)]
        others = [threading.Thread(target=repeat, args=(function,)) for function in meanwhile]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for thread in (*others, *works):
                thread.start()
            for thread in works:
                thread.join()
            done.set()
            for thread in others:
                thread.join()
        finally:
            done.set()
            sys.setswitchinterval(interval)
        return results

    return busily
