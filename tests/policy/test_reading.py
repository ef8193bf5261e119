from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from pixel_llm.errors import Place, PolicyError
from pixel_llm.policy import reading
from pixel_llm.policy.nodes import Node
from pixel_llm.policy.reading import MAX_BYTES, MAX_DEPTH, read_bytes, read_file

VALID = sorted((Path(__file__).parent.parent / "policies" / "valid").glob("*.yaml"))


def read(text: str) -> Node:
    return read_bytes(text.encode(), name="p.yaml")


def problems(data: str | bytes) -> str:
    """What reading *data* complains about."""
    with pytest.raises(PolicyError) as caught:
        read_bytes(data.encode() if isinstance(data, str) else data, name="p.yaml")
    return str(caught.value)


class TestPlaces:
    def test_of_a_value(self):
        """
        A value stands where its text begins; lines and columns count from 1.
        """
        node = read("version: 1\ntargets:\n  a: {timeout: 5s}\n")

        assert Place("p.yaml", 3, 16) == node.find(["targets", "a", "timeout"]).place

    def test_of_a_key(self):
        """
        A key has a place of its own.
        """
        node = read("version: 1\ntargets:\n  a: {timeout: 5s}\n")

        assert Place("p.yaml", 3, 7) == node.find(["targets", "a"]).place_of_key("timeout")

    def test_of_a_list_item(self):
        """
        Items of a list have their places too.
        """
        node = read("a:\n  - b\n  - c\n")

        assert Place("p.yaml", 3, 5) == node.find(["a", 1]).place

    def test_columns_count_characters(self):
        """
        A column is a character, not a byte.
        """
        node = read("{ü: ü, b: c}\n")

        assert Place("p.yaml", 1, 11) == node.find(["b"]).place

    def test_of_what_is_not_there(self):
        """
        The place of a missing value is that of the deepest thing on the way to it.
        """
        node = read("a:\n  b: {c: 1}\n")

        assert node.find(["a", "b"]).place == node.find(["a", "b", "x", "y"]).place

    def test_an_alias_keeps_the_place_of_its_anchor(self):
        """
        A value that came through an alias stands where it was written.
        """
        node = read("a: &x [1]\nb: *x\n")

        assert Place("p.yaml", 1, 4) == node.find(["b"]).place


class TestEncoding:
    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"a: b\nc: \xff\n", "2:4: is not UTF-8 text"),
            ("ü: ü\nü: ".encode() + b"\xff", "2:4: is not UTF-8 text"),
            (b"a: 1\r# \x80", "2:3: is not UTF-8 text"),
            (b"\xef\xbb\xbf\xff", "1:1: is not UTF-8 text"),
            (b"\x89PNG\r\n\x1a\n", "1:1: is not UTF-8 text"),
            (b"a: \xed\xa0\x80", "1:4: is not UTF-8 text"),
            ("a: 1".encode("utf-16"), "1:1: is UTF-16; save it as UTF-8"),
            (b"\xfe\xff\x00a", "1:1: is UTF-16; save it as UTF-8"),
            ("a: 1".encode("utf-16-le"), "1:2: holds a NUL character: it is UTF-16, or no text at all"),
            (b"a: 1\nb: \0", "2:4: holds a NUL character: it is UTF-16, or no text at all"),
            ("a: 1\r\n\ufeffb: 1".encode(), "2:1: a byte order mark (U+FEFF) stands within the text: remove it"),
            (b"\xef\xbb\xbf\xef\xbb\xbfa: 1", "1:1: a byte order mark (U+FEFF) stands within the text: remove it"),
        ],
    )
    def test_what_is_no_text(self, data, expected):
        """
        The first place that shows it is named, by line and character, and what it may be.
        """
        assert f"p.yaml:{expected}" == problems(data)

    @pytest.mark.parametrize(
        ("char", "escape"), [("\x07", r"\x07"), ("\x7f", r"\x7f"), ("\x9f", r"\x9f"), ("\uffff", r"\uffff")]
    )
    def test_characters_that_yaml_forbids(self, char, escape):
        """
        A character that is not allowed can be written as an escape.
        """
        expected = f'the character U+{ord(char):04X} is not allowed: remove it, or write "{escape}" in double quotes'

        assert f"p.yaml:1:5: {expected}" == problems(f'a: "{char}"')
        assert char == read(f'a: "{escape}"').plain()["a"]

    @pytest.mark.parametrize("char", ["\t", "\x85", "\xa0", "\u2028", "\ue000", "\ufffd", "\U0001f600", "\U0010ffff"])
    def test_characters_that_yaml_allows(self, char):
        """
        All others may stand as they are, in quotes at least.
        """
        assert len(read(f"a: 'x{char}x'").plain()["a"]) == 3

    @pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
    def test_lines_may_end_in_any_way(self, end):
        """
        Unix, Windows and old Macs end their lines; places count them alike.
        """
        assert Place("p.yaml", 3, 6) == read(f"a:{end}  b: 1{end}  c: 2{end}").find(["a", "c"]).place


class TestSyntax:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a:\n\t- b", "2:1: is not YAML: a tab can't indent; use spaces"),
            ("a: b\n\tc: d", "2:1: is not YAML: a tab can't indent; use spaces"),
            ("a: >\n\tx", "2:1: is not YAML: a tab can't indent; use spaces"),
            ("a: @x", "1:4: is not YAML: nothing can begin with @; quote the text"),
            ("a: `x`", "1:4: is not YAML: nothing can begin with `; quote the text"),
            ("a: %x", "1:4: is not YAML: nothing can begin with %; quote the text"),
            ("a: b: c", "1:5: is not YAML: no colon is expected here; quote the text, or mend the indentation"),
            ("a: b\n c: d", "2:3: is not YAML: no colon is expected here; quote the text, or mend the indentation"),
            ("a: 'b' c", "1:8: is not YAML: nothing more is expected here; quote the text, or mend the indentation"),
            ("a:\n  b\n c: d", "3:3: is not YAML: no colon is expected here; quote the text, or mend the indentation"),
            ("a: *", "1:5: is not YAML: * begins an alias, which needs a name; quote the text if * is meant"),
            ("a: & b", "1:5: is not YAML: & begins an anchor, which needs a name; quote the text if & is meant"),
            ('a: "C:\\p"', r"1:7: is not YAML: \p is no escape; write \\ for a backslash, or use single quotes"),
            ("a: 1\n...\nb: 2", "3:1: is not YAML: nothing is expected between the end of a document and `---`"),
            ("a: 1\nb: 'c\nd: e\n", "2:4: is not YAML: this quote is not closed"),
            ('a: "b', "1:4: is not YAML: this quote is not closed"),
        ],
    )  # fmt: skip
    def test_in_plain_words(self, text, expected):
        """
        What goes wrong most often is said in words that help, at the place to mend.
        """
        if not yaml.__with_libyaml__ and "tab" not in expected:
            pytest.skip("libyaml's words are those that are known")

        assert f"p.yaml:{expected}" == problems(text)

    def test_half_a_surrogate_pair(self, monkeypatch):
        """
        What is no text is not let in by an escape, whatever the parser: libyaml's or PyYAML's own.
        """
        text = 'a: "\\ud800"'

        assert problems(text).startswith("p.yaml:1:")

        monkeypatch.setattr(reading, "_Loader", yaml.SafeLoader)
        assert "p.yaml:1:4: half of a surrogate pair is no text" == problems(text)

    @pytest.mark.parametrize("escape", ["\\U00110000", "\\UFFFFFFFF"])
    def test_beyond_unicode(self, escape, monkeypatch):
        """
        An escape of a number that no character has is refused by both parsers, PyYAML's own without a place.
        """
        text = f'a: "{escape}"'

        assert "p.yaml:1:7: is not YAML" in problems(text)

        monkeypatch.setattr(reading, "_Loader", yaml.SafeLoader)
        assert "p.yaml: is not YAML: an escape in double quotes is no character" == problems(text)


class TestScalars:
    def test_quotes_make_text(self):
        """
        What is quoted, or a block, is text whatever it looks like.
        """
        node = read("a: \"1\"\nb: 'yes'\nc: |\n  null\nd: >-\n  2024-01-31\n")

        assert {"a": "1", "b": "yes", "c": "null\n", "d": "2024-01-31"} == node.plain()

    def test_null_is_not_empty(self):
        """
        A null that is written out is a value.
        """
        node = read("a: null\nb: ~\n")

        assert {"a": None, "b": None} == node.plain()
        assert not node.find(["a"]).empty


class TestAliases:
    def test_are_copies(self):
        """
        An alias stands for what its anchor marks.
        """
        assert {"a": {"x": 1}, "b": {"x": 1}} == read("a: &x {x: 1}\nb: *x\n").plain()

    def test_the_latest_anchor_counts(self):
        """
        An anchor may be defined again; aliases take the one before them.
        """
        assert {"a": 1, "b": 1, "c": 2, "d": 2} == read("a: &x 1\nb: *x\nc: &x 2\nd: *x\n").plain()

    def test_to_an_enclosing_list(self):
        """
        A structure cannot hold itself.
        """
        assert "p.yaml:1:8: the alias *x refers to nothing that is complete before it" == problems("a: &x [*x]\n")


class TestBounds:
    def test_size(self):
        """
        A file of 1 MiB is read, one byte more is not.
        """
        data = b"a: 1 #"
        data += b"x" * (MAX_BYTES - len(data))

        assert {"a": 1} == read_bytes(data, name="p.yaml").plain()
        assert "p.yaml: is larger than 1024 KiB" == problems(data + b"x")

    def test_depth(self):
        """
        Nesting is bounded, the document itself counted.
        """
        deep = MAX_DEPTH - 1

        assert {"a"} == set(read("a: " + "[" * deep + "]" * deep).plain())
        assert "is nested more than 40 levels deep" in problems("a: " + "[" * (deep + 1) + "]" * (deep + 1))

    def test_depth_without_an_end(self):
        """
        Brackets by the thousand are refused at the bound, before any end is looked for.
        """
        assert "is nested more than 40 levels deep" in problems("[" * 500_000)

    def test_aliases_count_as_what_they_expand_to(self):
        """
        A small file that would expand to millions of values is refused.
        """
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]

        assert "expands to more than 200000 values" in problems("\n".join(lines))


class TestProblems:
    def test_all_at_once(self):
        """
        Reading goes on after a problem that leaves the structure whole.
        """
        expected = [
            'p.yaml:1:4: yes is a boolean in YAML 1.1 and a text in YAML 1.2: write true, or "yes"',
            "p.yaml:2:1: the key 'a' stands twice; the first is in line 1",
            "p.yaml:3:4: tags such as !!str are not allowed",
            "p.yaml:4:1: c has no value; write null to remove what is inherited",
        ]

        assert expected == problems("a: yes\na: 1\nb: !!str x\nc:\n").splitlines()

    def test_before_the_end_of_the_structure(self):
        """
        What was wrong before the text stopped being YAML is reported with it.
        """
        lines = problems("a: yes\nb: ]\n").splitlines()

        assert 2 == len(lines)

    def test_the_non_specific_tag(self):
        """
        ``!`` is reported as any other tag: ``! 12`` is a text in YAML 1.2 and a number to PyYAML.
        """
        assert "p.yaml:1:4: tags such as ! are not allowed" == problems("a: ! 12\n")

    def test_number_as_key_then_its_text(self):
        """
        A key that is no text is reported once as such, and again when its text comes as another key.

        This used to end in a KeyError.
        """
        assert "p.yaml:2:1: the key '1' stands twice; the first is in line 1" in problems('1: a\n"1": b\n')

    @pytest.mark.parametrize("text", ["", "# x\n", "---\n", "---\n...\n", "~\n", "null"])
    def test_nothing_to_read(self, text):
        """
        A document without content is empty, however it is written.
        """
        assert problems(text).endswith(": is empty")

    @pytest.mark.parametrize("text", ["- a\n", "text\n", "1\n", "false\n", "''\n", "[]\n"])
    def test_no_mapping(self, text):
        """
        A policy is a mapping, nothing else.
        """
        assert problems(text).endswith(": must be a mapping of sections")

    def test_a_newer_yaml(self):
        """
        A document that says it is of another version of YAML is not read.
        """
        assert "is not YAML" in problems("%YAML 2.0\n---\na: 1\n")


class TestReadFile:
    def test_named_by_its_path(self, tmp_path):
        """
        Places carry the path as given, or the name that is wanted.
        """
        file = tmp_path / "p.yaml"
        file.write_text("a: 1\n")

        assert str(file) == read_file(file).place.file
        assert "stdin" == read_file(file, name="stdin").place.file

    def test_missing(self, tmp_path, monkeypatch):
        """
        A file that is not there is a problem of the policy, with the system's reason.
        """
        monkeypatch.chdir(tmp_path)

        with pytest.raises(PolicyError) as caught:
            read_file(Path("p.yaml"))

        assert "p.yaml: cannot be read: No such file or directory" == str(caught.value)

    def test_folder(self, tmp_path):
        """
        A folder is not read as a file.
        """
        with pytest.raises(PolicyError, match="cannot be read: Is a directory"):
            read_file(tmp_path)

    def test_pipe(self, tmp_path):
        """
        A pipe could keep the reader waiting for ever: it is refused without being opened.
        """
        os.mkfifo(tmp_path / "p.yaml")

        with pytest.raises(PolicyError) as caught:
            read_file(tmp_path / "p.yaml", name="p.yaml")

        assert "p.yaml: cannot be read: it is a pipe; give `-` for standard input" == str(caught.value)


class TestWithoutLibyaml:
    @pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
    def test_the_same_tree(self, path, monkeypatch):
        """
        PyYAML's own parser gives the same tree, places included.
        """
        expected = read_file(path)
        monkeypatch.setattr(reading, "_Loader", yaml.SafeLoader)

        assert expected == read_file(path)
