import numpy as np
import pytest
import torch

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.validation import validate_image_tensor, validate_tensor

ALL = "6 of 6 values, the first at [0, 0])"


def complaint(function, *arguments, **settings):
    with pytest.raises(ValidationError) as caught:
        function(*arguments, **settings)
    return caught.value


def with_values(**values):
    """A 2×3 array of halves, but for what stands at an index."""
    array = np.full((2, 3), 0.5, np.float32)
    for index, value in values.items():
        array.flat[int(index[1:])] = value
    return array


class TestValidateTensor:
    @pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
    def test_what_fits_is_returned_as_it_is(self, make):
        value = make(with_values())

        assert value is validate_tensor(
            value, shape=(2, None), dtype="float32", value_range=(0, 1), dimensions=(2, 3), finite=True
        )

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"dimensions": 3}, "x: must have 3 dimensions (got 2: 2×3)"),
            ({"dimensions": {4, 3}}, "x: must have 3 or 4 dimensions (got 2: 2×3)"),
            ({"shape": (2, None, 4)}, "x: must have the shape 2×any×4 (got 2×3)"),
            ({"shape": (2, 4)}, "x: must have the shape 2×4 (got 2×3)"),
            ({"dtype": "uint8"}, "x: must be uint8 (got float32)"),
            ({"dtype": (np.uint8, torch.bfloat16, "int8")}, "x: must be uint8, bfloat16 or int8 (got float32)"),
            ({"value_range": (0.6, None)}, "x: must be at least 0.6 (got 0.5 to 0.5 in " + ALL),
            ({"value_range": (None, 0.4)}, "x: must be at most 0.4 (got 0.5 to 0.5 in " + ALL),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
    def test_message_names_field_wish_and_what_came(self, settings, message, make):
        assert message == str(complaint(validate_tensor, make(with_values()), "x", **settings))

    def test_bounds_are_included(self):
        array = with_values(_0=0, _5=1)

        assert array is validate_tensor(array, value_range=(0, 1))

    @pytest.mark.parametrize("bounds", [(float("nan"), 1), (0, float("nan"))])
    def test_bounds_that_bound_nothing_are_refused(self, bounds):
        assert "value_range: must be two numbers or None" in str(
            complaint(validate_tensor, with_values(), value_range=bounds)
        )

    def test_values_out_of_range_are_counted_and_the_first_is_placed(self):
        error = complaint(validate_tensor, with_values(_1=-1, _4=2), value_range=(0, 1))

        assert "tensor: must be in 0..1 (got -1 to 2 in 2 of 6 values, the first at [0, 1])" == str(error)
        assert ErrorCode.ERR_VAL_INVALID_RANGE is error.error_code

    @pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, lambda array: torch.as_tensor(array).bfloat16()])
    def test_nan_and_infinity_are_named_with_number_and_place(self, make):
        """
        Neither hides the other, nor what else is wrong.
        """
        array = make(with_values(_1=np.nan, _2=-np.inf, _3=np.nan, _4=7))
        error = complaint(validate_tensor, array, value_range=(0, 1))

        assert [
            "tensor: must be finite (got NaN in 2 of 6 values, the first at [0, 1])",
            "tensor: must be finite (got infinity in 1 of 6 values, the first at [0, 2])",
            "tensor: must be in 0..1 (got 7 to 7 in 1 of 6 values, the first at [1, 1])",
        ] == str(error).splitlines()
        assert ErrorCode.ERR_VAL_INVALID_TENSOR is error.error_code

    def test_nan_and_infinity_may_be_let_pass(self):
        array = with_values(_0=np.nan)
        assert array is validate_tensor(array, finite=False, value_range=(0, 1))

        array = with_values(_0=np.inf)
        assert array is validate_tensor(array, finite=False)
        assert "must be in 0..1 (got inf to inf in 1 of" in str(
            complaint(validate_tensor, array, finite=False, value_range=(0, 1))
        )

    def test_everything_is_said_at_once(self):
        error = complaint(
            validate_tensor, with_values(_0=9), shape=(3,), dtype="int8", dimensions=1, value_range=(0, 1)
        )

        assert 4 == len(str(error).splitlines()) == len(error.details["problems"])
        assert {"field": "tensor", "message": "must be int8 (got float32)", "error_code": "ERR_VAL_INVALID_TENSOR"} in (
            error.details["problems"]
        )

    def test_no_values(self):
        empty = np.zeros((0, 3))
        error = complaint(validate_tensor, empty)

        assert "tensor: has no values (got 0×3)" == str(error)
        assert ErrorCode.ERR_VAL_EMPTY_INPUT is error.error_code
        assert empty is validate_tensor(empty, may_be_empty=True, value_range=(0, 1))

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ([1, 2], "must be a NumPy array or a torch tensor (got list)"),
            (None, "must be a NumPy array or a torch tensor (got null)"),
            (np.zeros(2, complex), "must hold real numbers (got complex128)"),
            (np.array([None]), "must hold real numbers (got object)"),
            (torch.zeros(3).to_sparse(), "must be a dense tensor with values (got float32, torch.sparse_coo)"),
            (torch.zeros(3, device="meta"), "must be a dense tensor with values (got float32, torch.strided)"),
            (
                np.ma.masked_equal(np.arange(4), 2),
                "must have no masked values: fill them first, as with .filled(0) (got 1 of 4)",
            ),
        ],
    )
    def test_what_has_no_plain_numbers(self, value, message):
        error = complaint(validate_tensor, value)

        assert f"tensor: {message}" == str(error)
        assert ErrorCode.ERR_VAL_INVALID_TENSOR is error.error_code

    @pytest.mark.parametrize(
        "value",
        [
            np.zeros(3, ">f4"),
            np.zeros((4, 4))[::2, ::-1],
            np.ma.masked_equal(np.arange(4), 9),
            np.broadcast_to(np.float16(1), (3, 3)),
            np.float64(3)[...],
            torch.ones(3, requires_grad=True),
            torch.ones(3, dtype=torch.float16),
            torch.ones(3, dtype=torch.float8_e5m2),
            torch.imag(torch.zeros(3, dtype=torch.complex64).conj()),
            torch.zeros(2, dtype=torch.bool),
        ],
    )
    def test_every_form_of_plain_numbers_passes(self, value):
        assert value is validate_tensor(value, value_range=(0, 3))

    def test_name_of_a_type_is_the_same_for_every_byte_order(self):
        validate_tensor(np.zeros(3, ">f4"), dtype=np.float32)


class TestValidateImageTensor:
    @pytest.mark.parametrize(
        ("sizes", "layout", "expected"),
        [
            ((5, 7), None, ("hw", 1, 5, 7, None)),
            ((5, 7), "chw", ("hw", 1, 5, 7, None)),
            ((3, 5, 7), None, ("chw", 3, 5, 7, None)),
            ((5, 7, 4), None, ("hwc", 4, 5, 7, None)),
            ((1, 5, 7), None, ("chw", 1, 5, 7, None)),
            ((3, 5, 3), "hwc", ("hwc", 3, 3, 5, None)),
            ((3, 5, 3), "chw", ("chw", 3, 5, 3, None)),
            ((2, 3, 5, 7), None, ("chw", 3, 5, 7, 2)),
            ((2, 5, 7, 1), None, ("hwc", 1, 5, 7, 2)),
        ],
    )
    def test_layout_is_read_from_the_shape(self, sizes, layout, expected):
        shape = validate_image_tensor(np.zeros(sizes, np.uint8), layout=layout)

        assert expected == (shape.layout, shape.channels, shape.height, shape.width, shape.batch)
        assert shape == validate_image_tensor(torch.zeros(sizes), layout=layout)

    @pytest.mark.parametrize("sizes", [(3, 4, 3), (1, 9, 3), (4, 4, 3), (3, 3, 3), (2, 3, 9, 1)])
    def test_shape_that_can_be_read_in_two_ways_is_asked_about(self, sizes):
        error = complaint(validate_image_tensor, torch.zeros(sizes))

        assert 'can be read as C×H×W and as H×W×C: say layout="chw" or "hwc" (got ' in str(error)
        assert ErrorCode.ERR_VAL_INVALID_TENSOR is error.error_code

    @pytest.mark.parametrize(
        ("array", "settings", "message"),
        [
            (np.zeros((5, 5, 2), np.uint8), {}, "must be H×W×C or C×H×W with C of 1, 3 or 4 (got 5×5×2)"),
            (np.zeros((5, 5, 3), np.uint8), {"layout": "chw"}, "must be C×H×W with C of 1, 3 or 4 (got 5×5×3)"),
            (np.zeros((5, 5, 4), np.uint8), {"channels": [3]}, "must be H×W×C or C×H×W with C of 3 (got 5×5×4)"),
            (np.zeros((5, 5), np.uint8), {"channels": [3]}, "with C of 3, or a batch of such (got 5×5)"),
            (np.zeros(7, np.uint8), {}, "must be H×W, H×W×C or C×H×W with C of 1, 3 or 4, or a batch of such (got 7)"),
            (np.zeros((0, 7), np.uint8), {}, "has no pixels (got 0×7)"),
            (np.zeros((5, 7), np.uint8), {"batched": True}, "must be a batch, with an axis for it in front (got"),
            (np.zeros((2, 5, 7, 3), np.uint8), {"batched": False}, "pass a batch one by one (got a batch of 2)"),
            (np.zeros((5, 7)), {"layout": "nchw"}, "the layout must be \"chw\" or \"hwc\" (got 'nchw')"),
            (np.zeros((5, 7)), {"value_range": "0-1"}, "must be 0..1, -1..1, 0..255 or 0..65535 (got '0-1')"),
            (np.zeros((5, 7), np.int32), {}, "unless value_range says what its values mean (got int32)"),
            (np.zeros((5, 7), complex), {}, "must be numbers, such as uint8 or float32 (got complex128)"),
            (np.full((5, 7), -0.5), {}, 'the first at [0, 0]); if it is meant, say value_range="-1..1"'),
            (np.full((5, 7), 200.0), {}, 'the first at [0, 0]); if it is meant, say value_range="0..255"'),
            (np.full((5, 7), -3.0), {}, "must be in 0..1 (got -3 to -3 in 35 of 35 values, the first at [0, 0])"),
            (np.full((5, 7), -3.0), {"value_range": "-1..1"}, "must be in -1..1 (got -3 to -3 in 35 of 35 values,"),
            (np.full((5, 7), 256, np.int16), {"value_range": "0..255"}, "must be in 0..255 (got 256 to 256 in"),
            (np.full((5, 7), 2, np.uint8), {"value_range": "0..1"}, "must be in 0..1 (got 2 to 2 in"),
        ],
    )  # fmt: skip
    def test_message(self, array, settings, message):
        assert message in str(complaint(validate_image_tensor, array, "photo", **settings))
        assert str(complaint(validate_image_tensor, array, "photo", **settings)).startswith("photo: ")

    @pytest.mark.parametrize(
        ("array", "value_range"),
        [
            (np.full((5, 7), 1.000001), None),
            (np.full((5, 7), -1.000001, np.float32), "-1..1"),
            (np.full((5, 7), 65535, np.uint16), "0..65535"),
            (np.full((5, 7), 255, np.int64), "0..255"),
            (np.ones((5, 7), bool), "0..1"),
            (np.full((5, 7), 255, np.uint8), None),
            (np.full((5, 7), 255, np.uint8), "0..65535"),
        ],
    )
    def test_values_that_fit_what_is_said(self, array, value_range):
        """
        What calculations with floats round does not count.
        """
        assert (5, 7) == (validate_image_tensor(array, value_range=value_range).height, 7)

    def test_batch_of_one_is_one_picture_too(self):
        assert 1 == validate_image_tensor(np.zeros((1, 5, 7, 3), np.uint8), batched=False).batch

    def test_shape_and_values_are_both_said(self):
        assert 2 == len(str(complaint(validate_image_tensor, np.full((5, 5, 2), np.nan))).splitlines())
