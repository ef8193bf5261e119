"""Damaged and hostile files: our errors come out, nothing else, in bounded memory and time."""

import contextlib
import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from pixel_llm.encoder import load_image
from pixel_llm.errors import EncoderError, ValidationError

OURS = (EncoderError, ValidationError)

KINDS = {
    "PNG": {},
    "PNG of colours": {"kind": "PNG", "mode": "P"},
    "PNG with alpha": {"kind": "PNG", "mode": "RGBA"},
    "PNG of 16 bits": {"kind": "PNG", "mode": "I;16"},
    "JPEG": {},
    "JPEG, progressive": {"kind": "JPEG", "progressive": True},
    "JPEG of ink": {"kind": "JPEG", "mode": "CMYK"},
    "GIF": {},
    "WEBP": {},
    "WEBP, lossless": {"kind": "WEBP", "lossless": True},
    "TIFF": {},
    "TIFF, deflated": {"kind": "TIFF", "compression": "tiff_adobe_deflate"},
    "TIFF, packed": {"kind": "TIFF", "compression": "tiff_lzw"},
    "BMP": {},
    "ICO": {},
    "TGA": {},
    "QOI": {},
    "PPM": {},
    "JPEG2000": {},
    "AVIF": {},
}


def small_image(name):
    """The bytes of a picture of 12×9 with EXIF, where the format has it."""
    options = dict(KINDS[name])
    kind, mode = options.pop("kind", name), options.pop("mode", "RGB")
    pixels = np.random.default_rng(3).integers(0, 256, (9, 12, 3), np.uint8)
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    (image if mode == "I;16" else image.convert(mode)).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


def try_to_load(content):
    with contextlib.suppress(*OURS):
        load_image(content)


class TestDamage:
    @pytest.mark.parametrize("name", KINDS)
    def test_cut_off_at_every_byte(self, name):
        """
        A picture or one of our errors comes of each beginning of a file.
        """
        content = small_image(name)
        for length in range(len(content)):
            try_to_load(content[:length])

    @pytest.mark.parametrize("name", KINDS)
    def test_every_byte_turned(self, name):
        content = small_image(name)
        for index in range(len(content)):
            turned = bytearray(content)
            turned[index] ^= 0xFF
            try_to_load(bytes(turned))

    @pytest.mark.parametrize("name", KINDS)
    def test_random_damage(self, name):
        """
        Bytes changed, taken out, doubled, and swapped for those that formats count with.
        """
        chance = np.random.default_rng(4)
        content = small_image(name)
        for _ in range(150):
            damaged = bytearray(content)
            for _ in range(chance.integers(1, 6)):
                start = int(chance.integers(0, len(damaged)))
                piece = damaged[start : start + int(chance.integers(1, 9))]
                new = [
                    chance.bytes(len(piece)),
                    b"",
                    bytes(piece) * 3,
                    b"\xff" * len(piece),
                    b"\0" * len(piece),
                    b"\x7f\xff\xff\xff",
                ]
                damaged[start : start + len(piece)] = new[int(chance.integers(0, len(new)))]
                if not damaged:
                    break
            try_to_load(bytes(damaged))

    def test_cut_off_photograph_is_refused_rather_than_half_grey(self):
        content = small_image("JPEG")
        with pytest.raises(EncoderError, match="is damaged or cut off"):
            load_image(content[:-40])


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width, height, *extra, colour_type=0):
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    rows = b"\0" * 1000
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def gif(screen, frame):
    content = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return content + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\2\2\x44\1\0;"


def bmp(width, height):
    return (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + b"\0" * 60
    )


def tiff(width, height):
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 9)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)


def icon(width, height):
    """An icon that says 16×16 and holds a PNG of another size."""
    inside = png(width, height)
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inside), 22) + inside


BOMB = zlib.compress(b"\0" * 200_000_000)

HOSTILE = {
    "png of 40 gigapixels": png(200_000, 200_000),
    "png of just too much": png(10_241, 10_241),
    "png of one endless line": png(100_000, 1),
    "png without pixels": png(0, 5),
    "png with a text that unpacks to 200 MB": png(8, 8, chunk(b"zTXt", b"a\0\0" + BOMB)),
    "png with a profile that unpacks to 200 MB": png(8, 8, chunk(b"iCCP", b"a\0\0" + BOMB)),
    "png with another text that unpacks to 200 MB": png(8, 8, chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB)),
    "png whose pixels unpack to 200 MB": png(8, 8, chunk(b"IDAT", BOMB)),
    "gif with a large screen": gif((65535, 65535), (1, 1)),
    "gif with a frame beyond its screen": gif((1, 1), (65535, 65535)),
    "bmp": bmp(50_000, 50_000),
    "bmp upside down": bmp(50_000, -50_000),
    "tiff": tiff(300_000, 300_000),
    "tiff of one column": tiff(1, 4_000_000_000),
    "icon with more in it than it says": icon(13_000, 13_000),
    "ppm": b"P6 60000 60000 255\n" + b"\0" * 100,
    "qoi": b"qoif" + struct.pack(">IIBB", 60_000, 60_000, 3, 0) + b"\0" * 100,
    "tga": struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 65535, 65535, 24, 0) + b"\0" * 100,
}


class TestBombs:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_bomb_is_refused(self, name):
        """
        Nothing that unpacks to far more than it is gets through: an error, or a small picture without the ballast.
        """
        with contextlib.suppress(*OURS):
            picture = load_image(HOSTILE[name])
            assert picture.width * picture.height < 1000

    @pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of its memory as Linux keeps it")
    def test_memory_stays_small(self, tmp_path):
        """
        All of them, one after the other, take less than 250 MB beyond what was loaded before.
        """
        files = []
        for index, content in enumerate(HOSTILE.values()):
            files.append(tmp_path / str(index))
            files[-1].write_bytes(content)
        code = (
            "import resource, sys, contextlib\n"
            "from pixel_llm.encoder import load_image\n"
            "from pixel_llm.errors import PixelLMError\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
            "with contextlib.suppress(PixelLMError): load_image(b'x')\n"
            "before = peak()\n"
            "for file in sys.argv[1:]:\n"
            "    with contextlib.suppress(PixelLMError): load_image(file)\n"
            "print(peak() - before)\n"
        )
        command = [sys.executable, "-c", code, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)

        assert "" == done.stderr
        assert int(done.stdout) < 250
