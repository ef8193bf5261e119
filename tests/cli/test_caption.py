"""``pixel-llm caption`` over many images: which are meant, in which order, into which file, going on after a stop."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import pixel_llm
from PIL import Image

from pixel_llm.cli.caption.images import find_images
from pixel_llm.cli.caption.journal import Journal
from pixel_llm.hybrid import DEFAULT_PROMPT
from pixel_llm.testing import Answer, BrokenStream, Hang, ScriptedLMStudio, Status


@pytest.fixture
def server() -> Iterator[ScriptedLMStudio]:
    with ScriptedLMStudio() as server:
        yield server


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Folders with small pictures, each of another colour, and files that are none."""
    (tmp_path / "trip" / "day 2").mkdir(parents=True)
    (tmp_path / "trip" / ".thumbs").mkdir()
    for number, name in enumerate(("trip/a.png", "trip/b.JPG", "trip/day 2/c.webp", "trip/.thumbs/a.png")):
        Image.new("RGB", (32, 32), (80 * number, 40, 200 - 60 * number)).save(tmp_path / name)
    (tmp_path / "trip" / "notes.txt").write_text("rain")
    return tmp_path


TRIP = ["trip/a.png", "trip/b.JPG", "trip/day 2/c.webp"]


def caption(*words: str, server: ScriptedLMStudio, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command against *server*, under a policy without retries."""
    done = pixel_llm("caption", *words, "--base-url", server.base_url, "--profile", "development", cwd=cwd, **options)
    assert "Traceback" not in done.stderr
    return done


def images_in(lines: str) -> list[str]:
    return [json.loads(line)["image"] for line in lines.splitlines()]


class TestWhichImages:
    @pytest.mark.parametrize(
        ("words", "found"),
        [
            pytest.param(["trip"], TRIP, id="a folder and those in it"),
            pytest.param(["trip/*.png"], TRIP[:1], id="a pattern"),
            pytest.param(["trip/**/*.webp"], TRIP[2:], id="a pattern for all folders"),
            pytest.param(["trip/b.JPG", "trip"], [TRIP[1], TRIP[0], TRIP[2]], id="each once, as named"),
            pytest.param(["--files-from", "list.txt"], TRIP[:2], id="a list"),
        ],
    )
    def test_are_meant(self, server, photos, words, found):
        """Folders, patterns and lists name images; they come in that order."""
        (photos / "list.txt").write_text("trip/a.png\r\n\ntrip/b.JPG\n")
        done = caption(*words, "--format", "json", server=server, cwd=photos)

        assert (0, found) == (done.returncode, images_in(done.stdout))

    def test_list_on_standard_input(self, server, photos):
        """`find … | pixel-llm caption --files-from -` works."""
        done = caption("--files-from", "-", "--format", "json", server=server, cwd=photos, stdin="\n".join(TRIP[1:]))

        assert TRIP[1:] == images_in(done.stdout)

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param("\ufefftrip/a.png\ntrip/b.JPG\n".encode(), id="a byte order mark"),
            pytest.param("trip/a.png\r\ntrip/b.JPG\r\n".encode("utf-16"), id="as PowerShell writes it"),
            pytest.param(b"trip/a.png\0trip/b.JPG\0", id="as find -print0 writes it"),
        ],
    )
    def test_forms_of_lists(self, photos, content):
        """Lists are read as other programs write them."""
        (photos / "list.txt").write_bytes(content)
        with contextlib.chdir(photos):
            assert TRIP[:2] == find_images([], "list.txt").images

    def test_links(self, photos):
        """Linked folders are gone through, each folder once, however they are linked; a dead link is an image."""
        (photos / "elsewhere").mkdir()
        Image.new("RGB", (8, 8)).save(photos / "elsewhere" / "d.png")
        (photos / "trip" / "linked").symlink_to(photos / "elsewhere")
        (photos / "elsewhere" / "back").symlink_to(photos / "trip")
        (photos / "trip" / "dead.png").symlink_to(photos / "nowhere.png")
        with contextlib.chdir(photos):
            found = find_images(["trip"], None)

        assert sorted([*TRIP, "trip/dead.png", "trip/linked/d.png"]) == found.images
        assert [] == found.complaints

    def test_every_format_that_is_read(self, photos):
        """Files of a folder are images by the ends of the names of all formats that are read."""
        names = {"a.jp2", "b.TGA", "c.ico", "d.qoi", "e.mpo", "f.jfif", "g.jpe", "h.pbm", "i.avif", "j.tiff", "k.dib"}
        (photos / "many").mkdir()
        for name in [*names, "l.eps", "m.txt", "n"]:
            (photos / "many" / name).write_bytes(b"x")
        with contextlib.chdir(photos):
            assert sorted(f"many/{name}" for name in names) == find_images(["many"], None).images

    def test_spellings_of_one_path(self, photos):
        """However a path is spelled, its image is meant once; a link's `..` leads where the link leads."""
        (photos / "x").symlink_to(photos / "trip" / "day 2")
        spelled = ["trip/a.png", "./trip/a.png", str(photos / "trip/a.png"), "trip/day 2/../a.png", "x/../a.png"]
        with contextlib.chdir(photos):
            assert ["trip/a.png", "a.png"] == find_images([*spelled, "a.png"], None).images

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may look everywhere")
    def test_locked_folder(self, server, photos):
        """A folder that can't be looked into is told; the others are captioned; exit 1."""
        (photos / "trip" / "day 2").chmod(0)
        try:
            done = caption("trip", "--format", "json", server=server, cwd=photos)
        finally:
            (photos / "trip" / "day 2").chmod(0o755)

        assert (1, TRIP[:2]) == (done.returncode, images_in(done.stdout))
        assert "error: trip/day 2: cannot be looked into (Permission denied)" in done.stderr

    def test_path_that_cannot_be_followed(self, server, photos):
        """One path that the system refuses is one image that failed."""
        done = caption("x" * 300 + ".png", "trip/a.png", "--format", "json", server=server, cwd=photos)

        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert (1, ["ERR_VAL_INVALID_RANGE", None]) == (done.returncode, [row["error_code"] for row in rows])
        assert "File name too long" in rows[0]["error"]

    def test_image_on_standard_input(self, server, photos):
        """`pixel-llm caption - < photo.jpg` works."""
        server.extend([Answer(text="A colour.")])
        with (photos / "trip/a.png").open("rb") as image:
            done = subprocess.run(
                [sys.executable, "-m", "pixel_llm", "caption", "-", "--base-url", server.base_url],
                cwd=photos,
                stdin=image,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )

        assert (0, "A colour.\n") == (done.returncode, done.stdout)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            pytest.param([], "name at least one image", id="nothing"),
            pytest.param([""], "an image needs a name", id="an empty name"),
            pytest.param(["empty"], "empty: there is no image in this folder", id="a folder without images"),
            pytest.param(["trip/*.gif"], "trip/*.gif: matches no file", id="a pattern that matches nothing"),
            pytest.param(["--files-from", "nowhere.txt"], "cannot be read", id="a list that is not there"),
            pytest.param(["--files-from", "empty.txt"], "lists no images", id="an empty list"),
            pytest.param(["-", "--files-from", "-"], "at once", id="standard input twice"),
            pytest.param(["trip", "--stream", "--format", "json"], "--stream prints text", id="a stream of JSON"),
            pytest.param(["trip", "--stream", "--jobs", "2"], "one image after the other", id="streams at once"),
            pytest.param(["trip", "--output", "x", "--format", "text"], "--output writes JSON", id="text in a file"),
            pytest.param(["trip", "--jobs", "0"], "--jobs", id="no jobs"),
        ],
    )
    def test_wrong_usage(self, server, photos, words, message):
        """What can't be meant is said before anybody is asked; exit 2."""
        (photos / "empty").mkdir()
        (photos / "empty.txt").write_text("\n")
        done = caption(*words, server=server, cwd=photos)

        assert 2 == done.returncode
        assert message in done.stderr
        assert () == server.requests


class TestManyImages:
    def test_order_and_summary(self, server, photos):
        """Lines come in the order of the images; at the end a line says how it went, with the codes of what failed."""
        (photos / "trip/aa.png").write_bytes(b"no image")
        done = caption("trip", "--jobs", "3", server=server, cwd=photos)

        assert 1 == done.returncode
        assert TRIP == [line.partition(": ")[0] for line in done.stdout.splitlines()]
        assert "4 images: 3 captioned, 1 failed (ERR_ENC_INVALID_INPUT 1); " in done.stderr.splitlines()[-1]

    def test_asks_several_at_once(self, photos):
        """With three jobs three requests are under way at once."""
        with ScriptedLMStudio(then=Hang()) as server:
            process = subprocess.Popen(
                [sys.executable, "-m", "pixel_llm", "caption", "trip", "--jobs", "3", "--base-url", server.base_url],
                cwd=photos,
                stderr=subprocess.DEVNULL,
            )
            try:
                server.wait_for_requests(3, timeout=30)
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(20)

        assert 130 == process.returncode


class TestStream:
    def test_pieces_reach_standard_output(self, server, photos):
        """Each image has its line."""
        server.extend([Answer(text="A deep blue."), Answer(text="A purple.")])
        done = caption("trip/a.png", "trip/b.JPG", "--stream", server=server, cwd=photos)

        assert (0, "trip/a.png: A deep blue.\ntrip/b.JPG: A purple.\n") == (done.returncode, done.stdout)

    def test_broken_in_the_middle(self, server, photos):
        """What had come stays, the error follows, and the next image has its turn."""
        server.extend([BrokenStream(text="A deep blue.", chunks=2, how="truncated"), Answer(text="A purple.")])
        done = caption("trip/a.png", "trip/b.JPG", "--stream", server=server, cwd=photos)

        assert 1 == done.returncode
        assert done.stdout.startswith("trip/a.png: A deep")
        assert done.stdout.endswith("\ntrip/b.JPG: A purple.\n")
        assert "[ERR_CONN_LOST]" in done.stderr
        assert "  [broken off]\n" in done.stdout
        assert "2 images: 1 captioned, 1 failed (ERR_CONN_LOST 1)" in done.stderr


class TestOutput:
    def test_goes_on_where_it_stopped(self, server, photos):
        """Finished images are not asked again; those that failed are, and their last line counts."""
        server.extend([Answer(text="One."), Status(status=500), Answer(text="Three.")])
        first = caption("trip", "--jobs", "1", "--output", "out/c.jsonl", server=server, cwd=photos)
        asked = len(server.requests)
        server.extend([Answer(text="Two.")])
        second = caption("trip", "--jobs", "1", "--output", "out/c.jsonl", server=server, cwd=photos)
        third = caption("trip", "--jobs", "1", "--output", "out/c.jsonl", server=server, cwd=photos)

        rows = {
            row["image"]: row["caption"] for row in map(json.loads, (photos / "out/c.jsonl").read_text().splitlines())
        }
        assert ["One.", "Two.", "Three."] == [rows[name] for name in TRIP]
        assert (1, 0, 0) == (first.returncode, second.returncode, third.returncode)
        assert (3, 4) == (asked, len(server.requests))
        assert "3 images: 1 captioned, 2 were there already" in second.stderr
        assert "the same command asks again about those that failed" in first.stderr
        assert "the same command" not in second.stderr

    def test_degraded_captions_are_asked_again(self, server, photos):
        """What a fallback served is no caption to keep."""
        words = ["trip/a.png", "--profile", "production", "--base-url", server.base_url, "--output", "c.jsonl"]
        server.extend([Status(status=429, retry_after=900)])
        pixel_llm("caption", *words, cwd=photos)
        done = pixel_llm("caption", *words, cwd=photos)

        degraded = [json.loads(line)["degraded"] for line in (photos / "c.jsonl").read_text().splitlines()]
        assert (0, [True, False]) == (done.returncode, degraded)

    def test_another_prompt_is_another_question(self, server, photos):
        """A caption stands for its prompt only."""
        caption("trip/a.png", "--output", "c.jsonl", server=server, cwd=photos)
        caption("trip/a.png", "--prompt", "What colour?", "--output", "c.jsonl", server=server, cwd=photos)

        assert 2 == len(server.requests)

    def test_another_model_or_picture_is_another_question(self, server, photos):
        """A caption is that of the model that was asked, and of the picture that the file held then."""
        words = ["--output", "c.jsonl"]
        caption("trip/a.png", *words, server=server, cwd=photos)
        caption("./trip/a.png", *words, server=server, cwd=photos)
        once = len(server.requests)
        caption("trip/a.png", "--model", "other", *words, server=server, cwd=photos)
        Image.new("RGB", (40, 40), "green").save(photos / "trip/a.png")
        caption("trip/a.png", *words, server=server, cwd=photos)

        assert (1, 3) == (once, len(server.requests))

    def test_standard_input_is_another_image_each_time(self, server, photos):
        """Nobody knows what standard input holds: it is asked about again."""
        words = ["--output", "c.jsonl"]
        for name in ("trip/a.png", "trip/day 2/c.webp"):
            with (photos / name).open("rb") as image:
                subprocess.run(
                    [sys.executable, "-m", "pixel_llm", "caption", "-", "--base-url", server.base_url, *words],
                    cwd=photos, stdin=image, check=True, timeout=60, stderr=subprocess.DEVNULL,
                )  # fmt: skip

        assert 2 == len(server.requests)

    def test_lines_of_an_earlier_version(self, server, photos):
        """Lines that don't say of which model and picture they are count for any."""
        line = {"image": "trip/a.png", "caption": "One.", "degraded": False, "error": None, "prompt": DEFAULT_PROMPT}
        (photos / "c.jsonl").write_text(json.dumps(line) + "\n")
        done = caption("trip/a.png", "--model", "other", "--output", "c.jsonl", server=server, cwd=photos)

        assert (0, ()) == (done.returncode, server.requests)

    def test_line_that_a_crash_cut_off(self, server, photos):
        """Half a line is taken away, the whole ones stay."""
        caption("trip", "--output", "c.jsonl", server=server, cwd=photos)
        whole = (photos / "c.jsonl").read_bytes()
        (photos / "c.jsonl").write_bytes(whole[:-20])
        done = caption("trip", "--output", "c.jsonl", server=server, cwd=photos)

        assert 0 == done.returncode
        assert 4 == len(server.requests)
        assert sorted(TRIP) == sorted(images_in((photos / "c.jsonl").read_text()))

    @pytest.mark.parametrize(
        "content", [b"my notes\n", b"my notes", b'{"image": 3}\n', b"\n", b"[]\n", b"\xff\xfe\n"], ids=repr
    )
    def test_somebody_else_s_file(self, server, photos, content):
        """A file that holds something else is left as it is."""
        (photos / "c.jsonl").write_bytes(content)
        done = caption("trip", "--output", "c.jsonl", server=server, cwd=photos)

        assert (2, content) == (done.returncode, (photos / "c.jsonl").read_bytes())
        assert "line 1 is no line of this command's" in done.stderr

    def test_two_runs_at_once(self, server, photos):
        """The second is told that the first is writing."""
        journal = Journal(photos / "c.jsonl")
        done = caption("trip", "--output", "c.jsonl", server=server, cwd=photos)
        journal.close()

        assert 2 == done.returncode
        assert "another run is writing to this file" in done.stderr

    def test_cannot_be_written(self, server, photos):
        """A path that is no file is said at once."""
        (photos / "file").write_text("")
        done = caption("trip", "--output", "file/c.jsonl", server=server, cwd=photos)

        assert 2 == done.returncode
        assert "cannot be written" in done.stderr

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
    def test_full_disk(self, server, photos):
        """When nothing can be written any more, nobody is asked any more."""
        many = photos / "many"
        many.mkdir()
        for number in range(60):
            shutil.copy(photos / "trip/a.png", many / f"{number:02}.png")
        done = caption("many", "--jobs", "1", "--output", "/dev/full", server=server, cwd=photos)

        assert 1 == done.returncode
        assert "error: /dev/full: cannot be written (No space left on device)" in done.stderr
        assert "stopped; 60 images: 0 captioned, 60 not reached" in done.stderr
        assert "the same command goes on" in done.stderr
        assert 1 == len(server.requests)

    def test_nobody_reads(self, server, photos):
        """When whoever reads the captions has gone, as `head` does, nobody is asked any more."""
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [sys.executable, "-m", "pixel_llm", "caption", "trip", "--jobs", "1", "--base-url", server.base_url],
            cwd=photos, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60,
        )  # fmt: skip
        os.close(writing)

        assert (1, b"", 1) == (done.returncode, done.stderr, len(server.requests))

    def test_interrupted(self, photos):
        """After Ctrl-C what is finished is in the file, and the command says how to go on."""
        with ScriptedLMStudio(script=[Answer(text="One.")], then=Hang()) as server:
            words = ["trip", "--jobs", "1", "--output", "c.jsonl", "--base-url", server.base_url]
            process = subprocess.Popen(
                [sys.executable, "-m", "pixel_llm", "caption", *words], cwd=photos, stderr=subprocess.PIPE, text=True
            )
            server.wait_for_requests(2, timeout=30)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=20)

        assert (130, TRIP[:1]) == (process.returncode, images_in((photos / "c.jsonl").read_text()))
        assert "interrupted; 3 images: 1 captioned, 2 not reached" in stderr
        assert "the same command goes on where this one stopped" in stderr
        assert "Traceback" not in stderr
