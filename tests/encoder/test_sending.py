import base64
import io

import numpy as np
import pytest
from drawings import disc
from PIL import Image
from skimage import data

from pixel_llm.encoder import load_image, to_data_uri
from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.policy import ImageConfig, ImageFormat


def decode(uri):
    kind, _, content = uri.partition(";base64,")
    return kind, Image.open(io.BytesIO(base64.b64decode(content, validate=True)))


def written(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


class TestFormat:
    def test_drawing_becomes_png_without_loss(self):
        kind, image = decode(to_data_uri(load_image(disc())))

        assert "data:image/png" == kind
        assert np.array_equal(disc(), np.array(image))

    @pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket", "retina"])
    def test_photograph_becomes_jpeg(self, name):
        kind, image = decode(to_data_uri(load_image(getattr(data, name)())))

        assert "data:image/jpeg" == kind
        assert 3 == len(image.getbands())

    @pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket", "retina", "page", "checkerboard"])
    def test_shortcut_decides_as_the_whole_png_would(self, name):
        """
        Judging the PNG from a few rows never changes what is sent.
        """
        picture = load_image(getattr(data, name)())
        image = Image.fromarray(picture.pixels)
        image.thumbnail((1024, 1024))
        jpeg, png = written(image, "JPEG", quality=90), written(image, "PNG")
        expected = "png" if len(png) <= max(65536, 1.5 * len(jpeg)) else "jpeg"

        assert f"data:image/{expected}" == decode(to_data_uri(picture))[0]

    def test_large_drawing_becomes_png(self):
        """
        Repetition that only the whole picture shows still makes a PNG.
        """
        pixels = np.kron(
            np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8), np.ones((12, 12, 1), np.uint8)
        )

        assert "data:image/png" == decode(to_data_uri(load_image(pixels)))[0]

    def test_noise_of_few_pixels_is_png(self):
        pixels = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)

        assert "data:image/png" == decode(to_data_uri(load_image(pixels)))[0]

    def test_policy_decides_about_the_format(self):
        picture = load_image(data.coffee())
        png, image = decode(to_data_uri(picture, ImageConfig(format=ImageFormat.PNG)))

        assert "data:image/png" == png
        assert np.array_equal(data.coffee(), np.array(image))
        assert "data:image/jpeg" == decode(to_data_uri(load_image(disc()), ImageConfig(format=ImageFormat.JPEG)))[0]

    def test_quality_decides_about_the_size(self):
        picture = load_image(data.coffee())
        rough, fine = (to_data_uri(picture, ImageConfig(quality=quality)) for quality in (30, 95))

        assert 3 * len(rough) < len(fine)

    def test_equal_pictures_give_equal_text(self):
        assert to_data_uri(load_image(data.coffee())) == to_data_uri(load_image(data.coffee()))


class TestSize:
    def test_longest_side_is_scaled_down(self):
        _, image = decode(to_data_uri(load_image(data.coffee()), ImageConfig(max_side=300)))

        assert (300, 200) == image.size

    def test_small_pictures_are_never_scaled_up(self):
        _, image = decode(to_data_uri(load_image(np.zeros((2, 5), np.uint8))))

        assert (5, 2) == image.size

    def test_thin_pictures_keep_a_pixel(self):
        _, image = decode(to_data_uri(load_image(np.zeros((1, 5000), np.uint8)), ImageConfig(max_side=100)))

        assert (100, 1) == image.size

    def test_no_policy_sends_more_than_lm_studio_takes(self):
        """
        LM Studio takes 26,214,400 pixels.
        """
        square = np.zeros((6000, 6000), np.uint8)
        _, image = decode(to_data_uri(load_image(square), ImageConfig(max_side=5120)))

        assert 26_214_400 == image.width * image.height

    def test_scaling_keeps_what_is_seen(self):
        """
        The average colour of a photograph stays within one step of 255.
        """
        picture = load_image(np.tile(data.astronaut(), (4, 4, 1)))
        _, image = decode(to_data_uri(picture, ImageConfig(format=ImageFormat.PNG, max_side=256)))

        assert np.allclose(picture.pixels.mean((0, 1)), np.array(image).mean((0, 1)), atol=1)

    @pytest.mark.parametrize("wrong", [ImageConfig(max_side=5), ImageConfig(max_side=5121), ImageConfig(quality=0)])
    def test_settings_that_no_policy_may_have_are_refused(self, wrong):
        with pytest.raises(ValidationError, match=r"ImageConfig: .* must be a whole number from") as caught:
            to_data_uri(load_image(disc()), wrong)

        assert ErrorCode.ERR_VAL_INVALID_RANGE is caught.value.error_code


class TestMetadata:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("sent", list(ImageFormat))
    def test_nothing_but_pixels_leaves_the_machine(self, kind, sent):
        """
        Neither EXIF with its place, nor a comment, a profile or a name of the source's is in what is sent.
        """
        exif = Image.Exif()
        exif[0x010F] = "SECRET maker"
        exif[0x9286] = "SECRET comment"
        exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 29: "SECRET date"})
        options = {"exif": exif, "icc_profile": b"SECRET profile" * 20}
        if kind == "JPEG":
            options["comment"] = b"SECRET"
        content = written(Image.fromarray(data.coffee()), kind, **options)
        assert b"SECRET" in content

        uri = to_data_uri(load_image(content), ImageConfig(format=sent))
        sent_bytes = base64.b64decode(uri.partition(",")[2])
        image = Image.open(io.BytesIO(sent_bytes))

        assert b"SECRET" not in sent_bytes
        assert not image.getexif()
        assert {"jfif", "jfif_version", "jfif_unit", "jfif_density"} >= set(image.info)
