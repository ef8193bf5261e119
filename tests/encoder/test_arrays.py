import subprocess
import sys

import numpy as np
import pytest
import torch

from pixel_llm.encoder import MAX_PIXELS, MAX_SIDE, load_image, load_images
from pixel_llm.errors import EncoderError, ErrorCode, ValidationError

RGB = np.random.default_rng(1).integers(0, 256, (6, 9, 3), np.uint8)


class TestForms:
    @pytest.mark.parametrize(
        "array",
        [
            np.asfortranarray(RGB),
            np.repeat(RGB, 2, axis=1)[:, ::2],
            RGB[::-1][::-1],
            np.ma.masked_array(RGB, mask=False),
            (RGB / 255).astype(">f8"),
            (RGB / 255).astype(np.longdouble),
            torch.from_numpy(RGB.copy()).permute(2, 0, 1).to(memory_format=torch.preserve_format),
            (torch.from_numpy(RGB / 255)).requires_grad_(),
            (torch.from_numpy(RGB / 255) * 1.0).requires_grad_() * 1,
            torch.nn.Parameter(torch.from_numpy(RGB / 255)),
            torch.imag(torch.complex(torch.zeros(6, 9, 3), torch.from_numpy(-(RGB / 255)).float()).conj()),
        ],
    )
    def test_every_form_of_memory_gives_the_same_picture(self, array):
        assert np.array_equal(RGB, load_image(array).pixels)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_halves_are_as_near_as_they_can_be(self, dtype):
        pixels = load_image(torch.from_numpy(RGB / 255).to(dtype)).pixels

        assert np.abs(pixels.astype(int) - RGB).max() <= 1

    def test_read_only_and_memory_mapped_arrays(self, tmp_path):
        np.save(tmp_path / "a.npy", RGB)
        mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
        frozen = RGB.copy()
        frozen.flags.writeable = False

        assert np.array_equal(RGB, load_image(mapped).pixels)
        assert np.array_equal(RGB, load_image(frozen).pixels)

    def test_matrix_keeps_its_two_dimensions(self):
        with pytest.warns(PendingDeprecationWarning):
            matrix = np.matrix(np.arange(35, dtype=np.uint8).reshape(5, 7))

        assert (5, 7, 3) == load_image(matrix).pixels.shape

    def test_nothing_is_changed_or_shared(self):
        source = RGB.copy()
        picture = load_image(source)

        assert np.array_equal(RGB, source)
        assert not np.shares_memory(source, picture.pixels)

    def test_large_pictures_are_converted_in_bands_that_fit(self):
        """
        Where one band ends and the next begins nothing shows.
        """
        array = np.random.default_rng(2).integers(0, 256, (1300, 1100, 4), np.uint8)
        array[..., 3] = 255

        assert np.array_equal(array[..., :3], load_image(array / 255).pixels)


class TestLayout:
    def test_shapes_that_can_be_read_in_two_ways_must_be_said(self):
        array = np.arange(45, dtype=np.uint8).reshape(3, 5, 3)

        assert (3, 5, 3) == load_image(array, layout="hwc").pixels.shape
        assert (5, 3, 3) == load_image(torch.from_numpy(array), layout="chw").pixels.shape
        with pytest.raises(ValidationError, match=r'NumPy array: can be read as C×H×W and as H×W×C: say layout="chw"'):
            load_image(array)

    def test_what_is_said_must_fit(self):
        with pytest.raises(ValidationError, match=r"must be C×H×W with C of 1, 3 or 4 \(got 6×9×3\)"):
            load_image(RGB, layout="chw")


class TestValueRange:
    @pytest.mark.parametrize(
        ("values", "value_range", "expected"),
        [
            (np.array([0, 0.5, 1]), None, [0, 128, 255]),
            (np.array([-1, 0, 1.0]), "-1..1", [0, 128, 255]),
            (np.array([0, 127.6, 255]), "0..255", [0, 128, 255]),
            (np.array([0, 128, 255], np.int64), "0..255", [0, 128, 255]),
            (np.array([0, 257 * 128, 65535], np.uint16), "0..65535", [0, 128, 255]),
            (np.array([0, 257 * 128, 65535], ">u2"), "0..65535", [0, 128, 255]),
            (np.array([False, True, True]), "0..1", [0, 255, 255]),
            (np.array([0, 1, 1], np.uint8), "0..1", [0, 255, 255]),
            (np.array([0, 1, 1], np.uint8), None, [0, 1, 1]),
            (np.array([-1e-6, 0.5, 1 + 1e-6]), None, [0, 128, 255]),
        ],
    )
    def test_black_and_white_are_what_is_said(self, values, value_range, expected):
        grey = np.broadcast_to(values, (5, 3))[:, None, :].reshape(5, 3)

        assert expected == load_image(grey, value_range=value_range).pixels[0, :, 0].tolist()
        tensor = torch.from_numpy(np.ascontiguousarray(grey, grey.dtype.newbyteorder("=")))
        assert expected == load_image(tensor, value_range=value_range).pixels[0, :, 0].tolist()

    def test_meaning_never_depends_on_the_values(self):
        """
        A dark picture of -1..1 or 0..255 is refused like a bright one, unless its range is said, or it happens to be
        one of 0..1.
        """
        with pytest.raises(ValidationError, match=r'if it is meant, say value_range="-1..1"'):
            load_image(np.full((5, 7), -0.01))
        with pytest.raises(ValidationError, match=r'if it is meant, say value_range="0..255"'):
            load_image(np.full((5, 7), 1.5))


class TestBatches:
    @pytest.mark.parametrize("form", [np.asarray, torch.as_tensor])
    def test_batch_of_n_gives_n_pictures(self, form):
        batch = np.stack([RGB, RGB[::-1], 255 - RGB])
        pictures = load_images(form(batch))

        assert all(np.array_equal(one, picture.pixels) for one, picture in zip(batch, pictures, strict=True))
        assert ["[0]", "[1]", "[2]"] == [picture.source[-3:] for picture in pictures]
        assert pictures[1].digest == load_images(form(batch.transpose(0, 3, 1, 2).copy()))[1].digest

    def test_single_source_is_a_list_of_one(self):
        assert load_image(RGB).digest == load_images(RGB)[0].digest
        assert "NumPy array" == load_images(RGB)[0].source

    def test_batch_where_one_picture_is_wanted(self):
        with pytest.raises(ValidationError, match=r"torch tensor: must be one picture: .* \(got a batch of 2\)"):
            load_image(torch.zeros(2, 3, 8, 8))

        assert 8 == load_image(torch.zeros(1, 3, 8, 8)).width

    @pytest.mark.parametrize("nothing", [[], (), iter(()), np.zeros((0, 8, 8, 3)), torch.zeros(0, 3, 8, 8)])
    def test_no_pictures(self, nothing):
        with pytest.raises(ValidationError, match=r"images: must hold at least one picture") as caught:
            load_images(nothing)

        assert ErrorCode.ERR_VAL_EMPTY_INPUT is caught.value.error_code


class TestWrong:
    @pytest.mark.parametrize(
        ("array", "code", "message"),
        [
            (np.zeros((5, 5, 2), np.uint8), "INVALID_TENSOR", "with C of 1, 3 or 4 (got 5×5×2)"),
            (np.zeros((), np.uint8), "INVALID_TENSOR", "(got a single number)"),
            (np.zeros((1, 1, 4, 4, 3), np.uint8), "INVALID_TENSOR", "(got 1×1×4×4×3)"),
            (np.zeros((5, 5), bool), "INVALID_TENSOR", "(got bool)"),
            (np.zeros((5, 5), np.uint16), "INVALID_TENSOR", "(got uint16)"),
            (np.zeros((5, 5), complex), "INVALID_TENSOR", "(got complex128)"),
            (np.full((5, 5), None), "INVALID_TENSOR", "(got object)"),
            (np.zeros((5, 5), "U3"), "INVALID_TENSOR", "(got str96)"),
            (np.zeros((5, 5), [("r", "u1")]), "INVALID_TENSOR", "must be numbers"),
            (np.full((5, 5), np.nan), "INVALID_TENSOR", "(got NaN in 25 of 25 values, the first at [0, 0])"),
            (np.full((5, 5), np.inf), "INVALID_TENSOR", "(got infinity in 25 of 25 values, the first at [0, 0])"),
            (np.full((5, 5), -3.0), "INVALID_RANGE", "must be in 0..1 (got -3 to -3 in 25 of 25 values"),
            (np.zeros((0, 5, 3), np.uint8), "EMPTY_INPUT", "has no pixels (got 0×5×3)"),
            (np.ma.masked_less(np.arange(25, dtype=np.uint8).reshape(5, 5), 3), "INVALID_TENSOR", "(got 3 of 25)"),
            (torch.zeros(3, 5, 5).to_sparse(), "INVALID_TENSOR", "must be a dense tensor with values"),
            (torch.zeros(3, 5, 5, device="meta"), "INVALID_TENSOR", "must be a dense tensor with values"),
            (torch.zeros(5, 5, dtype=torch.int64), "INVALID_TENSOR", "(got int64)"),
        ],
    )
    def test_message_says_what_was_wanted_and_what_came(self, array, code, message):
        for load in (load_image, load_images):
            with pytest.raises(ValidationError) as caught:
                load(array)

            assert f"ERR_VAL_{code}" == caught.value.error_code
            assert str(caught.value).startswith(("NumPy array: ", "torch tensor: "))
            assert message in str(caught.value)

    @pytest.mark.parametrize("height", [MAX_PIXELS // 1000 + 1, MAX_SIDE + 1])
    @pytest.mark.parametrize("form", [np.asarray, torch.from_numpy])
    @pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
    def test_too_many_pixels_are_refused_before_they_are_copied(self, height, form):
        width = 1000 if height > MAX_SIDE + 1 else 1
        huge = form(np.broadcast_to(np.uint8(0), (height, width)))
        with pytest.raises(EncoderError, match=r"must have (at most 104,857,600 pixels|sides of at most 65,535)"):
            load_image(huge)

    def test_array_of_another_library(self):
        class Other:
            def __array__(self):
                return RGB

        with pytest.raises(ValidationError, match=r"\(got Other\); numpy.asarray\(\) makes an array of it"):
            load_image(Other())

    @pytest.mark.skipif(sys.platform != "linux", reason="limits its memory as Linux does")
    def test_memory_that_does_not_suffice(self):
        """
        A batch that is a view of one picture takes no memory, but its pictures would.
        """
        code = (
            "import resource, numpy as np\n"
            "from pixel_llm.encoder import load_images\n"
            "from pixel_llm.errors import EncoderError\n"
            "batch = np.broadcast_to(np.uint8(0), (1000, 4000, 4000, 3))\n"
            "pages = int(open('/proc/self/statm').read().split()[0])\n"
            "limit = pages * resource.getpagesize() + (200 << 20)\n"
            "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
            "try: load_images(batch)\n"
            "except EncoderError as error: print(error.error_code)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

        assert "ERR_ENC_OUT_OF_MEMORY" == done.stdout.strip(), done.stderr
