"""What the pages show is what a reader gets. CONTRIBUTING.md says how samples are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.samples import read_blocks, run_page
from tools.samples.running import pages
from tools.samples.transcript import agrees, read_transcript

ROOT = Path(__file__).parents[2]

PAGES = [page for page in pages() if page.parent.name != "rules"]
RULE_PAGES = [page for page in pages() if page.parent.name == "rules"]


def write_page(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text, "utf-8")
    return page


class TestPages:
    @pytest.mark.parametrize("page", PAGES, ids=str)
    def test_samples_are_true(self, page):
        """Commands print what is shown, policies are valid, programs run; `make docs` writes what commands print."""
        wrong = [str(mismatch) for mismatch in run_page(ROOT / page)]

        assert not wrong, "\n\n".join(wrong)

    def test_samples_of_rules_are_true(self):
        """The policies on the rules' pages are valid, but for those of errors."""
        wrong = [str(mismatch) for page in RULE_PAGES for mismatch in run_page(ROOT / page)]

        assert not wrong, "\n\n".join(wrong)


class TestRunPage:
    """The check itself finds what is not so."""

    @pytest.mark.parametrize(
        ("sample", "finding"),
        [
            ("```console\n$ echo one\ntwo\n```", "is not what is printed:\n$ echo one\none"),
            ("```console\n$ pixel-llm policy schema | head -n 1\n[\n```", "is not what is printed"),
            ("```yaml\nversion: 1\nlogging: {levle: INFO}\n```", "unknown key 'levle'"),
            ("```yaml fragment\nlogging: {levle: INFO}\n```", "unknown key 'levle'"),
            ("```yaml wrong\nversion: 1\ndescription: Fine.\n```", "there is nothing wrong with it"),
            ("```yaml title=policies/a.yaml\nversion: 1\n```", "the page must name `policies/a.yaml`"),
            ("```python\nassert 1 == 2\n```", "AssertionError"),
            ("```python\nprint(1)\n```\n\n```text output\n2\n```", "is not what the program above prints:\n1"),
            ("```console\n$ pip install .\n```", "belongs into a `sh` sample"),
            ("`a.py`\n\n```python title=a.py\nprint(1)\n```", "no command of the page runs `python a.py`"),
            ("```sh\nif\n```", "syntax error"),
            ("```toml\na = 1\n```", "no such kind of sample: toml"),
        ],
    )
    def test_finds_what_is_not_so(self, tmp_path, sample, finding):
        """A sample that does not hold is named with its line."""
        (mismatch,) = run_page(write_page(tmp_path, f"# Page\n\n{sample}\n"))

        assert finding in str(mismatch)
        assert f"{tmp_path}/page.md:" in str(mismatch)

    def test_takes_what_is_so(self, tmp_path):
        """Samples that hold are no findings; files and variables last from sample to sample."""
        page = write_page(
            tmp_path,
            "`policies/a.yaml`:\n\n```yaml title=policies/a.yaml\nversion: 1\ndescription: '${WHAT}'\n```\n\n"
            "```console\n$ export WHAT=mine\n$ pixel-llm policy show a | head -n 3 | tail -n 1\n"
            "description: mine …\n$ false\n$ echo $?\n1\n```\n",
        )

        assert [] == list(run_page(page))


class TestTranscript:
    @pytest.mark.parametrize(
        ("shown", "printed", "expected"),
        [
            ("a\nb", "a\nb\n", True),
            ("a\nb", "a  \nb\n", True),
            ("a\n…\nd", "a\nb\nc\nd\n", True),
            ("a\n…\nd", "a\nd\n", True),
            ("a\n…\nd", "a\nb\n", False),
            ("took … s", "took 0.3 s\n", True),
            ("took … s", "took\n0.3 s\n", False),
            ("", "", True),
            ("", "a\n", False),
            ("a.c", "abc\n", False),
        ],
    )
    def test_agrees(self, shown, printed, expected):
        """Output agrees line by line; an ellipsis is any lines, or any text in its line."""
        assert expected == agrees(shown, printed)

    def test_commands_of_several_lines(self):
        """A command goes on in lines that begin with `> `."""
        (exchange,) = read_transcript("$ cat <<END\n> one\n> END\none\n")

        assert ("cat <<END\none\nEND", "one") == (exchange.command, exchange.shown)


class TestReadBlocks:
    def test_reads_what_stands_after_the_fence(self, tmp_path):
        """The language, words and the file's name; a block in a list loses its indentation."""
        (block,) = read_blocks(
            write_page(tmp_path, "1. In a list:\n\n   ```yaml wrong title=a.yaml\n   a: 1\n   ```\n")
        )

        assert ("yaml", ("wrong",), "a.yaml", "a: 1\n", 3) == (
            block.language, block.words, block.title, block.text, block.line,
        )  # fmt: skip
