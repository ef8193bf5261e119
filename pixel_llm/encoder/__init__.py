"""
Image in, features and a description out. The only room with torch and PIL.

Names are exported lazily (PEP 562): reading :func:`load_image` loads PIL, building
:class:`PatchEncoder` loads torch, importing this package loads neither.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixel_llm.encoder.batches import Limits
    from pixel_llm.encoder.caching import CachedEncoder, EncodingCache
    from pixel_llm.encoder.decoding import image_suffixes
    from pixel_llm.encoder.factory import build_encoder
    from pixel_llm.encoder.images import ImageSource, load_image, load_images
    from pixel_llm.encoder.model_encoder import ModelEncoder
    from pixel_llm.encoder.patch import PatchEncoder
    from pixel_llm.encoder.picture import MAX_PIXELS, MAX_SIDE, Picture
    from pixel_llm.encoder.protocol import Encoder, Encoding
    from pixel_llm.encoder.sending import to_data_uri

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "CachedEncoder",
    "Encoder",
    "Encoding",
    "EncodingCache",
    "ImageSource",
    "Limits",
    "ModelEncoder",
    "PatchEncoder",
    "Picture",
    "build_encoder",
    "image_suffixes",
    "load_image",
    "load_images",
    "to_data_uri",
]

_HOMES = {
    "MAX_PIXELS": "picture",
    "MAX_SIDE": "picture",
    "CachedEncoder": "caching",
    "Encoder": "protocol",
    "Encoding": "protocol",
    "EncodingCache": "caching",
    "ImageSource": "images",
    "Limits": "batches",
    "ModelEncoder": "model_encoder",
    "PatchEncoder": "patch",
    "Picture": "picture",
    "build_encoder": "factory",
    "image_suffixes": "decoding",
    "load_image": "images",
    "load_images": "images",
    "to_data_uri": "sending",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
