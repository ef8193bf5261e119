"""What the fuzzer starts from: every policy file there is, and the words of the language."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixel_llm.errors import PolicyError
from pixel_llm.policy import build_schema, shipped_folder
from pixel_llm.policy.nodes import Node
from pixel_llm.policy.reading import read_bytes

_CASES = Path(__file__).parent.parent / "tests" / "policies"
VALID = _CASES / "valid"

#: No seed is longer: a long one takes its time and shows nothing that a short one does not.
_LONGEST = 4000

#: What YAML gives a meaning to.
PUNCTUATION = [
    b" ", b"  ", b"\n", b"\n  ", b"\n- ", b"\t", b"\r", b"\r\n", b":", b": ", b"- ", b"-", b"? ", b"?", b"#", b" #",
    b",", b"[", b"]", b"{", b"}", b"{}", b"[]", b"'", b'"', b"''", b"|", b"|-\n", b">", b">+2\n", b"&a ", b"*a", b"*",
    b"&", b"!", b"!!str ", b"!!binary ", b"!<", b"%", b"%YAML 1.1\n", b"@", b"`", b"---\n", b"--- ", b"...\n", b"<<: ",
    b"<<", b"=", b"\\", b"\\x41", b"\\ud800", b"\\U0001F600", b"\\0", b"\x00", b"\x07", b"\x1b", b"\x7f",
    b"\x80", b"\x85", b"\xa0", b"\xc2\x85", b"\xe2\x80\xa8", b"\xff", b"\xfe\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    b"\xf0\x9f\x98\x80", b"\xd9\xa3",
]  # fmt: skip

#: Values that a setting may take, nearly take, or that YAML's versions read differently.
VALUES = [
    "null", "~", "true", "false", "yes", "no", "on", "Off", "y", "0", "-0", "1", "-1", "2", "3", "100", "1000000",
    "9223372036854775808", "1" + "0" * 50, "012", "0o14", "0x1F", "0b1", "1_000", "1e3", "1.5e+3", ".5", "-.5", "1.",
    "1e999", ".inf", ".nan", "1:30", "2024-01-31", "0s", "1s", "30", "30s", "500ms", "1h30m", "1d", "-1s", "0.0001ms",
    "99999h", "100000h", "64MiB", "64", "64MB", "1B", "999999999GiB", "${A}", "${A:-1}", "${A:-30s}", "${A:-}", "${",
    "${}", "$${", "${A:-${B}}", "${LM_STUDIO_API_KEY}", "${LM_STUDIO_API_KEY:-}", "${SURROGATE}", "${NEWLINE}",
    "5xx", "4xx", "429", "503", "600", "xx", "a.*", "*", "a.b.*", "lm_studio.*", "lm_studio.chta", "a", "a.b", "A.B",
    "http://127.0.0.1:1234/v1", "http://", "https://[::1/v1", "http://h:99999/v1", "# pixel-llm: ignore PL101 -- why",
    "# pixel-llm: ignore PL101", "# pixel-llm: ignore PL999 -- x", "case", "overlay", "parent",
]  # fmt: skip


@dataclass(frozen=True)
class Corpus:
    """
    What is mutated, and what it is mutated with.

    Attributes:
        seeds: Policy files, right and wrong ones, the right ones twice as often.
        trees: Those of them that can be read, as plain values.
        words: Keys and values of the language.
        by_key: What stands under a key, be it in a policy that is right or in an example of the schema.
    """

    seeds: tuple[bytes, ...]
    trees: tuple[dict[str, Any], ...]
    words: tuple[str, ...]
    by_key: dict[str, tuple[Any, ...]]


def load_corpus() -> Corpus:
    """Read every policy file of the tests, and the shipped profiles."""
    right = [*_files(VALID), *_files(shipped_folder("policies"))]
    wrong = _files(_CASES / "invalid")
    seeds = (*right * max(1, round(2 * len(wrong) / len(right))), *wrong)
    trees = tuple(tree.plain() for data in seeds if (tree := _read(data)) is not None)
    schema = build_schema(source=True)
    words = dict.fromkeys([*_words(schema), *VALUES])
    by_key: dict[str, dict[str, Any]] = {}
    for part in [*_examples(schema), *(tree.plain() for data in right if (tree := _read(data)) is not None)]:
        for key, value in _pairs(part):
            by_key.setdefault(key, {})[json.dumps(value)] = value
    return Corpus(
        seeds,
        trees,
        tuple(word for word in words if word),
        {key: tuple(values.values()) for key, values in by_key.items()},
    )


def _files(folder: Path) -> list[bytes]:
    return [data for path in sorted(folder.rglob("*.y*ml")) if len(data := path.read_bytes()) <= _LONGEST]


def _read(data: bytes) -> Node | None:
    try:
        return read_bytes(data, name="seed")
    except PolicyError:
        return None


def _pairs(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every key in *tree* and what stands under it."""
    if isinstance(tree, dict):
        yield from tree.items()
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _pairs(child)


def _examples(schema: Any) -> Iterator[dict[str, Any]]:
    """Maps of a key and an example or the default of it."""
    for key, value in _pairs(schema):
        if key == "properties":
            for name, item in value.items():
                yield from ({name: example} for example in [*item.get("examples", ()), item.get("default")])


def _words(schema: Any) -> Iterator[str]:
    """Every key, enumerated value, default and example of *schema*."""
    if isinstance(schema, list):
        for item in schema:
            yield from _words(item)
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key == "properties":
            yield from value
        if key == "enum":
            yield from map(str, value)
        elif key == "default":
            yield json.dumps(value)
        elif key == "examples":
            yield from (item if isinstance(item, str) else json.dumps(item) for item in value)
        else:
            yield from _words(value)
