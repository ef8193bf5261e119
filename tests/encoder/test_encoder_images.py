import io
import os
import socket
import struct
import tempfile
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixel_llm.encoder import Picture, files, load_image, load_images
from pixel_llm.errors import EncoderError, ErrorCode, ValidationError


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width, height):
    """A PNG that claims to be huge and holds nothing."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def pixels():
    return np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)


class TestSources:
    def test_every_kind_of_source_gives_the_same_picture(self, pixels, tmp_path):
        """
        However a picture is passed in, its pixels and its digest are the same.
        """
        content = encoded(Image.fromarray(pixels))
        path = tmp_path / "a.png"
        path.write_bytes(content)
        chw = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        with path.open("rb") as file:
            pictures = [
                load_image(source)
                for source in (
                    path, str(path), content, bytearray(content), file, io.BytesIO(content), Image.open(path), pixels,
                    pixels[None], pixels.transpose(2, 0, 1), pixels / 255, (pixels / 255).astype(np.float32), chw,
                    chw[None], chw / 255, (chw / 255).double().requires_grad_(), chw.permute(1, 2, 0),
                )
            ]  # fmt: skip

        assert {load_image(pixels).digest} == {picture.digest for picture in pictures}
        assert all(np.array_equal(pixels, picture.pixels) for picture in pictures)

    def test_picture_is_returned_as_it_is(self, pixels):
        picture = load_image(pixels)

        assert picture is load_image(picture)

    def test_name_of_the_source_is_kept_for_messages(self, tmp_path, pixels):
        path = tmp_path / "a.png"
        path.write_bytes(encoded(Image.fromarray(pixels)))

        assert str(path) == load_image(path).source
        assert "NumPy array" == load_image(pixels).source

    def test_grey_arrays_of_two_dimensions_and_of_one_channel(self):
        plane = np.arange(35, dtype=np.uint8).reshape(5, 7)
        expected = np.repeat(plane[..., None], 3, axis=2)

        for source in (plane, plane[..., None], plane[None], plane[None, None], torch.from_numpy(plane)):
            assert np.array_equal(expected, load_image(source).pixels)

    def test_changing_the_source_later_does_not_change_the_picture(self, pixels):
        picture = load_image(pixels)
        digest = picture.digest
        pixels[:] = 0

        assert picture.pixels.any()
        assert digest == Picture(picture.pixels).digest

    def test_every_form_of_a_path(self, tmp_path, pixels):
        class Named:
            def __init__(self, path):
                self.path = path

            def __fspath__(self):
                return self.path

        path = tmp_path / "ä b.png"
        path.write_bytes(encoded(Image.fromarray(pixels)))
        for form in (path, str(path), Named(str(path)), Named(os.fsencode(path))):
            assert str(path) == load_image(form).source

    def test_file_objects_of_every_kind(self, tmp_path, pixels):
        """
        Buffered, unbuffered, temporary, and a socket's, which gives a little at a time.
        """
        content = encoded(Image.fromarray(pixels))
        path = tmp_path / "a.png"
        path.write_bytes(content)
        near, far = socket.socketpair()
        near.sendall(content)
        near.close()
        with (
            far,
            path.open("rb") as buffered,
            path.open("rb", buffering=0) as raw,
            tempfile.NamedTemporaryFile() as temporary,
            tempfile.SpooledTemporaryFile() as spooled,
            far.makefile("rb", buffering=0) as stream,
        ):
            for file in (temporary, spooled):
                file.write(content)
                file.seek(0)
            for file in (buffered, raw, temporary, spooled, stream):
                assert np.array_equal(pixels, load_image(file).pixels)

    def test_file_objects_are_read_from_where_they_stand(self, pixels):
        stream = io.BytesIO(b"header" + encoded(Image.fromarray(pixels)))
        stream.seek(6)

        assert np.array_equal(pixels, load_image(stream).pixels)

    def test_several_sources(self, tmp_path, pixels):
        path = tmp_path / "a.png"
        path.write_bytes(encoded(Image.fromarray(pixels)))
        sources = [path, path.read_bytes(), Image.fromarray(pixels), pixels, load_image(pixels)]

        for several in (sources, tuple(sources), iter(sources), (source for source in sources)):
            assert [load_image(pixels).digest] * 5 == [picture.digest for picture in load_images(several)]
        for single in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), Image.open(path)):
            assert [load_image(pixels).digest] == [picture.digest for picture in load_images(single)]

    def test_wrong_one_of_several_is_named(self, pixels, tmp_path):
        with pytest.raises(ValidationError, match="must be an existing file") as caught:
            load_images([pixels, tmp_path / "no.png"])

        assert 1 == caught.value.details["index"]
        assert ["in images[1]"] == caught.value.__notes__
        with pytest.raises(ValidationError, match=r"must be a path, bytes.*\(got 3\)"):
            load_images(3)


class TestPilImages:
    def test_image_that_is_not_loaded_yet(self, tmp_path, pixels):
        Image.fromarray(pixels).save(tmp_path / "a.png")

        assert np.array_equal(pixels, load_image(Image.open(tmp_path / "a.png")).pixels)

    def test_image_that_was_loaded_and_closed(self, tmp_path, pixels):
        Image.fromarray(pixels).save(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            image.load()

        assert np.array_equal(pixels, load_image(image).pixels)

    def test_image_that_was_closed_before_it_was_read(self, tmp_path, pixels):
        Image.fromarray(pixels).save(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as left:
            pass
        closed = Image.open(tmp_path / "a.png")
        closed.close()
        stream = io.BytesIO((tmp_path / "a.png").read_bytes())
        cut = Image.open(stream)
        stream.close()
        memory = Image.fromarray(pixels)
        memory.close()
        for image in (left, closed, cut, memory):
            with pytest.raises(ValidationError, match=r"must be open: pass it before it is closed") as caught:
                load_image(image)
            assert ErrorCode.ERR_VAL_INVALID_RANGE is caught.value.error_code

    def test_frame_that_an_animation_stands_at_is_taken(self):
        frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
        image = Image.open(io.BytesIO(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])))
        image.seek(1)

        assert [0, 0, 255] == load_image(image).pixels[0, 0].tolist()

    def test_image_of_the_caller_stays_as_it_was(self, pixels):
        exif = Image.Exif()
        exif[0x0112] = 6
        image = Image.open(io.BytesIO(encoded(Image.fromarray(pixels), exif=exif)))
        load_image(image)

        assert (30, 20) == image.size
        assert 6 == image.getexif()[0x0112]


class TestConversion:
    def test_exif_rotation_is_applied(self, pixels):
        exif = Image.Exif()
        exif[0x0112] = 6  # rotate by 90° clockwise to see it upright
        content = encoded(Image.fromarray(pixels), exif=exif)

        assert np.array_equal(np.rot90(pixels, -1), load_image(content).pixels)

    def test_transparency_is_laid_over_white(self):
        rgba = np.zeros((1, 3, 4), np.uint8)
        rgba[0, :, 3] = (0, 128, 255)
        expected = [255, 127, 0]

        assert expected == load_image(encoded(Image.fromarray(rgba))).pixels[0, :, 0].tolist()
        assert expected == load_image(rgba, layout="hwc").pixels[0, :, 0].tolist()
        assert expected == load_image(rgba.transpose(2, 0, 1) / 255, layout="chw").pixels[0, :, 0].tolist()

    @pytest.mark.parametrize("transparency", [0, b"\x00\xff"])
    def test_transparent_palette_entries_are_laid_over_white(self, transparency):
        image = Image.new("P", (2, 1))
        image.putpalette([255, 0, 0, 0, 0, 255])
        image.putpixel((1, 0), 1)

        pixels = load_image(encoded(image, transparency=transparency)).pixels

        assert [[255, 255, 255], [0, 0, 255]] == pixels[0].tolist()

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16", "F"])
    def test_every_mode_of_pillow_becomes_rgb(self, mode):
        white = {"1": 1, "L": 255, "P": 0, "I": 65535, "I;16": 65535, "F": 1.0, "HSV": (0, 0, 255)}
        colour = white.get(mode, {"LA": (255, 255), "CMYK": (0, 0, 0, 0), "YCbCr": (255, 128, 128)}.get(mode))
        image = Image.new(mode, (3, 2), colour if colour is not None else (255,) * len(mode))
        if mode == "P":
            image.putpalette([255, 255, 255])

        assert np.array_equal(np.full((2, 3, 3), 255), load_image(image).pixels)

    @pytest.mark.parametrize(("mode", "value"), [("F", 200.0), ("I", 200), ("I;16", 200)])
    def test_numbers_of_pillow_mean_what_is_said(self, mode, value):
        """
        These modes do not say what stands for white; whoever has the image knows.
        """
        assert 200 == load_image(Image.new(mode, (3, 2), value), value_range="0..255").pixels[0, 0, 0]

    @pytest.mark.parametrize(
        ("source", "said", "complaint"),
        [
            (Image.new("RGB", (3, 2)), {"value_range": "0..255"}, 'value_range= is for the modes F and I (got "RGB"'),
            (
                Image.new("RGB", (3, 2)),
                {"layout": "hwc"},
                "layout= is for arrays and tensors (got Image, which has its own)",
            ),
            ("a.png", {"layout": "nonsense"}, "layout= is for arrays and tensors (got "),
            (b"P6", {"value_range": "nonsense"}, "value_range= is for arrays, tensors and PIL images of mode F or I"),
        ],
    )
    def test_what_an_image_says_itself_is_not_said_twice(self, source, said, complaint):
        with pytest.raises(ValidationError) as caught:
            load_image(source, **said)

        assert complaint in str(caught.value)

    def test_sixteen_bits_are_scaled_to_eight(self):
        values = np.array([[0, 257 * 100, 65535]], np.uint16)

        assert [0, 100, 255] == load_image(encoded(Image.fromarray(values))).pixels[0, :, 0].tolist()

    def test_cmyk_jpeg_keeps_its_colour(self):
        content = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
        red, green, blue = load_image(content).pixels[8, 8].tolist()

        assert red > 230
        assert green < 30
        assert blue < 30

    def test_first_frame_of_an_animation_is_taken(self):
        frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
        content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])

        assert [255, 0, 0] == load_image(content).pixels[0, 0].tolist()


class TestPicture:
    def test_pixels_are_contiguous_and_read_only(self, pixels):
        picture = load_image(pixels[:, ::-1])

        assert (30, 20) == (picture.width, picture.height)
        assert picture.pixels.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            picture.pixels[0, 0, 0] = 1

    def test_digest_depends_on_shape_and_pixels(self):
        wide, tall = np.zeros((2, 8, 3), np.uint8), np.zeros((8, 2, 3), np.uint8)

        assert 3 == len({load_image(array).digest for array in (wide, tall, wide + 1)})
        assert 64 == len(load_image(wide).digest)

    def test_repr_shows_no_pixels(self, pixels):
        assert "Picture(source='NumPy array')" == repr(load_image(pixels))

    @pytest.mark.parametrize("wrong", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3)), "pixels"])
    def test_other_pixels_are_refused(self, wrong):
        with pytest.raises(ValidationError, match="must be a uint8 NumPy array of H×W×3") as caught:
            Picture(wrong)

        assert ErrorCode.ERR_VAL_INVALID_TENSOR is caught.value.error_code


class TestWrongFiles:
    def check(self, source, kind, code, message):
        with pytest.raises(kind) as caught:
            load_image(source)
        assert code is caught.value.error_code
        assert message in str(caught.value)
        assert str(caught.value).count("\n") <= 1

    def test_missing_file(self, tmp_path):
        path = tmp_path / "no.png"
        message = f"{path}: must be an existing file (got '{path}', and there is no such file)"
        self.check(path, ValidationError, ErrorCode.ERR_VAL_MISSING_FIELD, message)

    def test_directory(self, tmp_path):
        self.check(
            tmp_path, ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, f"got '{tmp_path}', which is a directory"
        )

    def test_unreadable_file(self, tmp_path):
        path = tmp_path / "a" / "b.png"
        path.parent.write_bytes(b"a file where a directory should be")
        self.check(path, ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, "that the system can follow (got ")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_named_pipe_is_refused_rather_than_waited_for(self, tmp_path):
        path = tmp_path / "pipe"
        os.mkfifo(path)
        self.check(path, ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, "which is no regular file)")

    def test_null_byte_in_a_path(self):
        self.check("a\0b", ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, "must not hold null bytes")

    def test_url(self):
        self.check(
            "https://a.org/b.png",
            ValidationError,
            ErrorCode.ERR_VAL_INVALID_RANGE,
            "must be a file (got a URL)",
        )

    def test_empty_path(self):
        self.check("", ValidationError, ErrorCode.ERR_VAL_EMPTY_INPUT, "must be a path (got an empty text)")

    def test_empty_file_bytes_and_stream(self, tmp_path):
        path = tmp_path / "empty.png"
        path.touch()
        for source in (path, b"", io.BytesIO()):
            self.check(source, ValidationError, ErrorCode.ERR_VAL_EMPTY_INPUT, "is empty (0 bytes)")

    def test_text_stream(self):
        self.check(io.StringIO("a"), ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, "must be open in binary mode")

    def test_file_at_its_end(self):
        """
        A buffer that was just written stands at its end; nobody guesses that it is meant from the start.
        """
        stream = io.BytesIO()
        stream.write(b"abc")
        message = "file object: is at its end, after 3 bytes, and has nothing left to read: call seek(0) first"
        self.check(stream, ValidationError, ErrorCode.ERR_VAL_EMPTY_INPUT, message)

    @pytest.mark.parametrize("error", [RuntimeError("no luck"), KeyError("a"), EOFError()])
    def test_stream_of_others_that_raises_anything(self, error):
        class Broken:
            def read(self, length):
                raise error

        self.check(Broken(), ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, "file object: cannot be read (")

    def test_stream_that_has_nothing_yet(self):
        class Waiting(io.RawIOBase):
            def readable(self):
                return True

            def readinto(self, buffer):
                return None

        self.check(Waiting(), ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, "is in non-blocking mode")

    def test_stream_without_end(self, monkeypatch):
        """
        It is read up to the limit, not until memory is full.
        """
        monkeypatch.setattr(files, "MAX_BYTES", 3_000_000)
        with Path("/dev/zero").open("rb") as stream:
            self.check(stream, EncoderError, ErrorCode.ERR_ENC_INVALID_INPUT, "/dev/zero: must have at most 2 MiB")

    def test_closed_stream(self):
        stream = io.BytesIO(b"a")
        stream.close()
        self.check(stream, ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, "cannot be read")

    def test_path_as_bytes(self):
        """
        Bytes are what is in a file; an os.PathLike of bytes is a path.
        """
        self.check(b"photo.jpg", EncoderError, ErrorCode.ERR_ENC_INVALID_INPUT, "os.fsdecode() makes a path of them")

    def test_no_image(self):
        self.check(
            b"hello",
            EncoderError,
            ErrorCode.ERR_ENC_INVALID_INPUT,
            "image bytes: is no image in a format that is read here",
        )

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
    def test_truncated_image(self, kind, pixels):
        content = encoded(Image.fromarray(np.tile(pixels, (8, 8, 1))), kind)
        self.check(content[: len(content) // 2], EncoderError, ErrorCode.ERR_ENC_INVALID_INPUT, "image bytes: is ")

    @pytest.mark.parametrize("side", [10_000, 12_000, 20_000])
    def test_decompression_bomb_is_refused_before_it_is_decoded(self, side):
        """
        Pillow would only warn of some of these, and refuse others in words of its own.
        """
        content = png_header(side, side + 500)
        self.check(content, EncoderError, ErrorCode.ERR_ENC_INVALID_INPUT, "must have at most 104,857,600 pixels (got ")

    def test_warnings_of_pillow_are_held_back(self):
        """
        Pillow warns of a bomb from 89 million pixels on; ours may have 105 million. This one is merely cut off.
        """
        with pytest.raises(EncoderError) as caught:
            load_image(png_header(9_500, 9_500))

        assert "bomb" not in str(caught.value)

    def test_unknown_type(self):
        self.check(3, ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, "a NumPy array or a torch tensor (got 3)")


class TestWarnings:
    def test_filters_of_the_process_are_as_before(self, pixels):
        """
        Several threads decode at once; none leaves a changed filter behind.
        """
        content = encoded(Image.fromarray(pixels))
        before = list(warnings.filters)
        threads = [threading.Thread(target=load_image, args=(content,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert before == list(warnings.filters)
