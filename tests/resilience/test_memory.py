from __future__ import annotations

import gc
import tracemalloc
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixel_llm.policy import CacheConfig
from pixel_llm.resilience import ResultCache
from pixel_llm.resilience.caching.memory import memory_size
from pixel_llm.testing import VirtualClock


@dataclass(frozen=True, slots=True)
class Slotted:
    text: str
    more: Any = None


@dataclass
class Plain:
    text: str
    more: Any = None


class _Private:
    """Its one slot is named in a bare text, and mangled with the class's name, less what that begins with."""

    __slots__ = "__text"

    def __init__(self, text: str) -> None:
        self.__text = text


class Half(_Private):
    """A slot above, attributes here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.more = text * 2


#: Functions that make a value of many kilobytes, so that what Python takes for itself does not show.
VALUES = {
    "text": lambda: "x" * 100_000,
    "wide text": lambda: "\U0001f600" * 30_000,
    "bytes": lambda: b"x" * 100_000,
    "bytearray": lambda: bytearray(100_000),
    "list of texts": lambda: [f"entry number {number}" for number in range(2000)],
    "numbers": lambda: [float(number) for number in range(5000)],
    "tuple": lambda: tuple(f"{number}" * 10 for number in range(2000)),
    "set": lambda: {f"entry {number}" for number in range(2000)},
    "deque": lambda: deque(f"entry number {number}" for number in range(2000)),
    "mapping": lambda: {f"key {number}": f"value {number}" for number in range(2000)},
    "ordered mapping": lambda: OrderedDict((f"key {number}", f"value {number}") for number in range(2000)),
    "nested": lambda: [{"text": f"x{number}", "parts": [f"{number}", (f"{number}y",)]} for number in range(1000)],
    "slotted": lambda: [Slotted(f"x{number}", Slotted(f"y{number}")) for number in range(2000)],
    "plain": lambda: [Plain(f"x{number}", Plain(f"y{number}")) for number in range(2000)],
    "private": lambda: _Private("x" * 100_000),
    "half": lambda: Half("x" * 50_000),
    "array": lambda: np.ones((100, 200)),
    "array of objects": lambda: {f"a{number}": np.ones(50) for number in range(200)},
    "view": lambda: np.ones(20_000)[:],
}


def measured(make: Any) -> int:
    """What making a value takes, by the allocator's word."""
    make()  # once before, for what is only allocated the first time
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        value = make()
        after, _ = tracemalloc.get_traced_memory()
        del value
        return after - before
    finally:
        tracemalloc.stop()


class TestMemorySize:
    @pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
    def test_is_about_what_the_allocator_says(self, make):
        """
        The estimate is neither half nor twice the truth, whatever the value is made of.
        """
        truth = measured(make)

        assert truth > 20_000
        assert 0.5 < memory_size(make()) / truth < 2

    def test_counts_each_object_once(self):
        """
        What is referred to several times is there once.
        """
        text = "x" * 10_000

        assert memory_size([text] * 5) < 11_000

    def test_ends_where_a_value_holds_itself(self):
        """
        A circle is gone through once.
        """
        value: list[Any] = ["x" * 1000]
        value.append(value)

        assert 1000 < memory_size(value) < 1500

    def test_goes_deep(self):
        """
        No depth is too deep.
        """
        value: list[Any] = []
        for _ in range(50_000):
            value = [value]

        assert memory_size(value) > 50_000 * 56

    def test_leaves_classes_out(self):
        """
        A value's class is not a part of it.
        """
        assert memory_size([Plain, dict]) < 200


@st.composite
def entries(draw: st.DrawFn) -> list[tuple[int, str, float]]:
    """Keys, values and the seconds that pass between."""
    entry = st.tuples(st.integers(0, 9), st.text("xy", max_size=3).map(lambda text: text * 700), st.floats(0, 30))
    return draw(st.lists(entry, max_size=40))


class TestCacheBytes:
    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(entries(), st.integers(1, 20_000), st.integers(1, 8))
    def test_is_never_exceeded(self, entries, max_bytes, max_entries):
        """
        Whatever is stored, what is kept takes no more than the bound, by its own estimate and by ours.
        """
        clock = VirtualClock(0.0)
        cache = ResultCache(CacheConfig(ttl=60.0, max_entries=max_entries, max_bytes=max_bytes), clock=clock)
        for key, value, seconds in entries:
            cache.store(key, value)
            kept = {key: found.value for key in range(10) if (found := cache.get(key)) is not None}

            assert cache.memory() <= max_bytes
            assert sum(memory_size((key, value)) for key, value in kept.items()) <= max_bytes
            assert len(cache) <= max_entries
            clock.advance(seconds)

    def test_the_one_unused_for_longest_goes(self):
        """
        Memory is made for a new result as room is: the result that nobody asked for goes first.
        """
        cache = ResultCache(CacheConfig(ttl=60.0, max_bytes=5000), clock=VirtualClock(0.0))
        for key in "ab":
            cache.store(key, key * 1000)
        cache.get("a")
        cache.store("c", "c" * 1000)

        assert ["a", "c"] == [key for key in "abc" if cache.get(key) is not None]

    def test_what_alone_is_too_large_is_not_kept(self):
        """
        A result larger than the bound leaves the others where they are.
        """
        cache = ResultCache(CacheConfig(ttl=60.0, max_bytes=5000), clock=VirtualClock(0.0))
        cache.store("a", "a")
        cache.store("b", "b" * 5000)

        assert ["a"] == [key for key in "ab" if cache.get(key) is not None]

    def test_is_less_after_a_smaller_result(self):
        """
        A result that replaces another takes its place in the sum.
        """
        cache = ResultCache(CacheConfig(ttl=60.0), clock=VirtualClock(0.0))
        cache.store("a", "a" * 5000)
        cache.store("a", "a")

        assert cache.memory() < 2000

    def test_is_about_what_the_allocator_says(self):
        """
        A full cache takes about what it was given, neither half nor twice of it.
        """
        max_bytes = 500_000

        def fill() -> ResultCache:
            cache = ResultCache(CacheConfig(ttl=60.0, max_bytes=max_bytes), clock=VirtualClock(0.0))
            for number in range(2000):
                cache.store(("request", number), {"text": f"{number}" * 50, "model": f"m{number}"})
            return cache

        assert 0.5 < measured(fill) / max_bytes < 2
