"""The encoder behind its targets, `encoder.load` and `encoder.forward`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pixel_llm.errors import EncoderError, ErrorCode, ValidationError
from pixel_llm.hybrid.turns import Turns
from pixel_llm.runtime import Policies

if TYPE_CHECKING:
    from pixel_llm.encoder import Encoder, ImageSource, Picture


class Describer:
    """
    Gives the encoder's words for pictures. Safe for concurrent use.

    Args:
        policies: Their `encoder` section says which encoder; their stacks are around it.
    """

    def __init__(self, policies: Policies) -> None:
        self._config = policies.config.encoder
        self._encoder: Encoder | None = None
        self._turns = Turns("loading the encoder")
        # Loading is done for what it does to this object: no cache can stand for it.
        key = partial(self._identity_of, id(self))
        self.load = policies.wrap("encoder.load", self._load, key=key, cacheable=lambda _: False)
        self._forward = policies.wrap("encoder.forward", self._encode, key=lambda *pictures: _digests(pictures))

    @property
    def identity(self) -> str:
        """Names the encoder among all that there may be: what it says of a picture depends on it."""
        return self._identity_of()

    def describe(self, picture: Picture) -> str | None:
        """
        What the encoder says of *picture*; it is loaded before if it was not yet.

        None if the fallback of `encoder.forward` says so.
        """
        return self.describe_all([picture])[0]

    def describe_all(self, pictures: Sequence[Picture]) -> list[str | None]:
        """The same for several at once, in their order: they pass the stack, and the encoder, together."""
        self.load()
        described: Any = self._forward(*pictures)
        if isinstance(described, _Descriptions):
            return list(described)
        return [None if described is None else str(described)] * len(pictures)  # a fallback's, which knows no picture

    def _load(self) -> None:
        if self._encoder is not None:
            return
        with self._turns.mine():  # many first callers load it once; if one fails, the next tries
            if self._encoder is None:
                encoder = picture_tools().build_encoder(self._config)
                encoder.load()
                self._encoder = encoder

    def _encode(self, *pictures: Picture) -> _Descriptions:
        if self._encoder is None:
            raise EncoderError("the encoder is not loaded", error_code=ErrorCode.ERR_ENC_LOAD_FAILED)
        return _Descriptions(encoding.description for encoding in self._encoder.encode_batch(pictures))

    def _identity_of(self, owner: int = 0) -> str:
        return f"{owner}:{self._config}"


class _Descriptions(tuple[str, ...]):
    """What the encoder says, a text for each picture."""

    __slots__ = ()


def _digests(pictures: Sequence[Picture]) -> tuple[str, ...]:
    return tuple(picture.digest for picture in pictures)


def picture_tools() -> ModuleType:
    """
    The encoder's room; it needs Pillow, which only captioning needs.

    Raises:
        EncoderError: ERR_ENC_LOAD_FAILED if that is not installed.
    """
    from pixel_llm import encoder

    try:
        encoder.load_image  # noqa: B018 - loads Pillow, so that its absence is said plainly
    except ImportError as error:
        raise EncoderError(
            "captioning needs Pillow and torch: pip install 'pixel-llm[encoder]'",
            error_code=ErrorCode.ERR_ENC_LOAD_FAILED,
        ) from error
    return encoder


def read_picture(image: ImageSource) -> Picture:
    """Read *image*, and hash its pixels, which takes as long for a large one: all of it off the event loop."""
    try:
        picture: Picture = picture_tools().load_image(image)
    except ValidationError as error:
        if hasattr(image, "shape"):  # it can be said what an array means, but not here
            error.add_note("pixel_llm.encoder.load_image() takes layout= and value_range=; pass what it gives")
        raise
    picture.digest  # noqa: B018 - computed once, and kept
    return picture
