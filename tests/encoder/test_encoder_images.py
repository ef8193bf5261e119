import contextlib
import io
import os
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from pixel_llm.encoder import MAX_PIXELS, Picture, load_image
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

    def test_ambiguous_shapes_follow_the_custom_of_the_library(self):
        """
        3×5×3 is H×W×C for NumPy and C×H×W for torch.
        """
        array = np.arange(45, dtype=np.uint8).reshape(3, 5, 3)

        assert (3, 5, 3) == load_image(array).pixels.shape
        assert (5, 3, 3) == load_image(torch.from_numpy(array)).pixels.shape

    def test_bfloat16_tensors_are_read(self):
        assert (255, 255, 255) == tuple(load_image(torch.ones(3, 2, 2, dtype=torch.bfloat16)).pixels[0, 0])

    def test_changing_the_source_later_does_not_change_the_picture(self, pixels):
        picture = load_image(pixels)
        digest = picture.digest
        pixels[:] = 0

        assert picture.pixels.any()
        assert digest == Picture(picture.pixels).digest


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
        assert expected == load_image(rgba).pixels[0, :, 0].tolist()

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
        self.check(path, ValidationError, ErrorCode.ERR_VAL_MISSING_FIELD, f"{path}: no such file")

    def test_directory(self, tmp_path):
        self.check(tmp_path, ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, f"{tmp_path}: is a directory")

    def test_unreadable_file(self, tmp_path):
        path = tmp_path / "a" / "b.png"
        path.parent.write_bytes(b"a file where a directory should be")
        self.check(path, ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, "cannot be read (Not a directory)")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_named_pipe_is_refused_rather_than_waited_for(self, tmp_path):
        path = tmp_path / "pipe"
        os.mkfifo(path)
        self.check(path, ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, "is no regular file")

    def test_null_byte_in_a_path(self):
        self.check("a\0b", ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, "cannot be read (embedded null")

    def test_url(self):
        self.check("https://a.org/b.png", ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, "is a URL, not a file")

    def test_empty_path(self):
        self.check("", ValidationError, ErrorCode.ERR_VAL_EMPTY_INPUT, "image path is empty")

    def test_empty_file_bytes_and_stream(self, tmp_path):
        path = tmp_path / "empty.png"
        path.touch()
        for source in (path, b"", io.BytesIO()):
            self.check(source, ValidationError, ErrorCode.ERR_VAL_EMPTY_INPUT, "is empty (0 bytes)")

    def test_text_stream(self):
        self.check(io.StringIO("a"), ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, "must be open in binary mode")

    def test_closed_stream(self):
        stream = io.BytesIO(b"a")
        stream.close()
        self.check(stream, ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, "cannot be read")

    def test_no_image(self):
        self.check(b"hello", EncoderError, ErrorCode.ERR_ENC_INVALID_INPUT, "image bytes: is no image")

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
        self.check(content, EncoderError, ErrorCode.ERR_ENC_INVALID_INPUT, "pixels (")

    def test_warnings_of_pillow_are_held_back(self):
        """
        Pillow warns of a bomb from 89 million pixels on; ours may have 105 million. This one is merely cut off.
        """
        with pytest.raises(EncoderError) as caught:
            load_image(png_header(9_500, 9_500))

        assert "bomb" not in str(caught.value)

    def test_unknown_type(self):
        self.check(3, ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE, "(got int)")

    def test_damaged_bytes_never_raise_anything_else(self, pixels):
        """
        Whatever byte is damaged, a picture or an EncoderError comes of it.
        """
        chance = np.random.default_rng(2)
        for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "ICO", "TGA"):
            content = np.frombuffer(encoded(Image.fromarray(pixels), kind), np.uint8)
            for _ in range(40):
                damaged = content.copy()
                damaged[chance.integers(0, len(content), 3)] = chance.integers(0, 256, 3)
                with contextlib.suppress(EncoderError):
                    load_image(damaged.tobytes())


class TestWrongArrays:
    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros((2, 4, 4, 3), np.uint8), "pass a batch one by one (got a batch of 2)"),
            (np.zeros((5, 5, 2), np.uint8), "C of 1, 3 or 4, and a leading batch axis of 1 at most (got 5×5×2)"),
            (np.zeros(4, np.uint8), "(got 4)"),
            (np.zeros((), np.uint8), "(got a single number)"),
            (np.zeros((1, 1, 4, 4, 3), np.uint8), "(got 1×1×4×4×3)"),
            (np.zeros((4, 4, 3), np.int64), "must be uint8, or float in 0..1 (got int64)"),
            (np.zeros((4, 4, 3), bool), "(got bool)"),
            (np.zeros((4, 4, 3), complex), "(got complex128)"),
            (np.full((4, 4, 3), np.nan), "must be in 0..1 (got NaN in 48 of 48 values)"),
            (np.full((4, 4, 3), np.inf), "must be in 0..1 (got infinity in 48 of 48 values)"),
            (np.full((4, 4, 3), -0.5), "must be in 0..1 (got -0.5 to -0.5)"),
            (np.full((4, 4, 3), 255.0), "must be in 0..1 (got 255 to 255); divide by 255, or pass uint8"),
        ],
    )
    def test_message_says_what_was_wanted_and_what_came(self, array, message):
        with pytest.raises(ValidationError) as caught:
            load_image(array)

        assert ErrorCode.ERR_VAL_INVALID_TENSOR is caught.value.error_code
        assert str(caught.value).startswith("NumPy array: ")
        assert str(caught.value).endswith(message)

    def test_tensors_are_checked_alike(self):
        with pytest.raises(ValidationError, match=r"torch tensor: must be one picture.*batch of 2"):
            load_image(torch.zeros(2, 3, 4, 4))

    @pytest.mark.parametrize("tensor", [torch.zeros(3, 4, 4).to_sparse(), torch.zeros(3, 4, 4, device="meta")])
    def test_tensors_without_dense_values(self, tensor):
        with pytest.raises(ValidationError, match="must be a dense tensor") as caught:
            load_image(tensor)

        assert ErrorCode.ERR_VAL_INVALID_TENSOR is caught.value.error_code

    def test_no_pixels(self):
        with pytest.raises(ValidationError, match="has no pixels") as caught:
            load_image(np.zeros((0, 4, 3), np.uint8))

        assert ErrorCode.ERR_VAL_EMPTY_INPUT is caught.value.error_code

    def test_too_many_pixels(self):
        huge = np.broadcast_to(np.uint8(0), (MAX_PIXELS // 1000 + 1, 1000))
        with pytest.raises(EncoderError, match="must have at most 104,857,600 pixels"):
            load_image(huge)


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
