"""What files of each kind hold, as other programs write them."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from pixel_llm.encoder import load_image
from pixel_llm.errors import EncoderError, ErrorCode


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(values, colour_type, extra=()):
    """A PNG of 16 bits, which Pillow can't write in colour."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = values.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)), *extra]
    parts += [(b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


class TestRotation:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize(
        ("orientation", "undo"),
        [
            (1, lambda pixels: pixels),
            (2, np.fliplr),
            (3, lambda pixels: np.rot90(pixels, 2)),
            (4, np.flipud),
            (5, lambda pixels: pixels.transpose(1, 0, 2)),
            (6, lambda pixels: np.rot90(pixels, -1)),
            (7, lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2)),
            (8, np.rot90),
        ],
    )
    def test_all_eight_are_applied_once(self, kind, orientation, undo):
        """
        The upright picture comes out of every file that a camera could write of it.
        """
        stored = np.kron(np.arange(6).reshape(2, 3, 1), np.ones((16, 16, 3))).astype(np.uint8) * 40
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
        content = encoded(Image.fromarray(stored), kind, exif=exif, **options)
        pixels = load_image(content).pixels

        assert undo(stored).shape == pixels.shape
        assert np.abs(undo(stored).astype(int) - pixels).max() <= 2
        assert np.array_equal(pixels, load_image(Image.open(io.BytesIO(content))).pixels)

    @pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff", b""])
    def test_broken_exif_says_nothing_against_the_pixels(self, exif):
        content = encoded(Image.new("RGB", (5, 4), "red"), exif=exif)

        assert (5, 4) == (load_image(content).width, load_image(content).height)


VALUES = np.array([[0, 257 * 100, 65535, 257 * 7, 257 * 200]], np.uint16)
EXPECTED = [0, 100, 255, 7, 200]


class TestSixteenBits:
    def test_grey_png(self):
        assert EXPECTED == load_image(png(VALUES, 0)).pixels[0, :, 1].tolist()

    def test_grey_png_with_a_transparent_value(self):
        pixels = load_image(png(VALUES, 0, [(b"tRNS", struct.pack(">H", 257 * 7))])).pixels

        assert [0, 100, 255, 255, 200] == pixels[0, :, 0].tolist()

    def test_colour_png(self):
        colour = np.stack([VALUES, VALUES[:, ::-1], VALUES], axis=2)
        pixels = load_image(png(colour, 2)).pixels

        assert EXPECTED == pixels[0, :, 0].tolist()
        assert EXPECTED[::-1] == pixels[0, :, 1].tolist()

    def test_colour_png_with_transparency(self):
        colour = np.stack([VALUES] * 3 + [np.array([[65535, 65535, 65535, 65535, 0]], np.uint16)], axis=2)

        assert [0, 100, 255, 7, 255] == load_image(png(colour, 6)).pixels[0, :, 0].tolist()

    def test_grey_png_with_alpha(self):
        grey = np.stack([VALUES, np.array([[65535, 65535, 65535, 65535, 0]], np.uint16)], axis=2)

        assert [0, 100, 255, 7, 255] == load_image(png(grey, 4)).pixels[0, :, 2].tolist()

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_tiff_in_both_byte_orders(self, order):
        colour = np.stack([VALUES, VALUES[:, ::-1], VALUES], axis=2)

        assert EXPECTED == load_image(tiff(VALUES, byteorder=order)).pixels[0, :, 0].tolist()
        pixels = load_image(tiff(colour, byteorder=order, photometric="rgb")).pixels
        assert EXPECTED == pixels[0, :, 0].tolist()
        assert EXPECTED[::-1] == pixels[0, :, 1].tolist()

    def test_grey_of_32_bits_is_taken_if_it_fits_into_16(self):
        assert EXPECTED == load_image(tiff(VALUES.astype(np.int32))).pixels[0, :, 0].tolist()
        with pytest.raises(EncoderError, match=r"must have grey values in 0..65535 \(got 0 to 65536\)"):
            load_image(tiff(np.array([[0, 65536]], np.int32)))

    def test_floats_in_a_tiff_follow_the_rule_for_arrays(self):
        assert [0, 128, 255] == load_image(tiff(np.array([[0, 0.5, 1]], np.float32))).pixels[0, :, 0].tolist()


class TestCMYK:
    #: White, red, black, half cyan, as ink.
    INK = np.array([[0, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255], [128, 0, 0, 0]], np.uint8)
    RGB = np.array([[255, 255, 255], [255, 0, 0], [0, 0, 0], [127, 255, 255]])

    def squares(self, colours):
        return np.kron(colours[:, None, :], np.ones((16, 16, 1))).reshape(64, 16, -1).astype(np.uint8)

    def check(self, content):
        pixels = load_image(content).pixels[8::16, 8].astype(int)
        assert np.abs(self.RGB - pixels).max() <= 4

    def test_adobe_jpeg_which_holds_inverted_ink(self):
        content = encoded(Image.fromarray(self.squares(self.INK), "CMYK"), "JPEG", quality=100)
        assert b"Adobe" in content

        self.check(content)

    def test_ycck_jpeg(self):
        """
        Photoshop's form: luma and chroma of the inverted ink, and black beside them.
        """
        inverted = 255 - self.INK.astype(float)
        red, green, blue, black = inverted.T
        # libjpeg takes what it decodes for 255 - R, 255 - G, 255 - B, so that the stored planes are those of 255 - ink.
        red, green, blue = 255 - red, 255 - green, 255 - blue
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        stored = np.stack([luma, 128 + 0.564 * (blue - luma), 128 + 0.713 * (red - luma), black], axis=1)
        planes = np.clip(np.rint(stored), 0, 255).astype(np.uint8)
        content = encoded(Image.fromarray(self.squares(255 - planes), "CMYK"), "JPEG", quality=100)
        marker = content.index(b"Adobe")
        ycck = bytearray(content)
        ycck[marker + 11] = 2  # the transform: YCCK

        self.check(bytes(ycck))

    def test_tiff(self):
        self.check(tiff(self.squares(self.INK), photometric="separated"))


class TestOthers:
    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
    def test_first_frame_of_several_is_taken(self, kind):
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        red, green, blue = load_image(content).pixels[4, 4].tolist()

        assert red > 240
        assert green < 10
        assert blue < 10

    def test_picture_of_a_camera_with_several_in_one_file(self):
        """
        MPO, the form of JPEG that phones write for depth and stereo.
        """
        frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
        content = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])

        assert load_image(content).pixels[4, 4, 0] > 240

    @pytest.mark.parametrize(
        ("mode", "colour", "expected"),
        [
            ("LA", (100, 0), [255, 255, 255]),
            ("La", (0, 0), [255, 255, 255]),
            ("PA", None, [255, 255, 255]),
            ("RGBa", (0, 0, 0, 0), [255, 255, 255]),
            ("RGBX", (1, 2, 3, 4), [1, 2, 3]),
            ("LAB", (0, 128, 128), [0, 0, 0]),
        ],
    )
    def test_rare_modes(self, mode, colour, expected):
        image = Image.new(mode, (3, 2), colour) if colour is not None else Image.new("RGBA", (3, 2)).convert(mode)

        assert np.allclose(expected, load_image(image).pixels[0, 0], atol=1)

    def test_lossless_formats_keep_every_pixel(self):
        pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
        lossless = {"PNG": {}, "BMP": {}, "TGA": {}, "PPM": {}, "TIFF": {"compression": "tiff_lzw"}, "QOI": {}}
        for kind, options in {**lossless, "WEBP": {"lossless": True}, "JPEG2000": {}}.items():
            assert np.array_equal(pixels, load_image(encoded(Image.fromarray(pixels), kind, **options)).pixels), kind


class TestRefusedFormats:
    def test_postscript_starts_no_program(self):
        """
        Pillow would hand it to Ghostscript.
        """
        content = encoded(Image.new("RGB", (8, 8), "red"), "EPS")
        with pytest.raises(EncoderError, match="is no image in a format that is read here") as caught:
            load_image(content)

        assert ErrorCode.ERR_ENC_INVALID_INPUT is caught.value.error_code

    @pytest.mark.parametrize("kind", ["PCX", "SGI", "SPIDER", "ICNS", "DDS", "PDF"])
    def test_rare_formats_are_not_read(self, kind):
        image = Image.new("F" if kind == "SPIDER" else "RGB", (16, 16))
        with pytest.raises(EncoderError, match="is no image in a format that is read here"):
            load_image(encoded(image, kind))

    def test_format_that_the_program_has_registered_is_read(self):
        """
        As pillow-heif does. In a process of its own, since registering lasts.
        """
        code = (
            "from PIL import Image, ImageFile\n"
            "class Mine(ImageFile.ImageFile):\n"
            "    format = 'MINE'\n"
            "    def _open(self):\n"
            "        self.fp.read(4); self._mode = 'L'; self._size = (2, 2)\n"
            "        self.tile = [('raw', (0, 0, 2, 2), 4, ('L', 0, 1))]\n"
            "Image.register_open('MINE', Mine, lambda prefix: prefix.startswith(b'MINE'))\n"
            "from pixel_llm.encoder import load_image\n"
            "print(load_image(b'MINE' + bytes([1, 2, 3, 4])).pixels[..., 0].tolist())\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

        assert "[[1, 2], [3, 4]]" == done.stdout.strip(), done.stderr
