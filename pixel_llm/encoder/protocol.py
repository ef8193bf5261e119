"""What every encoder offers, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pixel_llm.encoder.picture import Picture

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """
    What an encoder found in one picture. Do not change the tensor: encodings are cached and shared.

    Attributes:
        features: float32 ``[1, N, F]`` on the CPU, N = rows × columns patches from the top left, row by row.
            What the F numbers are, the encoder says; for ``patch`` see :data:`pixel_llm.encoder.features.FEATURES`.
        description: The picture in plain English, every statement measured.
        grid: Rows and columns of patches.
    """

    features: torch.Tensor
    description: str
    grid: tuple[int, int]


class Encoder(Protocol):
    """Turns pictures into encodings. Implementations are safe to share between threads."""

    name: str

    @property
    def identity(self) -> str:
        """Everything that decides an encoding but the picture. Equal identities give equal encodings."""

    def load(self) -> None:
        """
        Get ready: choose the device, read weights if there are any. A second call does nothing.

        Raises:
            EncoderError: ERR_ENC_LOAD_FAILED.
        """

    def encode(self, picture: Picture) -> Encoding:
        """
        Encode one picture; equal pictures give equal encodings. Loads first if need be.

        Raises:
            EncoderError: ERR_ENC_LOAD_FAILED, ERR_ENC_FORWARD_FAILED or ERR_ENC_OUT_OF_MEMORY.
        """

    def encode_batch(self, pictures: Sequence[Picture]) -> list[Encoding]:
        """
        Encode several pictures, of whatever sizes, in as many passes as the limits ask for; results in order.

        The results are those of :meth:`encode`: the same bits from ``patch``; from models, whose products are
        summed in an order that depends on the batch, features within 1e-4 of their largest (float32).

        Raises:
            EncoderError: As :meth:`encode`, for the batch as a whole. The message names a picture that is too
                much by itself; one by one the others can still be encoded.
        """
