from __future__ import annotations

import pytest

from pixel_llm.errors import PolicyError
from pixel_llm.policy.env_file import read_env_file


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads a file ``.env`` of these bytes, or of this text."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".env"

    def read(content: str | bytes) -> dict[str, str]:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_env_file(file.relative_to(tmp_path))

    return read


def problems(read, content: str | bytes) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        read(content)
    assert {"PL005"} == {problem.rule for problem in caught.value.problems}
    return str(caught.value).splitlines()


class TestReadEnvFile:
    @pytest.mark.parametrize(
        ("line", "value"),
        [
            ("A=1", "1"),
            ("A=", ""),
            ("A=''", ""),
            ("  A=1  ", "1"),
            ("export A=1", "1"),
            ("export  \t A=1", "1"),
            ("A= 1 ", "1"),
            ("A='1 '", "1 "),
            ('A="1"', "1"),
            ('A="it\'s"', "it's"),
            ("A=it's", "it's"),
            ("A=a=b", "a=b"),
            ("A=a # b", "a # b"),
            (r"A=\n$B${C}", r"\n$B${C}"),
            ('A="a"b"', 'a"b'),
            ("A=ü", "ü"),
            ("A=a\u2028b\x0c", "a\u2028b"),
        ],
    )
    def test_line(self, read, line, value):
        """
        A value is what stands after the first equals sign, without the quotes around it; nothing is expanded.
        """
        assert {"A": value} == read(line)

    def test_several_lines(self, read):
        """
        Empty lines and comments are passed over; a byte order mark and Windows' line ends are no part of anything.
        """
        assert {"A": "1", "_b2": "2"} == read(b"\xef\xbb\xbf# first\r\nA=1\r\n\r\n  # A=3\r\n_b2=2")

    def test_nothing(self, read):
        """
        An empty file sets nothing.
        """
        assert {} == read("")

    def test_every_line_that_is_not_understood(self, read):
        """
        Every such line is reported, but what stands in it is not shown: it may be a secret.
        """
        content = (
            "A=1\nsk-secret\n=sk-secret\n1A=sk-secret\nB-C=sk-secret\nB =sk-secret\nexportA\nB='sk-secret\nC=\"'\nD='"
        )
        lines = problems(read, content)

        assert [f".env:{line}:1: must be NAME=VALUE" for line in range(2, 8)] == lines[:6]
        assert [
            f".env:{line}:1: the value begins with a quote, so it must end with the same one" for line in (8, 9, 10)
        ] == lines[6:]
        assert "sk-secret" not in "\n".join(lines)

    def test_name_that_stands_twice(self, read):
        """
        As in a policy, nothing is said twice: which one counts would be a guess.
        """
        assert [".env:3:1: A stands twice; the first is in line 1"] == problems(read, "A=1\nB=1\nexport A=1")

    @pytest.mark.parametrize("content", [b"A=\xff\n", "A=1".encode("utf-16")])
    def test_other_encodings(self, read, content):
        """
        Only UTF-8 is read.
        """
        assert [".env: cannot be read: it is not UTF-8 text"] == problems(read, content)

    def test_missing(self, tmp_path, monkeypatch):
        """
        A file that is not there is a problem like any other.
        """
        monkeypatch.chdir(tmp_path)
        with pytest.raises(PolicyError) as caught:
            read_env_file(tmp_path.relative_to(tmp_path) / "none.env")

        assert "none.env: cannot be read: No such file or directory" == str(caught.value)
        assert ["PL005"] == [problem.rule for problem in caught.value.problems]
