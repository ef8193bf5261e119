"""From the policy's ``encoder`` section to an encoder."""

from __future__ import annotations

from typing import Protocol

from pixel_llm.encoder.protocol import Encoder
from pixel_llm.errors import EncoderError, ErrorCode


class EncoderConfig(Protocol):
    """What is read of the policy's ``encoder`` section."""

    @property
    def type(self) -> str:
        """The kind of encoder: ``patch``."""

    @property
    def device(self) -> str:
        """Where to compute: ``auto``, ``cpu``, ``cuda`` or ``mps``."""


def build_encoder(config: EncoderConfig) -> Encoder:
    """
    Build the encoder that *config* names; :meth:`Encoder.load` makes it ready.

    Raises:
        EncoderError: ERR_ENC_LOAD_FAILED if the type is unknown, or torch or Pillow is not installed.
    """
    if config.type != "patch":
        raise EncoderError(
            f"encoder.type must be 'patch' (got {config.type!r})", error_code=ErrorCode.ERR_ENC_LOAD_FAILED
        )
    try:
        from pixel_llm.encoder.patch import PatchEncoder
    except ImportError as exc:
        raise EncoderError(
            f"encoder.type patch needs {exc.name or 'torch'}: pip install 'pixel-llm[encoder]'",
            error_code=ErrorCode.ERR_ENC_LOAD_FAILED,
        ) from exc
    return PatchEncoder(device=config.device)
