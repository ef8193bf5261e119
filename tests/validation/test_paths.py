import os
from pathlib import Path

import pytest

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.validation import validate_file_path


def complaint(*arguments, **settings):
    with pytest.raises(ValidationError) as caught:
        validate_file_path(*arguments, **settings)
    return caught.value


class Named:
    """An os.PathLike that is no Path."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photos" / "a.PNG"
    path.parent.mkdir()
    path.write_bytes(b"x")
    return path


class TestPath:
    def test_every_form_of_a_path(self, photo):
        for form in (photo, str(photo), Named(str(photo)), Named(os.fsencode(photo))):
            assert photo == validate_file_path(form)

    @pytest.mark.parametrize(
        ("path", "message", "code"),
        [
            ("", "must be a path (got an empty text)", ErrorCode.ERR_VAL_EMPTY_INPUT),
            ("a\0.png", "must not hold null bytes (got 'a\\x00.png')", ErrorCode.ERR_VAL_INVALID_RANGE),
            (3, "must be a path (got 3)", ErrorCode.ERR_VAL_INVALID_RANGE),
            (None, "must be a path (got null)", ErrorCode.ERR_VAL_INVALID_RANGE),
            ("a" * 5000, "must be a path that the system can follow (got 'aaaa", ErrorCode.ERR_VAL_INVALID_RANGE),
            (
                "no\n.png",
                "must be an existing file (got 'no\\n.png', and there is no such file)",
                ErrorCode.ERR_VAL_MISSING_FIELD,
            ),
        ],
    )
    def test_message(self, path, message, code):
        error = complaint(path, "photo")

        assert f"photo: {message}" in str(error)
        assert code is error.error_code
        assert len(str(error).splitlines()) == 1

    def test_bytes_that_are_no_text_can_be_shown(self):
        str(complaint(os.fsdecode(b"no\xff.png"))).encode()

    def test_file_to_be_written_need_not_be_there(self, photo):
        new = photo.with_name("b.png")

        assert new == validate_file_path(new, must_exist=False)
        assert "which is a directory" in str(complaint(photo.parent, must_exist=False))

    def test_links_in_a_circle(self, tmp_path):
        (tmp_path / "a").symlink_to(tmp_path / "b")
        (tmp_path / "b").symlink_to(tmp_path / "a")

        assert "must be a path that the system can follow" in str(complaint(tmp_path / "a"))
        assert "must " in str(complaint("a", root=tmp_path))

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes and devices")
    def test_pipes_and_devices(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", "/dev/null", "/dev/zero"):
            assert "must be a regular file (got " in str(complaint(path))


class TestExtensions:
    @pytest.mark.parametrize("extensions", [["png"], [".PNG", "jpg"], (".png",), "png"])
    def test_case_and_dot_do_not_matter(self, photo, extensions):
        assert photo == validate_file_path(photo, extensions=extensions)

    def test_none_at_all_is_a_mistake(self, photo):
        assert "extensions: must name at least one end" in str(complaint(photo, extensions=[]))

    def test_several_parts(self, tmp_path):
        (tmp_path / "a.tar.gz").touch()

        validate_file_path(tmp_path / "a.tar.gz", extensions=["tar.gz"])
        assert "must end in .gif or .jpg (got " in str(complaint(tmp_path / "a.tar.gz", extensions=["jpg", "gif"]))

    def test_end_of_a_name_is_no_extension(self, tmp_path):
        (tmp_path / "apng").touch()

        assert "must end in .png" in str(complaint(tmp_path / "apng", extensions=["png"]))

    def test_everything_is_said_at_once(self, tmp_path):
        error = complaint(tmp_path / "no.txt", extensions=["png"])

        assert 2 == len(str(error).splitlines())


class TestRoot:
    def test_relative_paths_start_at_the_root(self, photo):
        assert photo.resolve() == validate_file_path("a.PNG", root=photo.parent)
        assert photo.resolve() == validate_file_path(Path("x/../a.PNG"), root=str(photo.parent))

    def test_absolute_paths_inside_pass(self, photo):
        assert photo.resolve() == validate_file_path(photo, root=photo.parent)

    def test_links_inside_are_followed(self, photo):
        (photo.parent / "link.png").symlink_to(photo)

        assert photo.resolve() == validate_file_path("link.png", root=photo.parent)

    def test_nothing_leads_out(self, photo, tmp_path):
        """
        Neither .. nor an absolute path, a link to a file or a folder, nor a folder whose name merely begins alike.
        """
        secret = tmp_path / "secret.png"
        secret.write_bytes(b"x")
        (tmp_path / "photos2").mkdir()
        (tmp_path / "photos2" / "a.png").touch()
        (photo.parent / "file.png").symlink_to(secret)
        (photo.parent / "folder").symlink_to(tmp_path)
        ways = ["../secret.png", str(secret), "file.png", "folder/secret.png", "../photos2/a.png", "/etc/passwd", ".."]
        for way in ways:
            error = complaint(way, root=photo.parent)
            assert "which leads out)" in str(error)
            assert ErrorCode.ERR_VAL_INVALID_RANGE is error.error_code

    def test_file_to_be_written_can_not_lead_out_either(self, photo):
        assert "which leads out" in str(complaint("../new.png", root=photo.parent, must_exist=False))
        assert photo.parent.resolve() / "new.png" == validate_file_path("new.png", root=photo.parent, must_exist=False)

    def test_root_that_is_not_there(self, tmp_path):
        assert "which is no folder" in str(complaint("a.png", root=tmp_path / "no"))
