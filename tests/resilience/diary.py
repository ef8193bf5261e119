"""A tracer that writes a diary of what it sees."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pixel_llm.errors import ConnectionError, ErrorCode

TARGET = "shop.pay"


class Seen:
    """A span that writes down what it is told, as lines of a diary."""

    def __init__(self, name, tracer):
        self.name, self.tracer, self.attempts = name, tracer, 0
        self.inside = 0
        tracer.diary.append(f"{name} begins")

    def enter(self):
        self.inside += 1
        return self

    def leave(self, entered):
        assert entered is self
        self.inside -= 1

    def attempt(self, target):
        self.attempts += 1
        place = target[target.index("[") :] if "[" in target else ""
        return Seen(f"{self.name}.{self.attempts}{place}", self.tracer)

    def request(self, method, url):
        return Asked(self, f"{method} {url}")

    def chunk(self, chunk):
        self.tracer.diary.append(f"{self.name}: {chunk}")

    def end(self, result, error):
        value = getattr(result, "value", result)
        what = repr(value) if error is None else type(error).__name__
        self.tracer.diary.append(f"{self.name} ends in {what}")
        self.tracer.ended.append((self.name, result, error))


class Asked:
    """A request that writes into the diary of its span."""

    def __init__(self, span, name):
        self.headers = {"traceparent": "00-1"}
        self.span, self.name = span, name
        span.tracer.diary.append(f"{name} begins")

    def answered(self, status):
        self.span.tracer.diary.append(f"{self.name}: {status}")

    def end(self, error):
        self.span.tracer.diary.append(f"{self.name} ends in {type(error).__name__}")


class Diary:
    """A tracer; its calls are named a, b, c …"""

    def __init__(self):
        self.diary, self.ended, self.told = [], [], []

    def call(self, target, args, kwargs):
        self.told.append((target, args, dict(kwargs)))
        return Seen("abcdefgh"[len(self.told) - 1], self)

    def lines(self, *, of: str = "") -> list[str]:
        """What it saw; *of* calls and attempts whose names begin so."""
        return [line for line in self.diary if line.startswith(of)]


def gone():
    return ConnectionError("gone", error_code=ErrorCode.ERR_CONN_LOST)


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait for what another thread does."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come")
