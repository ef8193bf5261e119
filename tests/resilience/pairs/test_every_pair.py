"""No pair of layers is without a test, in either world."""

from __future__ import annotations

import inspect

import pytest
from pair_table import BOTH_WORLDS, held_by, layers, pairs

from pixel_llm.policy import TargetPolicy


@pytest.mark.parametrize(("outer", "inner"), pairs(), ids="-".join)
def test_has_a_test_in_both_worlds(outer: str, inner: str):
    """
    A layer that is new has no tests with the others yet: it fails here until it has.
    """
    found = held_by().get((outer, inner), [])

    assert found, f"no test says what {outer} and {inner} mean for each other: write one, marked @pair(...)"
    for test in found:
        assert BOTH_WORLDS & set(inspect.signature(test).parameters), f"{test.__name__} does not run in both worlds"
        assert test.__doc__, f"{test.__name__} does not state its fact"


def test_marks_name_pairs_that_there_are():
    """
    A test is marked with two layers, the outer one first; the order is that of the stack.
    """
    assert set() == set(held_by()) - set(pairs())


def test_layers_are_in_the_order_of_the_stack():
    """
    The settings of a target stand in the order of its layers, so the outer of two is the one named first.
    """
    assert ["deadline", "fallback", "cache", "retry"] == layers()[:4]
    assert set(layers()) < set(TargetPolicy.__dataclass_fields__)
