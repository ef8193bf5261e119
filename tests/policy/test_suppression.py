from __future__ import annotations

from pathlib import Path

import pytest

from pixel_llm.errors import Place, Problem, ProblemSeverity
from pixel_llm.policy.checking import check_files
from pixel_llm.policy.lint import Suppressions

#: Breaks PL101 in the line of the timeout, and nothing else.
BROKEN = "targets: {a.b: {deadline: 5s, timeout: 10s}}"
MESSAGE = (
    "targets.a.b.timeout.attempt: warning: the timeout of 10s can never end an attempt: "
    "the deadline of 5s comes first [PL101]"
)


def check(folder: Path, *lines: str, file: str = "policy.yaml") -> list[str]:
    """What is found in a file of *lines*, whose third is the first of them."""
    path = write(folder, *lines, file=file)
    return texts(folder, [path])


def write(folder: Path, *lines: str, file: str = "policy.yaml") -> Path:
    path = folder / file
    path.write_text("\n".join(["version: 1", "description: Of a test.", *lines, ""]), "utf-8")
    return path


def texts(folder: Path, files: list[Path]) -> list[str]:
    return [str(problem).replace(f"{folder}/", "") for problem in check_files(files, variables={}).problems]


def idle(place: str, rule: str) -> str:
    """What a comment at *place* is told that ignores nothing of *rule*."""
    return f"{place}: warning: the ignore comment: {rule} is not found here, so there is nothing to ignore [PL902]"


class TestWhere:
    def test_without_a_comment(self, tmp_path):
        """
        The sample breaks one rule.
        """
        assert [f"policy.yaml:3:40: {MESSAGE}"] == check(tmp_path, BROKEN)

    def test_same_line(self, tmp_path):
        """
        A comment after a value is about its line.
        """
        assert [] == check(tmp_path, f"{BROKEN}  # pixel-llm: ignore PL101 -- lifted in staging")

    def test_next_line(self, tmp_path):
        """
        A comment alone in its line is about the next one, however far it is indented.
        """
        assert [] == check(tmp_path, "    # pixel-llm: ignore PL101 -- lifted in staging", BROKEN)

    def test_other_comments_and_empty_lines_between(self, tmp_path):
        """
        Further comments, ignoring ones too, and empty lines do not come between a comment and what it is about.
        """
        lines = (
            "# pixel-llm: ignore PL101 -- lifted in staging",
            "# and this is for people",
            "",
            "# pixel-llm: ignore PL202 -- there is one client",
            "targets: {encoder.load: {deadline: 5s, timeout: 10s, retry: {jitter: none}}}",
        )

        assert [] == check(tmp_path, *lines)

    def test_line_before(self, tmp_path):
        """
        A comment after a value is not about the next line.
        """
        line = "logging: {console: true}  # pixel-llm: ignore PL101 -- lifted in staging"

        assert [
            idle("policy.yaml:3:27", "PL101"),
            f"policy.yaml:4:40: {MESSAGE}",
        ] == check(tmp_path, line, BROKEN)

    def test_at_the_end_of_the_file(self, tmp_path):
        """
        A comment with nothing below it ignores nothing.
        """
        assert [idle("policy.yaml:3:1", "PL101")] == check(tmp_path, "# pixel-llm: ignore PL101 -- lifted in staging")

    def test_windows_lines_and_a_byte_order_mark(self, tmp_path):
        """
        Lines and columns are counted alike in files of every editor.
        """
        path = tmp_path / "policy.yaml"
        lines = ("version: 1", "description: x", "# pixel-llm: ignore PL101 -- lifted in staging", BROKEN, "")
        path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())

        assert [] == texts(tmp_path, [path])


class TestWhat:
    def test_several_rules(self, tmp_path):
        """
        A comment may name several rules.
        """
        both = "targets: {encoder.load: {deadline: 5s, timeout: 10s, retry: {jitter: none}}}"

        assert [] == check(tmp_path, f"{both} # pixel-llm: ignore PL101, PL202 -- one client in staging")

    def test_several_rules_one_idle(self, tmp_path):
        """
        Of several rules, only those that are not found are reported.
        """
        assert [idle("policy.yaml:3:47", "PL202")] == check(
            tmp_path, f"{BROKEN}  # pixel-llm: ignore PL101,PL202 -- one client in staging"
        )

    def test_another_rule(self, tmp_path):
        """
        Only what is named is ignored.
        """
        assert [
            f"policy.yaml:3:40: {MESSAGE}",
            idle("policy.yaml:3:47", "PL103"),
        ] == check(tmp_path, f"{BROKEN}  # pixel-llm: ignore PL103 -- lifted in staging")

    def test_all_findings_of_a_line(self, tmp_path):
        """
        A comment ignores every finding of its rule in the line.
        """
        two = "targets: {a.b: {deadline: 5s, timeout: 10s}, c.d: {deadline: 5s, timeout: 20s}}"

        assert [] == check(tmp_path, f"{two}  # pixel-llm: ignore PL101 -- lifted in staging")

    def test_errors_stay(self, tmp_path):
        """
        An error can't be ignored, and a comment that tries has no effect.
        """
        line = "lm_studio: {api_key: sk-0123456789}  # pixel-llm: ignore PL601 -- it is an old one"

        assert [
            (
                "policy.yaml:3:22: lm_studio.api_key: the key is written out here, for everybody who sees it: write "
                "${LM_STUDIO_API_KEY}, and set that variable instead"
            ),
            idle("policy.yaml:3:38", "PL601"),
        ] == check(tmp_path, line)

    def test_its_own_rules_stay(self, tmp_path):
        """
        What is wrong with a comment can't be ignored by the comment.
        """
        assert ["PL902", "PL902"] == [
            text[-6:-1] for text in check(tmp_path, f"{BROKEN}  # pixel-llm: ignore PL901, PL902, PL101 -- all")
        ]


class TestComments:
    def test_without_a_reason(self, tmp_path):
        """
        A comment without a reason works, and is reported.
        """
        assert [
            (
                "policy.yaml:3:47: warning: the ignore comment: says no reason: "
                "write `# pixel-llm: ignore PL101 -- why` [PL901]"
            )
        ] == check(tmp_path, f"{BROKEN}  # pixel-llm: ignore PL101")

    @pytest.mark.parametrize("rest", ["", " ", " all", " PL1", " PL101 because", " PL101; PL202 -- x", ": PL101 -- x"])
    def test_not_understood(self, rest, tmp_path):
        """
        A comment that is not understood ignores nothing, and says how to write one.
        """
        assert [
            f"policy.yaml:3:40: {MESSAGE}",
            (
                "policy.yaml:3:47: warning: the ignore comment: is not understood: "
                "write `# pixel-llm: ignore PL101 -- why` [PL903]"
            ),
        ] == check(tmp_path, f"{BROKEN}  # pixel-llm: ignore{rest}")

    def test_empty_reason(self, tmp_path):
        """
        Two dashes with nothing after them are no reason.
        """
        assert ["PL903"] == [text[-6:-1] for text in check(tmp_path, "logging: {}  # pixel-llm: ignore PL505 -- ")][1:]

    def test_unknown_rule(self, tmp_path):
        """
        A rule that there is not is named. Another with an id like it would be of no help.
        """
        assert [
            f"policy.yaml:3:40: {MESSAGE}",
            "policy.yaml:3:47: warning: the ignore comment: there is no rule PL199 [PL903]",
        ] == check(tmp_path, f"{BROKEN}  # pixel-llm: ignore PL199 -- lifted in staging")

    @pytest.mark.parametrize("comment", ["#pixel-llm:ignore PL101 -- x", "#  pixel-llm:  ignore  PL101  --  x"])
    def test_spaces_do_not_matter(self, comment, tmp_path):
        """
        Spaces may be few or many.
        """
        assert [] == check(tmp_path, f"{BROKEN}  {comment}")

    def test_other_comments_are_left_alone(self, tmp_path):
        """
        A comment that merely speaks of ignoring is none of ours.
        """
        assert [] == check(tmp_path, "# please ignore PL101", "# pixel-llm ignores nothing", "# pixel-llm: ignored")


class TestSeveralFiles:
    def test_comment_of_a_parent(self, tmp_path):
        """
        What is found in a parent's line is ignored by the parent's comment.
        """
        parent = write(tmp_path, f"{BROKEN}  # pixel-llm: ignore PL101 -- lifted in staging", file="parent.yaml")
        child = write(tmp_path, "extends: parent", "logging: {console: true}", file="child.yaml")

        assert [] == texts(tmp_path, [child])
        assert [] == texts(tmp_path, [child, parent])

    def test_comment_of_a_child_is_not_about_the_parent(self, tmp_path):
        """
        The same line number in another file is another line.
        """
        write(tmp_path, BROKEN, file="parent.yaml")
        child = write(tmp_path, "# pixel-llm: ignore PL101 -- lifted in staging", "extends: parent", file="child.yaml")

        assert [
            idle("child.yaml:3:1", "PL101"),
            f"parent.yaml:3:40: {MESSAGE}",
        ] == texts(tmp_path, [child])

    def test_found_once_for_all_who_extend(self, tmp_path):
        """
        What stands in a parent is reported once, and its comment is judged once.
        """
        parent = write(tmp_path, BROKEN, "logging: {console: true}  # pixel-llm: ignore PL701 -- x", file="parent.yaml")
        children = [write(tmp_path, "extends: parent", file=f"child-{number}.yaml") for number in (1, 2)]

        assert [
            f"parent.yaml:3:40: {MESSAGE}",
            idle("parent.yaml:4:27", "PL701"),
        ] == texts(tmp_path, [*children, parent])

    def test_used_by_one_of_those_who_extend(self, tmp_path):
        """
        A parent's comment has its effect if the parent itself needs it, whatever its children change.
        """
        parent = write(tmp_path, f"{BROKEN}  # pixel-llm: ignore PL101 -- lifted in staging", file="parent.yaml")
        child = write(tmp_path, "extends: parent", "targets: {a.b: {deadline: 20s}}", file="child.yaml")

        assert [] == texts(tmp_path, [child, parent])

    def test_idle_comments_of_files_that_are_not_checked(self, tmp_path):
        """
        Whether a comment is idle is only said of files that are checked themselves.
        """
        parent = write(tmp_path, f"{BROKEN}  # pixel-llm: ignore PL101 -- lifted in staging", file="parent.yaml")
        child = write(tmp_path, "extends: parent", "targets: {a.b: {deadline: 20s}}", file="child.yaml")
        suppressions = Suppressions(["PL101"])
        suppressions.read(child)
        suppressions.read(parent)

        assert [] == list(suppressions.problems([child]))
        assert ["PL902"] == [problem.rule for problem in suppressions.problems([child, parent])]
        assert ["PL902"] == [problem.rule for problem in suppressions.problems()]


class TestFilter:
    def test_keeps_the_order(self, tmp_path):
        """
        What is left stays in its order.
        """
        path = write(tmp_path, "a: 1  # pixel-llm: ignore PL101 -- x")
        suppressions = Suppressions(["PL101"])
        suppressions.read(path)
        problems = [
            Problem(Place(str(path), line), "a", "is wrong", "PL101", ProblemSeverity.NOTE) for line in (5, 3, 1)
        ]

        assert [5, 1] == [problem.place.line for problem in suppressions.filter(problems)]
