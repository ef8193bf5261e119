"""Changing policy files: bytes, words, lines, and the structure itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

from fuzz.corpus import PUNCTUATION, Corpus

_WORD = re.compile(rb"[A-Za-z0-9_.$+-]+")

Mutate = Callable[[bytes, Random, Corpus], bytes]


def mutated(random: Random, corpus: Corpus) -> bytes:
    """A policy file that something has happened to, a few times over."""
    if random.random() < 0.5:
        data = _restructured(random, corpus)
        if random.random() < 0.8:
            return data
    else:
        data = random.choice(corpus.seeds)
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 5))):
        data = random.choice(_MUTATIONS)(data, random, corpus)
    return data


def _cut(data: bytes, random: Random, corpus: Corpus) -> bytes:
    start = random.randint(0, len(data))
    return data[:start] + data[start + random.randint(1, 12) :]


def _double(data: bytes, random: Random, corpus: Corpus) -> bytes:
    start = random.randint(0, len(data))
    end = start + random.randint(1, 40)
    return data[:end] + data[start:end] * random.choice((1, 1, 3, 30)) + data[end:]


def _flip(data: bytes, random: Random, corpus: Corpus) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _insert_punctuation(data: bytes, random: Random, corpus: Corpus) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.choice(PUNCTUATION) + data[at:]


def _insert_word(data: bytes, random: Random, corpus: Corpus) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.choice(corpus.words).encode() + data[at:]


def _replace_word(data: bytes, random: Random, corpus: Corpus) -> bytes:
    words = list(_WORD.finditer(data))
    if not words:
        return data
    start, end = random.choice(words).span()
    return data[:start] + random.choice(corpus.words).encode() + data[end:]


def _swap_words(data: bytes, random: Random, corpus: Corpus) -> bytes:
    words = list(_WORD.finditer(data))
    if len(words) < 2:
        return data
    first, second = sorted(random.sample(words, 2), key=lambda match: match.start())
    between = data[first.end() : second.start()]
    return data[: first.start()] + second.group() + between + first.group() + data[second.end() :]


def _move_line(data: bytes, random: Random, corpus: Corpus) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    line = lines.pop(random.randrange(len(lines)))
    for _ in range(random.choice((0, 1, 1, 2))):
        lines.insert(random.randint(0, len(lines)), line)
    return b"".join(lines)


def _indent_line(data: bytes, random: Random, corpus: Corpus) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    at = random.randrange(len(lines))
    line = lines[at]
    lines[at] = line.lstrip(b" ") if random.random() < 0.3 else random.choice((b" ", b"  ", b"\t", b"    ")) + line
    return b"".join(lines)


def _splice(data: bytes, random: Random, corpus: Corpus) -> bytes:
    """Lines of another file in between."""
    lines = data.splitlines(keepends=True)
    other = random.choice(corpus.seeds).splitlines(keepends=True)
    start = random.randint(0, len(other))
    at = random.randint(0, len(lines))
    return b"".join([*lines[:at], *other[start : start + random.randint(1, 6)], *lines[at:]])


_MUTATIONS: tuple[Mutate, ...] = (
    _cut,
    _double,
    _flip,
    _insert_punctuation,
    _insert_punctuation,
    _insert_word,
    _replace_word,
    _replace_word,
    _replace_word,
    _swap_words,
    _move_line,
    _indent_line,
    _splice,
)


def _restructured(random: Random, corpus: Corpus) -> bytes:
    """A policy with parts moved, removed, renamed or given other values; still YAML, as a rule."""
    tree = deepcopy(random.choice(corpus.trees))
    for _ in range(random.choice((1, 1, 2, 3))):
        _change(tree, random, corpus)
    return json.dumps(tree, ensure_ascii=random.random() < 0.2).encode(errors="surrogatepass")


def _change(tree: Any, random: Random, corpus: Corpus) -> None:
    spots = list(_spots(tree))
    if not spots:
        return
    parent, key = random.choice(spots)
    match random.randrange(12):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[random.choice(corpus.words)] = parent.pop(key)
        case 2:
            inner = parent[key]
            parent[key] = [inner] if random.random() < 0.5 else {random.choice(corpus.words): inner}
        case 3:  # a part of another policy, anywhere
            other_parent, other_key = random.choice(_spots(random.choice(corpus.trees)))
            parent[key] = deepcopy(other_parent[other_key])
        case 4:
            parent[key] = _value(random, corpus)
        case 5 | 6:  # a part of another policy, beside what is there
            other = random.choice(corpus.trees)
            section = random.choice(list(other))
            mine, theirs = tree.get(section), deepcopy(other[section])
            tree[section] = {**mine, **theirs} if isinstance(mine, dict) and isinstance(theirs, dict) else theirs
        case _:  # what may stand there as well as not
            parent[key] = deepcopy(random.choice(corpus.by_key.get(key, (parent[key],))))


def _spots(tree: Any) -> list[tuple[Any, Any]]:
    """Every place in *tree*: the map or list, and the key or index."""
    found: list[tuple[Any, Any]] = []
    ahead = [tree]
    while ahead:
        node = ahead.pop()
        inside = list(node.items()) if isinstance(node, dict) else list(enumerate(node))
        for key, child in inside:
            found.append((node, key))
            if isinstance(child, dict | list):
                ahead.append(child)
    return found


def _value(random: Random, corpus: Corpus) -> Any:
    word = random.choice(corpus.words)
    if random.random() < 0.4:
        return word
    try:
        return json.loads(word)
    except ValueError:
        return random.choice((None, True, 0, 1, -1, 2.5, 10**30, "", [], {}, [word], {word: None}, {"a": word}))
