"""Files made to keep the reader busy: time grows with their size, not with its square."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pixel_llm.errors import PolicyError
from pixel_llm.policy import load_policy_file

#: Each is a head, a line that repeats with a number in it, and a tail.
FILES: dict[str, tuple[str, str, str]] = {
    "unknown keys": ("", "k{0}: 1\n", ""),
    "keys that stand twice": ("", "a: 1\n", ""),
    "targets": ("targets:\n", "  t{0}: {{deadline: 5s}}\n", ""),
    "patterns": ("defaults: {timeout: 5s}\ntargets:\n", "  a.t{0}.*: {{deadline: 5s}}\n", ""),
    "templates that are not there": (
        "templates: {retry: {" + ", ".join(f"t{number}: {{}}" for number in range(2000)) + "}}\ntargets:\n",
        "  t{0}: {{retry: x{0}, idempotent: true}}\n",
        "",
    ),
    "the same parent": ("extends: [", "basic, ", "basic]"),
    "parents that are not there": ("extends: [", "p{0}, ", "basic]"),
    "fallback steps": ("targets: {a: {fallback: [", "none, ", "none]}}"),
    "references": ("description: '", "${{A}}", "'"),
    "references that are not closed": ("description: '", "${{", "'"),
    "references that are not set": ("targets: {a: {fallback: [default_value: [", "'${{UNSET}}', ", "1]]}}"),
    "look-alikes": ("targets: {a: {fallback: [default_value: [", "on, ", "1]]}}"),
    "anchors": ("targets: {a: {fallback: [default_value: [", "&a{0} x, ", "1]]}}"),
    "a key": ("'", "k", "': 1"),
    "a name": ("targets: {'a", ".a", "': {}}"),
    "a duration": ("targets: {a: {deadline: ", "1", "s}}"),
    "a duration with points": ("targets: {a: {deadline: ", "1.", "s}}"),
    "an address": ("lm_studio: {base_url: 'http://", "[", "'}"),
}


def load(file: Path) -> float:
    """Load *file*; how many seconds of the processor it took."""
    start = time.process_time()
    try:
        load_policy_file(file, variables={"A": "1"})
    except PolicyError as error:
        assert all(len(str(problem)) < 4000 for problem in error.problems)  # noqa: PT017 - what is wrong is not the case
    return time.process_time() - start


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    def write(name: str, size: int) -> Path:
        head, line, tail = FILES[name]
        lines = (line.format(number) for number in range(size // len(line.format(10_000))))
        file = tmp_path / "p.yaml"
        file.write_text(f"version: 1\n{head}{''.join(lines)}{tail}\n")
        return file

    return write


class TestLoadPolicyFile:
    @pytest.mark.parametrize("name", FILES)
    def test_takes_its_time_and_no_more(self, write, name):
        """
        Fifty kilobytes of anything are done within two seconds; most take a tenth of that.
        """
        assert load(write(name, 50_000)) < 2
