from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from pixel_llm.policy.inheritance import MAX_DEPTH, Sources


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of profiles, the working directory; call it with their texts."""
    monkeypatch.chdir(tmp_path)

    def write(**profiles: str) -> Sources:
        files = {name: Path(f"{name}.yaml") for name in profiles}
        for name, text in profiles.items():
            files[name].write_text(f"version: 1\n{text}\n")
        return Sources(files)

    return write


def load(sources: Sources, name: str = "child") -> object:
    """The merged document of one profile; must be without a problem."""
    document = sources.load(Path(f"{name}.yaml")).plain()
    assert [] == sources.problems
    return document


def problems(sources: Sources, name: str = "child") -> list[str]:
    sources.load(Path(f"{name}.yaml"))
    return [str(problem) for problem in sources.problems]


class TestLoad:
    def test_nothing_to_extend(self, folder):
        """
        A profile without parents is itself.
        """
        assert {"version": 1, "description": "c"} == load(folder(child="description: c"))

    def test_child_over_parent(self, folder):
        """
        What the child says counts; what it does not say comes from the parent. `extends` is used up.
        """
        sources = folder(
            child="extends: parent\nlogging: {level: DEBUG}", parent="description: p\nlogging: {level: INFO, file: x}"
        )
        expected = {"version": 1, "description": "p", "logging": {"level": "DEBUG", "file": "x"}}

        assert expected == load(sources)

    def test_later_parent_over_earlier(self, folder):
        """
        Of several parents, the later one counts.
        """
        sources = folder(
            child="extends: [one, two]",
            one="description: one\nlogging: {level: INFO, file: x}",
            two="description: two\nlogging: {level: DEBUG}",
        )
        expected = {"version": 1, "description": "two", "logging": {"level": "DEBUG", "file": "x"}}

        assert expected == load(sources)

    def test_grandparents(self, folder):
        """
        A parent's own parents come below it.
        """
        sources = folder(
            child="extends: parent",
            parent="extends: grandparent\nlogging: {level: DEBUG}",
            grandparent="description: g\nlogging: {level: INFO}",
        )

        assert {"version": 1, "description": "g", "logging": {"level": "DEBUG"}} == load(sources)

    def test_null_removes_what_is_inherited(self, folder):
        """
        A null in the child removes, and leaves a mark, be there something to remove or not.
        """
        sources = folder(child="extends: parent\ndescription: null\nlogging: null", parent="description: p")

        assert {"version": 1, "description": None, "logging": None} == load(sources)

    def test_null_in_a_parent_does_not_reach_the_child(self, folder):
        """
        A parent's null removes from the parent's own parents, not from the child.
        """
        sources = folder(child="extends: parent\ndescription: c", parent="description: null")

        assert {"version": 1, "description": "c"} == load(sources)

    def test_common_grandparent(self, folder):
        """
        Two parents may share a parent: the second brings it along once more, over the first.
        """
        sources = folder(
            child="extends: [one, two]",
            one="extends: root\ndescription: one",
            two="extends: root",
            root="description: r",
        )

        assert {"version": 1, "description": "r"} == load(sources)

    def test_values_keep_their_files(self, folder):
        """
        After merging, every value still knows the file that said it.
        """
        sources = folder(child="extends: parent\nlogging: {level: DEBUG}", parent="logging: {file: x}")
        document = sources.load(Path("child.yaml"))

        assert "child.yaml:3:18" == str(document.find(["logging", "level"]).place)
        assert "parent.yaml:2:17" == str(document.find(["logging", "file"]).place)


class TestProblems:
    def test_unknown_parent(self, folder):
        """
        A parent that does not exist is named, with the one that was meant.
        """
        expected = ["child.yaml:2:10: extends: there is no profile 'parnt'; did you mean \"parent\"?"]

        assert expected == problems(folder(child="extends: parnt", parent=""))

    def test_every_unknown_parent(self, folder):
        """
        Each parent in the list is looked for.
        """
        assert 2 == len(problems(folder(child="extends: [mars, venus]")))

    def test_itself(self, folder):
        """
        A profile cannot extend itself.
        """
        expected = ["child.yaml:2:10: extends: extends itself: child → child"]

        assert expected == problems(folder(child="extends: child"))

    def test_circle(self, folder):
        """
        The circle is shown whole, and without what leads into it.
        """
        sources = folder(child="extends: a", a="extends: b", b="extends: c", c="extends: a")

        assert ["c.yaml:2:10: extends: extends itself: a → b → c → a"] == problems(sources)

    def test_too_many_generations(self, folder):
        """
        A line of parents is bounded.
        """
        names = ["child", *(f"p{number}" for number in range(MAX_DEPTH))]
        texts = {name: f"extends: {parent}" for name, parent in itertools.pairwise(names)}
        last = names[-2]

        assert [] == problems(folder(**texts, **{names[-1]: ""}), names[1])
        assert [f"{last}.yaml:2:10: extends: more than 20 profiles extend each other: {' → '.join(names)}"] == problems(
            folder(**texts, **{names[-1]: ""})
        )

    def test_too_many_generations_behind_a_short_cut(self, folder):
        """
        The longest line counts, even where a shorter one to the same parents was found first.
        """
        names = ["child", *(f"p{number}" for number in range(MAX_DEPTH))]
        texts = {name: f"extends: {parent}" for name, parent in itertools.pairwise(names)}
        texts["child"] = "extends: [p10, p0]"

        line = " → ".join(["child", *names[1:12]])
        assert [f"p9.yaml:2:10: extends: more than 20 profiles extend each other: {line}"] == (
            problems(folder(**texts, **{names[-1]: ""}))
        )

    def test_many_ways_to_the_same_parents(self, folder):
        """
        Every file is merged once: twenty generations with two ways up each once took hours.
        """
        names = ["child", *(f"p{number}" for number in range(MAX_DEPTH - 1))]
        texts = {name: f"extends: [{parent}, {parent}]" for name, parent in itertools.pairwise(names)}

        assert [] == problems(folder(**texts, **{names[-1]: ""}))

    def test_of_every_file(self, folder):
        """
        A parent that cannot be read keeps nothing back that is wrong elsewhere; each file is reported once.
        """
        sources = folder(
            child="extends: [one, unreadable, two]\ncolour: red",
            one="extends: unreadable\ncolour: green",
            unreadable="---",
            two="colour: blue",
        )

        assert ["child.yaml", "one.yaml", "unreadable.yaml", "two.yaml"] == [
            problem.split(":")[0] for problem in problems(sources)
        ]
