"""The edge to torch: whatever it raises becomes an :class:`EncoderError`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from pixel_llm.errors import EncoderError, ErrorCode, PixelLMError

#: How torch says that memory is short where it has no class for it: on the CPU, on MPS, in cuBLAS and cuDNN.
_NO_MEMORY: Final = re.compile(r"out of memory|can't allocate memory|not enough memory|ALLOC_FAILED", re.IGNORECASE)


@contextmanager
def translated(source: str) -> Iterator[None]:
    """
    Translate what goes wrong while *source* is encoded; errors of ours pass.

    Raises:
        EncoderError: ERR_ENC_OUT_OF_MEMORY where memory is short, ERR_ENC_FORWARD_FAILED for all else.
    """
    try:
        yield
    except PixelLMError:
        raise
    except Exception as exc:  # torch's classes have no common base, and models raise what they like
        if is_out_of_memory(exc):
            raise EncoderError(
                f"{source}: not enough memory to encode it ({first_line(exc)})",
                error_code=ErrorCode.ERR_ENC_OUT_OF_MEMORY,
            ) from exc
        raise EncoderError(f"{source}: torch failed: {first_line(exc)}") from exc


def is_out_of_memory(error: BaseException) -> bool:
    """True if *error* says that memory was short, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None


def first_line(error: BaseException) -> str:
    """What *error* says, in a line of 200 characters at most."""
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
