import os
import select
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawings import checkerboard, disc, gradient, grey, halves, stripes
from skimage import color, data

import pixel_llm.encoder
from pixel_llm.encoder import Limits, PatchEncoder, Picture, build_encoder, load_image, patch
from pixel_llm.encoder.features import FEATURES, area_means, srgb_to_lab
from pixel_llm.encoder.workers import map_in_workers
from pixel_llm.errors import EncoderError, ErrorCode, ValidationError
from pixel_llm.policy import Device, EncoderConfig

NAMES = tuple(FEATURES)


@pytest.fixture(scope="module")
def encoder():
    encoder = PatchEncoder("cpu")
    encoder.load()
    return encoder


def features(encoder, pixels):
    """The features by name, each rows × columns."""
    encoding = encoder.encode(load_image(pixels))
    grid = encoding.features[0].reshape(*encoding.grid, len(NAMES)).numpy()
    return {name: grid[..., number] for number, name in enumerate(NAMES)}


class TestEncode:
    def test_shape_and_type(self, encoder):
        encoding = encoder.encode(load_image(data.coffee()))

        assert (9, 14) == encoding.grid
        assert (1, 9 * 14, len(NAMES)) == encoding.features.shape
        assert torch.float32 is encoding.features.dtype
        assert "cpu" == encoding.features.device.type
        assert NAMES == encoder.feature_names

    @pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 200), (200, 3), (16, 17), (2000, 10), (5000, 4000)])
    def test_any_size_works(self, encoder, shape):
        encoding = encoder.encode(load_image(np.full(shape, 128, np.uint8)))

        assert encoding.features.isfinite().all()
        assert encoding.grid[0] * encoding.grid[1] == encoding.features.shape[1]
        assert max(encoding.grid) <= 14
        assert f"{shape[1]}×{shape[0]} pixels" in encoding.description

    def test_equal_pictures_give_equal_encodings(self, encoder):
        """
        Whatever encoder, whatever thread.
        """
        picture = load_image(data.astronaut())
        found = []

        def encode():
            found.append(PatchEncoder("cpu").encode(picture))

        threads = [threading.Thread(target=encode) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = encoder.encode(picture)

        assert [expected.description] * 4 == [encoding.description for encoding in found]
        assert all(torch.equal(expected.features, encoding.features) for encoding in found)

    def test_batch_gives_the_same_bits(self, encoder):
        """
        Of whatever sizes, in order, however many at once.
        """
        pictures = [load_image(pixels) for pixels in (disc(), data.coffee(), checkerboard(), gradient(), halves())] * 4
        small = PatchEncoder("cpu", limits=Limits(max_size=3, max_memory=10**6))

        for batched in (encoder.encode_batch(pictures), small.encode_batch(pictures)):
            for picture, encoding in zip(pictures, batched, strict=True):
                alone = encoder.encode(picture)
                assert alone.description == encoding.description
                assert torch.equal(alone.features, encoding.features)

    def test_empty_batch(self, encoder):
        assert [] == encoder.encode_batch([])

    def test_threads_of_torch_are_left_alone(self, encoder):
        """
        The encoder's own threads use one of torch's each; the program's go on with what they had, new ones too.
        """
        encoder.encode_batch([load_image(disc())] * 4)
        found = []
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()

        assert [torch.get_num_threads()] == found
        assert [1, 1, 1] == map_in_workers(lambda _: torch.get_num_threads(), range(3))

    def test_picture_is_not_changed(self, encoder):
        picture = load_image(disc())
        encoder.encode(picture)

        assert np.array_equal(disc(), picture.pixels)


class TestFeatures:
    def test_lab_agrees_with_scikit_image(self):
        rgb = np.random.default_rng(3).integers(0, 256, (50, 60, 3), np.uint8)
        lab, luminance = srgb_to_lab(torch.from_numpy(rgb).permute(2, 0, 1))

        assert np.allclose(color.rgb2lab(rgb), lab.permute(1, 2, 0).numpy(), atol=0.05)
        assert np.allclose(color.rgb2xyz(rgb)[..., 1], luminance.numpy(), atol=1e-3)

    def test_colours_of_two_halves(self, encoder):
        found = features(encoder, halves("red", "blue"))

        assert np.allclose(53.2, found["lightness"][:, 0], atol=0.2)
        assert np.allclose(80.1, found["green_red"][:, 0], atol=0.2)
        assert np.allclose(-107.9, found["blue_yellow"][:, -1], atol=0.2)
        assert np.allclose(0.2126, found["luminance"][:, 0], atol=1e-3)

    def test_even_picture_has_neither_contrast_nor_edges(self, encoder):
        found = features(encoder, np.full((100, 100), 77, np.uint8))

        for name in ("contrast", "colour_contrast", "edge_strength", "edge_density", "line_cos", "fine_detail"):
            assert np.abs(found[name]).max() < 1e-2

    @pytest.mark.parametrize(
        ("kind", "cosine", "sine"), [("horizontal", 1, 0), ("vertical", -1, 0), ("rising", 0, -1), ("falling", 0, 1)]
    )
    def test_lines_have_their_direction(self, encoder, kind, cosine, sine):
        found = features(encoder, stripes(kind))
        inner = np.s_[1:-1, 1:-1]

        assert np.allclose(cosine, found["line_cos"][inner], atol=0.1)
        assert np.allclose(sine, found["line_sin"][inner], atol=0.1)

    def test_step_of_lightness_has_its_slope(self, encoder):
        """
        From black to white L* rises by 100; Sobel spreads a step over two pixels.
        """
        found = features(encoder, halves("black", "white", (64, 64)))

        assert np.allclose(100 / 16, found["edge_strength"].sum(axis=1), atol=0.01)
        assert np.allclose(1 / 16, found["edge_density"][:, 1:3], atol=1e-4)

    def test_contrast_is_the_standard_deviation_of_lightness(self, encoder):
        assert np.allclose(50, features(encoder, checkerboard(8, (64, 64)))["contrast"], atol=0.01)

    def test_edges_between_equally_light_colours_are_seen(self, encoder):
        left, right = (200, 90, 90), (90, 146, 60)
        pixels = np.zeros((32, 32, 3), np.uint8)
        pixels[:, :16], pixels[:, 16:] = left, right

        assert features(encoder, pixels)["edge_density"].max() >= 1 / 16

    def test_fine_noise_is_detail_without_edges(self, encoder):
        noise = np.random.default_rng(4).integers(124, 132, (200, 200))
        found = features(encoder, grey(noise))

        assert found["fine_detail"].min() > 0.5
        assert found["edge_density"].max() < 0.01

    def test_what_scaling_takes_away_is_grain(self, encoder):
        """
        Stripes of one pixel become an even grey; each of their pixels is about 50 ΔE*ab away from it.
        """
        found = features(encoder, stripes("vertical", 1, (1344, 1344)))

        assert found["grain"].min() > 40
        assert found["edge_density"].max() == 0
        assert features(encoder, gradient())["grain"].max() < 1

    def test_lightness_rises_along_a_gradient(self, encoder):
        assert (np.diff(features(encoder, gradient())["lightness"], axis=1) > 0).all()


class TestAreaMeans:
    def test_pixels_on_a_border_count_by_their_share(self):
        maps = torch.tensor([[[0.0, 1.0, 2.0]]])

        assert torch.allclose(torch.tensor([[[1 / 3, 5 / 3]]]), area_means(maps, 1, 2))

    @pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 5), (7, 11), (20, 30)])
    def test_the_mean_of_the_means_is_the_mean(self, rows, columns):
        maps = torch.rand(2, 20, 30, generator=torch.Generator().manual_seed(0))

        assert torch.allclose(maps.mean((1, 2)), area_means(maps, rows, columns).mean((1, 2)))


class TestLoad:
    def test_second_load_does_nothing(self):
        encoder = PatchEncoder("cpu")
        encoder.load()
        encoder.load()

        assert "patch" == encoder.name

    @pytest.mark.parametrize("device", ["tpu", "", "cuda:99"])
    def test_unknown_device(self, device):
        with pytest.raises(EncoderError, match="must be one of auto, cpu, cuda, mps") as caught:
            PatchEncoder(device).load()

        assert ErrorCode.ERR_ENC_LOAD_FAILED is caught.value.error_code

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_device_that_is_not_there(self):
        with pytest.raises(EncoderError, match="cuda is not available here: use auto or cpu") as caught:
            PatchEncoder("cuda").encode(load_image(disc()))

        assert ErrorCode.ERR_ENC_LOAD_FAILED is caught.value.error_code

    @pytest.mark.parametrize("sizes", [{"patch_size": 0}, {"max_side": 0}])
    def test_impossible_sizes(self, sizes):
        with pytest.raises(ValidationError, match=r"must be at least 1 \(got 0\)"):
            PatchEncoder("cpu", **sizes)


class TestErrorsOfTorch:
    def test_lack_of_memory(self, encoder, monkeypatch):
        """
        A real allocation that cannot succeed.
        """
        monkeypatch.setattr(patch, "measure_pixels", lambda rgb: torch.empty(10**15))
        with pytest.raises(EncoderError, match="NumPy array: not enough memory") as caught:
            encoder.encode(load_image(disc()))

        assert ErrorCode.ERR_ENC_OUT_OF_MEMORY is caught.value.error_code
        assert isinstance(caught.value.__cause__, RuntimeError)

    def test_lack_of_memory_on_a_gpu(self, encoder, monkeypatch):
        def fail(rgb):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(patch, "measure_pixels", fail)
        with pytest.raises(EncoderError) as caught:
            encoder.encode(load_image(disc()))

        assert ErrorCode.ERR_ENC_OUT_OF_MEMORY is caught.value.error_code

    def test_other_failures(self, encoder, monkeypatch):
        monkeypatch.setattr(patch, "measure_pixels", lambda rgb: rgb.float() @ torch.ones(1, 1))
        with pytest.raises(EncoderError, match="NumPy array: torch failed: ") as caught:
            encoder.encode(load_image(disc()))

        assert ErrorCode.ERR_ENC_FORWARD_FAILED is caught.value.error_code
        assert "\n" not in str(caught.value)


class TestBuildEncoder:
    def test_builds_what_the_policy_says(self):
        encoder = build_encoder(EncoderConfig(device=Device.CPU))
        encoder.load()

        assert "patch" == encoder.name

    def test_unknown_type(self):
        with pytest.raises(
            EncoderError, match=r"encoder.type must be one of patch, vit, transformers \(got 'resnet'\)"
        ) as caught:
            build_encoder(SimpleNamespace(type="resnet"))

        assert ErrorCode.ERR_ENC_LOAD_FAILED is caught.value.error_code

    def test_missing_torch_is_named(self, monkeypatch):
        monkeypatch.delitem(sys.modules, "pixel_llm.encoder.patch")
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(EncoderError, match=r"pip install 'pixel-llm\[encoder\]'") as caught:
            build_encoder(EncoderConfig(device=Device.CPU))

        assert ErrorCode.ERR_ENC_LOAD_FAILED is caught.value.error_code


class TestExports:
    def test_every_name_is_there(self):
        for name in pixel_llm.encoder.__all__:
            assert getattr(pixel_llm.encoder, name) is not None
        assert set(pixel_llm.encoder.__all__) <= set(dir(pixel_llm.encoder))

    def test_unknown_name(self):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            pixel_llm.encoder.nothing  # noqa: B018 - reading it is the test

    def test_loading_images_loads_no_torch(self):
        """
        Importing the room loads neither PIL nor torch; reading images loads PIL alone.
        """
        code = (
            "import sys, pixel_llm.encoder as room\n"
            "assert not {'PIL', 'torch'} & set(sys.modules)\n"
            "room.load_image, room.build_encoder, room.Encoding\n"
            "assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
class TestFork:
    def test_child_can_encode(self):
        """A child of a process that has encoded encodes too: it does not wait for threads that it has not got."""
        picture = Picture(np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8))
        encoder = PatchEncoder("cpu")
        expected = encoder.encode(picture).description
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, PatchEncoder("cpu").encode(picture).description.encode())
            os._exit(0)
        os.close(write)
        ready, _, _ = select.select([read], [], [], 30)
        found = os.read(read, 10_000).decode() if ready else "no answer within 30 s"
        os.close(read)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

        assert expected == found
