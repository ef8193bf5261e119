"""Where torch computes, and with how many bits."""

from __future__ import annotations

from typing import Final

import torch

from pixel_llm.encoder.torch_errors import first_line
from pixel_llm.errors import EncoderError, ErrorCode

DEVICES: Final = ("auto", "cpu", "cuda", "mps")
DTYPES: Final = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

CPU: Final = torch.device("cpu")


def choose_device(wanted: str) -> torch.device:
    """
    Find the device that *wanted* names and try it out. ``auto`` takes CUDA, else Apple's MPS, else the CPU.

    Raises:
        EncoderError: ERR_ENC_LOAD_FAILED for a device that is unknown, not there or does not work.
    """
    if wanted not in DEVICES:
        raise _refused(f"encoder.device must be one of {', '.join(DEVICES)} (got {wanted!r})")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = next(name for name in there if there[name]) if wanted == "auto" else wanted
    if not there[chosen]:
        raise _refused(f"encoder.device {chosen} is not available here: use auto or cpu")
    device = torch.device(chosen)
    try:
        torch.ones(1, device=device).sum().item()
    except RuntimeError as exc:
        raise _refused(f"encoder.device {chosen} does not work: {first_line(exc)}") from exc
    return device


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """
    The type of a model's numbers on *device*.

    Raises:
        EncoderError: ERR_ENC_LOAD_FAILED for an unknown one, and for float16 on the CPU, where it saves memory but
            no time, and overflows.
    """
    if wanted not in DTYPES:
        raise _refused(f"encoder.dtype must be one of {', '.join(DTYPES)} (got {wanted!r})")
    if wanted == "float16" and device.type == "cpu":
        raise _refused("encoder.dtype float16 needs a GPU, and this is the CPU: use float32 or bfloat16")
    return DTYPES[wanted]


def _refused(message: str) -> EncoderError:
    return EncoderError(message, error_code=ErrorCode.ERR_ENC_LOAD_FAILED)
