"""What is reported beside a call harms neither the call nor whoever reports it."""

from __future__ import annotations

import logging

import pytest

from pixel_llm.events import Listeners, PolicyReloaded
from pixel_llm.events.trouble import report_trouble
from pixel_llm.policy import FallbackStep, FallbackStrategy, TargetPolicy
from pixel_llm.resilience import Stack, guard

EVENT = PolicyReloaded("basic", (), ())


class Broken(logging.Handler):
    """A handler that raises by itself, as some do."""

    def emit(self, record):
        raise RuntimeError("handler broke")


@pytest.fixture
def broken():
    handler = Broken()
    logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)


def test_is_written_with_the_exception_that_is_handled(caplog):
    try:
        raise ValueError("no")
    except ValueError:
        report_trouble("%s failed", "it")
    (record,) = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == ("pixel_llm", "ERROR", "it failed")
    assert record.exc_info[0] is ValueError
    assert record.filename == "test_trouble.py"


def test_is_written_without_one(caplog):
    report_trouble("beware", level=logging.WARNING, exc_info=False)
    (record,) = caplog.records
    assert (record.levelname, record.exc_text) == ("WARNING", None)


def test_a_handler_that_raises_harms_nobody(broken):
    report_trouble("it failed")


def test_nor_does_one_that_hears_of_a_listener_that_raises(broken):
    def listener(event):
        raise ValueError("no")

    heard = []
    Listeners([listener, heard.append])(EVENT)
    assert heard == [EVENT]


def test_nor_one_that_hears_of_a_tracer_that_raises(broken):
    class Unheard:
        """No tracer at all."""

    assert guard(Stack("shop.pay", TargetPolicy(), tracer=Unheard()), lambda: "paid")() == "paid"


def test_the_fallback_serves_all_the_same(broken):
    def listener(event):
        raise ValueError("no")

    def gone():
        raise ConnectionError("gone")

    later = (FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="later"),)
    stack = Stack("shop.pay", TargetPolicy(fallback=later), emit=Listeners([listener]))
    assert guard(stack, gone)() == "later"
