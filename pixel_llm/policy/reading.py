"""YAML text in, a tree with places out. Reads safely: no tags, no code, bounded size."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from pixel_llm.errors import Place, PolicyError, Problem
from pixel_llm.policy.decoding import UNREADABLE, decode
from pixel_llm.policy.nodes import Node
from pixel_llm.policy.scalars import LookAlikeError, resolve_plain
from pixel_llm.policy.syntax import explain

LOOK_ALIKE = "PL002"

#: A policy file is text that people edit; these bounds are far beyond any real one.
MAX_BYTES = 1024 * 1024
MAX_DEPTH = 40
MAX_NODES = 200_000

MERGE_KEY = "<<"

_SURROGATE = re.compile("[\ud800-\udfff]")

# libyaml's parser where the wheel has it: about ten times as fast.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_file(path: FilePath, *, name: str | None = None) -> Node:
    """
    Read one policy file; places in it carry *name*, else the path as given.

    Raises:
        PolicyError: If it cannot be read or is not one YAML mapping with text keys.
    """
    name = name or str(path)
    try:
        if path.is_fifo():  # reading one could wait for ever
            raise OSError("it is a pipe; give `-` for standard input")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise PolicyError([Problem(Place(name), "", f"cannot be read: {exc.strerror or exc}", UNREADABLE)]) from exc
    return read_bytes(data, name=name)


def read_bytes(data: bytes, *, name: str) -> Node:
    """Read a policy from bytes; see :func:`read_file`."""
    if len(data) > MAX_BYTES:
        raise PolicyError([Problem(Place(name), "", f"is larger than {MAX_BYTES // 1024} KiB", UNREADABLE)])
    return _Reader(name).read(decode(data, name))


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been read yet."""

    value: Any
    place: Place
    anchor: str | None
    keys: dict[str, Place] = field(default_factory=dict)
    key: str | None = None
    key_is_next: bool = True
    size: int = 1


class _Reader:
    """Builds the tree from the parser's events, without recursion, collecting problems."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._problems: list[Problem] = []
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._root: Node | None = None
        self._documents = 0

    def read(self, text: str) -> Node:
        try:
            for event in yaml.parse(text, Loader=_Loader):
                self._take(event)
        except yaml.MarkedYAMLError as exc:  # YAML's others are about characters, which the decoding has refused
            mark, what = explain(exc, text)
            self._report(self._place(mark), f"is not YAML: {what}")
        except (OverflowError, ValueError):  # PyYAML's own parser, of "\U00110000"; libyaml has words for it
            self._report(Place(self._name), "is not YAML: an escape in double quotes is no character")
        if not self._problems and (self._root is None or not isinstance(self._root.value, dict)):
            place = self._root.place if self._root else Place(self._name)
            what = "is empty" if self._root is None or self._root.value is None else "must be a mapping of sections"
            self._report(place, what)
        if self._problems or self._root is None:
            raise PolicyError(self._problems)
        return self._root

    def _place(self, mark: Any) -> Place:
        return Place(self._name, mark.line + 1, mark.column + 1)

    def _report(self, place: Place, message: str, rule: str = UNREADABLE) -> None:
        self._problems.append(Problem(place, "", message, rule))

    def _stop(self, place: Place, message: str) -> None:
        raise PolicyError([*self._problems, Problem(place, "", message, UNREADABLE)])

    def _take(self, event: Any) -> None:
        place = self._place(event.start_mark)
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, place)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._check_tag(event, place)
            if self._stack and isinstance(self._stack[-1].value, dict) and self._stack[-1].key_is_next:
                self._stop(place, "a key must be text, not a collection")
            if len(self._stack) >= MAX_DEPTH:
                self._stop(place, f"is nested more than {MAX_DEPTH} levels deep")
            value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._stack.append(_Open(value, place, event.anchor))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            done = self._stack.pop()
            self._add(Node(done.value, done.place, done.keys), done.size, done.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event, place)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._stop(place, "a policy file holds one document; start another file instead of `---`")

    def _check_tag(self, event: Any, place: Place) -> None:
        if event.tag is not None:
            self._report(place, f"tags such as {event.tag.replace('tag:yaml.org,2002:', '!!')} are not allowed")

    def _scalar(self, event: Any, place: Place) -> None:
        self._check_tag(event, place)
        value: object = event.value
        plain = not event.style and event.implicit[0]  # libyaml says "" for plain, the Python parser None
        if not event.value.isascii() and _SURROGATE.search(event.value):  # libyaml takes none of them
            self._report(place, "half of a surrogate pair is no text")
        top = self._stack[-1] if self._stack else None
        is_key = top is not None and isinstance(top.value, dict) and top.key_is_next
        if plain and not (is_key and value == MERGE_KEY):
            try:
                value = resolve_plain(event.value)
            except LookAlikeError as exc:
                self._report(place, str(exc), LOOK_ALIKE)
        if top is not None and is_key:
            self._key(top, value, event, place)
        else:
            self._add(Node(value, place, empty=plain and event.value == ""), 1, event.anchor)

    def _key(self, top: _Open, value: object, event: Any, place: Place) -> None:
        key = event.value
        if not isinstance(value, str):
            self._report(place, f'a key must be text: quote it, "{key}"')
        elif key == MERGE_KEY:
            self._report(place, "merge keys (<<) are YAML 1.1: use `templates` or `extends`")
        elif key in top.value:
            self._report(place, f"the key {key!r} stands twice; the first is in line {top.keys[key].line}")
        top.keys.setdefault(key, place)
        top.key, top.key_is_next = key, False

    def _alias(self, event: Any, place: Place) -> None:
        if self._stack and isinstance(self._stack[-1].value, dict) and self._stack[-1].key_is_next:
            self._stop(place, "a key must be text, not an alias")
        if event.anchor not in self._anchors:
            self._stop(place, f"the alias *{event.anchor} refers to nothing that is complete before it")
        node, size = self._anchors[event.anchor]
        self._add(node, size, None)

    def _add(self, node: Node, size: int, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = (node, size)
        if not self._stack:
            self._root = node
            return
        top = self._stack[-1]
        top.size += size
        if top.size > MAX_NODES:
            self._stop(node.place, f"expands to more than {MAX_NODES} values")
        if isinstance(top.value, list):
            top.value.append(node)
            return
        key = top.key or ""
        top.key_is_next = True
        if key not in top.value:
            top.value[key] = node
            if node.empty:
                self._report(
                    top.keys.get(key, node.place), f"{key} has no value; write null to remove what is inherited"
                )
