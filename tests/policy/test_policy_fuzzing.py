"""Whatever a file holds, it loads or it is a PolicyError that says why."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pixel_llm.errors import PolicyError
from pixel_llm.policy import load_policy_file
from pixel_llm.policy.nodes import Node
from pixel_llm.policy.reading import read_bytes

CORPUS = [path.read_bytes() for path in sorted((Path(__file__).parent.parent / "policies" / "valid").glob("*.yaml"))]
VARIABLES = {"LM_STUDIO_API_KEY": "k", "VENDOR": "acme", "TEMPERATURE": "0.5"}

#: What YAML and the policy language give a meaning to.
TOKENS = [
    b" ", b"\n", b"\n  ", b"\n- ", b"\t", b"\r", b":", b": ", b"- ", b"? ", b"#", b" #", b",", b"[", b"]", b"{",
    b"}", b"'", b'"', b"|", b">", b"&a ", b"*a", b"!", b"!!str ", b"%", b"@", b"`", b"---\n", b"...\n", b"<<: ",
    b"null", b"~", b"true", b"no", b"0", b"-1", b"1e999", b".inf", b"012", b"1:30", b"2024-01-31", b"1_0",
    b"0x1_", b"1s", b"\\n", b"\\ud800", b"\\0", b"${", b"${A}", b"${A:-1}", b"$${", b"version: 1\n",
    b"extends: basic\n", b"targets", b"retry", b"fallback", b"cache", b"\x00", b"\x1b", b"\x7f", b"\x85",
    b"\xa0", b"\xff", b"\xed\xa0\x80", "\u2028".encode(), "\ufeff".encode(), "\U0001f600".encode(),
]  # fmt: skip


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A valid policy with a few pieces cut out, doubled or put in."""
    data = draw(st.sampled_from(CORPUS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        piece = draw(
            st.one_of(st.just(b""), st.just(data[start:end] * 2), st.sampled_from(TOKENS), st.binary(max_size=4))
        )
        data = data[:start] + piece + data[end:]
    return data


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("policies") / "p.yaml"


def check(error: PolicyError) -> None:
    """An error lists problems, each with a file and one line of printable text."""
    assert error.problems
    for problem in error.problems:
        assert problem.message
        assert str(problem).isprintable()


class TestReadBytes:
    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(TOKENS), max_size=20).map(b"".join)))
    @example(b'1: a\n"1": b\n')
    @example(b"? : \n")
    @example(b"a: \n- ")
    def test_any_bytes(self, data):
        """
        Any bytes at all are a mapping with places, or an error.
        """
        try:
            node = read_bytes(data, name="p.yaml")
        except PolicyError as exc:
            check(exc)
        else:
            assert isinstance(node, Node)
            assert isinstance(node.plain(), dict)


class TestLoadPolicyFile:
    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(mutations())
    @example(b'version: 1\ntargets: {a: {deadline: "30s\\n"}}\n')
    @example(b'version: 1\n"\\ud800": 1\n')
    def test_any_change_to_a_policy(self, file, data):
        """
        A policy that something happened to still loads, or is an error; it never crashes.
        """
        file.write_bytes(data)
        try:
            load_policy_file(file, variables=VARIABLES)
        except PolicyError as exc:
            check(exc)
