"""Running the samples of a page, one after the other, as a reader would."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import yaml

from pixel_llm.errors import Problem, ProblemSeverity
from pixel_llm.policy.checking import check_files
from pixel_llm.policy.interpolation import VARIABLE
from pixel_llm.testing import Answer, ScriptedLMStudio
from tools.samples.blocks import Block, read_blocks
from tools.samples.project import Project
from tools.samples.shell import Background, Shell
from tools.samples.transcript import agrees, read_transcript

#: Programs that make lasting things or need a network.
_NOT_RUN = ("make", "pip", "pre-commit", "curl", "sudo")

#: What ``python`` samples that need a server get from it, unless their page starts one.
ANSWER = "An astronaut."


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A sample that is not what the reader gets. *printed* is what a transcript would have to show."""

    block: Block
    what: str
    printed: str | None = None

    def __str__(self) -> str:
        return f"{self.block}: {self.what}"


def run_page(path: Path) -> Iterator[Mismatch]:
    """Run every sample of the page at *path*, in a project of its own, and give what is not as shown."""
    with ExitStack() as stack:
        yield from _Run(path, stack).all()


class _Run:
    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._text = path.read_text("utf-8")
        self._blocks = read_blocks(path)
        self._stack = stack
        self._project = Project()
        stack.callback(self._project.close)
        self._shell: Shell | None = None
        self._background: Background | None = None
        self._printed = ""
        self._handlers: dict[str, Callable[[Block], Iterator[Mismatch]]] = {
            "console": self._console,
            "yaml": self._yaml,
            "python": self._python,
            "json": self._json,
            "sh": self._sh,
            "text": self._plain,
            "mermaid": self._plain,
            "{eval-rst}": self._plain,
        }

    def all(self) -> Iterator[Mismatch]:
        if "photo.jpg" in self._text:
            self._project.take_photo()
        if "lm-studio-stub" not in self._text and any(block.language == "python" for block in self._blocks):
            self._stack.enter_context(ScriptedLMStudio(then=Answer(text=ANSWER), port=int(self._project.port)))
        for block in self._blocks:
            if block.language not in self._handlers:
                yield Mismatch(block, f"no such kind of sample: {block.language}; see CONTRIBUTING.md")
                continue
            if block.title is not None:
                self._project.write(block.title, block.text)
                yield from self._names_its_file(block)
            yield from self._handlers[block.language](block)

    def _names_its_file(self, block: Block) -> Iterator[Mismatch]:
        """A title is only seen by those who read the source: the page itself says the name too."""
        if f"`{block.title}`" not in self._text[: block.start]:
            yield Mismatch(block, f"the page must name `{block.title}` before this sample")

    def _console(self, block: Block) -> Iterator[Mismatch]:
        if "background" in block.words:
            (exchange,) = read_transcript(block.text)
            self._background = Background(
                self._project.inward(exchange.command), self._project.folder, self._project.environment
            )
            self._stack.callback(self._background.close)
            yield from self._shown_in_background(block, exchange.shown, f"{exchange.written}\n")
            return
        parts = []
        wrong = False
        for exchange in read_transcript(block.text):
            if exchange.command.split()[0] in _NOT_RUN:
                yield Mismatch(block, f"`{exchange.command}` is not run here: it belongs into a `sh` sample")
                return
        for exchange in read_transcript(block.text):
            printed = self._project.outward(self._run(exchange.command))
            right = agrees(exchange.shown, printed)
            wrong = wrong or not right
            parts.append("\n".join(filter(None, (exchange.written, exchange.shown if right else _trimmed(printed)))))
        if wrong:
            printed = "\n".join(parts)
            yield Mismatch(block, f"is not what is printed:\n{printed}", printed)

    def _shown_in_background(self, block: Block, shown: str, before: str = "") -> Iterator[Mismatch]:
        assert self._background is not None, f"{block}: nothing runs in the background"
        printed = self._background.wait_for(lambda text: agrees(shown, self._project.outward(text)))
        printed = self._project.outward(printed)
        if not agrees(shown, printed):
            printed = before + _trimmed(printed)
            yield Mismatch(block, f"is not what is printed in the background:\n{printed}", printed)

    def _run(self, command: str) -> str:
        if self._shell is None:
            self._shell = Shell(self._project.folder, self._project.environment)
            self._stack.callback(self._shell.close)
        return self._shell.run(self._project.inward(command))

    def _yaml(self, block: Block) -> Iterator[Mismatch]:
        if "script" in block.words or not ("fragment" in block.words or _is_policy(block)):
            yaml.safe_load(block.text)
            return
        text = f"version: 1\n{block.text}" if "fragment" in block.words else block.text
        path = self._project.folder / block.title if block.title else self._project.write("sample/policy.yaml", text)
        problems = check_files([path], overlays=[], variables=self._project.environment).problems
        errors = [problem for problem in problems if problem.severity is ProblemSeverity.ERROR]
        if "wrong" in block.words and not errors:
            yield Mismatch(block, "is called wrong, but there is nothing wrong with it")
        if "wrong" not in block.words and any(map(_is_a_mistake, errors)):
            yield Mismatch(block, "\n".join(["is wrong:", *map(str, errors)]))

    def _python(self, block: Block) -> Iterator[Mismatch]:
        if block.title is not None:
            if not re.search(rf"^\$ python {re.escape(block.title)}\b", self._text, re.MULTILINE):
                yield Mismatch(block, f"no command of the page runs `python {block.title}`")
            return
        self._project.write("sample/sample.py", block.text)
        printed, _, status = self._run("python -W error sample/sample.py; echo :$?").rpartition(":")
        self._printed = self._project.outward(printed)
        if status.strip() != "0":
            yield Mismatch(block, f"fails:\n{printed}")

    def _json(self, block: Block) -> Iterator[Mismatch]:
        json.loads(block.text)
        yield from ()

    def _sh(self, block: Block) -> Iterator[Mismatch]:
        """Commands that are not run here, such as those that need a network; they must at least parse."""
        done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            yield Mismatch(block, done.stderr)

    def _plain(self, block: Block) -> Iterator[Mismatch]:
        if "background" in block.words:
            yield from self._shown_in_background(block, block.text)
        elif "output" in block.words and not agrees(block.text, self._printed):
            printed = _trimmed(self._printed)
            yield Mismatch(block, f"is not what the program above prints:\n{printed}", printed)


def _is_policy(block: Block) -> bool:
    return re.search(r"^version:", block.text, re.MULTILINE) is not None


def _is_a_mistake(error: Problem) -> bool:
    """False for a variable that is not set: the reader sets it."""
    return not (error.rule == VARIABLE and "is not set" in error.message)


def _trimmed(printed: str) -> str:
    return "\n".join(line.rstrip() for line in printed.strip("\n").splitlines())


def pages() -> list[Path]:
    """The pages whose samples are run here: all but those that have tests of their own."""
    root = Path(__file__).parents[2]
    found = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]
    return [Path(os.path.relpath(path, root)) for path in found if path.name not in _TESTED_ELSEWHERE]


#: tests/testing/test_scripted_lm_studio_page.py
_TESTED_ELSEWHERE = ("scripted-lm-studio.md",)
