import importlib
import warnings

import numpy as np
import pytest
import torch

from pixel_llm.encoder.torch_errors import first_line, is_out_of_memory, translated
from pixel_llm.errors import EncoderError, ErrorCode, PixelLMError, ValidationError, classify_error

#: What torch raises through its own classes: of these modules, every exception that is public.
MODULES = (
    "torch",
    "torch.cuda",
    "torch.cuda.memory",
    "torch.distributed",
    "torch.fx",
    "torch.hub",
    "torch.jit",
    "torch.linalg",
    "torch.mps",
    "torch.multiprocessing",
    "torch.multiprocessing.spawn",
    "torch.nn",
    "torch.onnx",
    "torch.overrides",
    "torch.package",
    "torch.serialization",
    "torch.utils.data",
)


def exceptions_of_torch():
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some names are deprecated, and say so when they are looked at
        for name in MODULES:
            try:
                module = importlib.import_module(name)
            except ImportError:  # distributed and cuda are not in every build
                continue
            values = [getattr(module, public, None) for public in dir(module) if not public.startswith("_")]
            classes = [value for value in values if isinstance(value, type) and issubclass(value, Exception)]
            found |= {f"{cls.__module__}.{cls.__qualname__}": cls for cls in classes if not issubclass(cls, Warning)}
    return {name: cls for name, cls in found.items() if name.startswith("torch")}


EXCEPTIONS = exceptions_of_torch()


class TestEveryClass:
    def test_the_walk_finds_them(self):
        assert {"torch.OutOfMemoryError", "torch.AcceleratorError", "torch.jit.Error"} <= set(EXCEPTIONS)
        assert len(EXCEPTIONS) >= 6

    @pytest.mark.parametrize("name", EXCEPTIONS)
    def test_becomes_an_encoder_error(self, name):
        """
        Each public exception class of torch, raised in a pass, arrives as the right code, with its text and cause.
        """
        error = EXCEPTIONS[name].__new__(EXCEPTIONS[name])
        error.args = ("what torch says\nand a long stack",)
        with pytest.raises(EncoderError, match=r"^photo.png: ") as caught, translated("photo.png"):
            raise error

        short = issubclass(EXCEPTIONS[name], torch.OutOfMemoryError)
        wanted = ErrorCode.ERR_ENC_OUT_OF_MEMORY if short else ErrorCode.ERR_ENC_FORWARD_FAILED
        assert wanted is caught.value.error_code
        assert error is caught.value.__cause__
        assert "\n" not in str(caught.value)
        assert classify_error(caught.value).can_retry()


class TestRealFailures:
    def test_allocation_on_the_cpu(self):
        with pytest.raises(EncoderError) as caught, translated("photo.png"):
            torch.empty(10**15)

        assert ErrorCode.ERR_ENC_OUT_OF_MEMORY is caught.value.error_code

    def test_allocation_of_numpy(self):
        with pytest.raises(EncoderError) as caught, translated("photo.png"):
            np.empty(2**60, np.uint8)

        assert ErrorCode.ERR_ENC_OUT_OF_MEMORY is caught.value.error_code

    def test_shapes(self):
        with pytest.raises(EncoderError, match=r"photo.png: torch failed: ") as caught, translated("photo.png"):
            torch.ones(2, 3) @ torch.ones(2, 3)

        assert ErrorCode.ERR_ENC_FORWARD_FAILED is caught.value.error_code

    @pytest.mark.parametrize(
        "text",
        [
            "MPS backend out of memory (MPS allocated: 1 GB)",
            "CUDA error: out of memory",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.",
        ],
    )
    def test_texts_of_other_devices(self, text):
        assert is_out_of_memory(RuntimeError(text))
        assert not is_out_of_memory(ValueError(text))
        assert not is_out_of_memory(RuntimeError("memory format"))

    def test_ours_pass(self):
        for error in (ValidationError("mine"), EncoderError("mine", error_code=ErrorCode.ERR_ENC_OUT_OF_MEMORY)):
            with pytest.raises(PixelLMError) as caught, translated("photo.png"):
                raise error
            assert error is caught.value

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_interrupts_pass(self, error):
        with pytest.raises(error), translated("photo.png"):
            raise error

    def test_first_line(self):
        assert "RuntimeError" == first_line(RuntimeError())
        assert "a" * 200 == first_line(RuntimeError("\n" + "a" * 300 + "\nb"))
