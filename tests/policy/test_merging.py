from __future__ import annotations

from typing import Any

import pytest

from pixel_llm.errors import Place
from pixel_llm.policy.merging import merge, without_nulls
from pixel_llm.policy.nodes import Node, node_from
from pixel_llm.policy.reading import read_bytes

#: RFC 7396, appendix A: original, patch, result. But for the one whose original holds a null: in a
#: policy that is a patch too, laid over nothing.
EXAMPLES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


def tree(value: Any, file: str = "base") -> Node:
    return node_from(value, Place(file))


def read(text: str, name: str) -> Node:
    return read_bytes(text.encode(), name=name)


class TestMerge:
    @pytest.mark.parametrize(("original", "patch", "expected"), EXAMPLES)
    def test_examples_of_the_rfc(self, original, patch, expected):
        """
        Every example of RFC 7396 comes out as it says.
        """
        assert expected == without_nulls(merge(tree(original), tree(patch))).plain()

    def test_onto_nothing(self):
        """
        Without a base, null has nothing to remove yet; its mark goes with the others.
        """
        merged = merge(None, tree({"a": None, "b": {"c": None}}))

        assert {"a": None, "b": {"c": None}} == merged.plain()
        assert {"b": {}} == without_nulls(merged).plain()

    def test_null_leaves_a_mark(self):
        """
        What was removed stays removed where it is laid over something else later.
        """
        merged = merge(tree({"a": {"b": 1, "c": 1}}), tree({"a": {"b": None}}))

        assert {"a": {"b": None, "c": 1}} == merged.plain()
        assert {"a": {"c": 1}} == without_nulls(merge(tree({"a": {"b": 2}}), merged)).plain()

    def test_what_was_removed_may_come_back(self):
        """
        A value over a mark counts, and brings nothing back of what was removed.
        """
        merged = merge(merge(tree({"a": {"b": 1}}), tree({"a": None})), tree({"a": {"c": 1}}))

        assert {"a": {"c": 1}} == without_nulls(merged).plain()

    def test_null_in_a_list_stays(self):
        """
        Lists are taken whole, the nulls in them too.
        """
        assert {"a": [None, {"b": None}]} == merge(tree({"a": [1]}), tree({"a": [None, {"b": None}]})).plain()

    def test_order_of_keys(self):
        """
        Keys stay in the order of the base; new ones follow.
        """
        merged = merge(tree({"a": 1, "b": 2}), tree({"c": 3, "b": 4, "a": 5}))

        assert ["a", "b", "c"] == list(merged.plain())

    def test_neither_side_is_changed(self):
        """
        Merging makes a new tree; both that went in stay as they were.
        """
        base, patch = tree({"a": {"b": 1}, "c": 1}), tree({"a": {"d": 2}, "c": None})
        merge(base, patch)

        assert {"a": {"b": 1}, "c": 1} == base.plain()
        assert {"a": {"d": 2}, "c": None} == patch.plain()

    def test_values_and_keys_keep_their_places(self):
        """
        What comes from the base keeps its place there; what the patch says stands in the patch.
        """
        base = read("a:\n  b: 1\n  c: 2\n", "base")
        merged = merge(base, read("a: {c: 3}\n", "patch")).find(["a"])

        assert Place("base", 2, 6) == merged.find(["b"]).place
        assert Place("base", 2, 3) == merged.place_of_key("b")
        assert Place("patch", 1, 8) == merged.find(["c"]).place
        assert Place("patch", 1, 5) == merged.place_of_key("c")

    def test_a_removed_key_that_comes_back(self):
        """
        A key that was removed and comes back stands where it came back.
        """
        without = merge(read("a: 1\nb: 1\n", "base"), read("a: null\nb: 1\n", "patch"))
        again = merge(without, read("\n\na: 2\n", "last"))

        assert Place("last", 3, 1) == again.place_of_key("a")
