"""From the policy's ``encoder`` section to an encoder."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pixel_llm.encoder.protocol import Encoder
from pixel_llm.errors import EncoderError, ErrorCode
from pixel_llm.policy import EncoderConfig

if TYPE_CHECKING:
    from pixel_llm.encoder.backbone import Backbone
    from pixel_llm.encoder.batches import Limits


def build_encoder(config: EncoderConfig) -> Encoder:
    """
    Build the encoder that *config* describes, behind its cache; :meth:`Encoder.load` makes it ready.

    Raises:
        EncoderError: ERR_ENC_LOAD_FAILED if the type is unknown, its checkpoint or folder is not named, or torch or
            Pillow is not installed. What is in files is only seen when it is loaded.
    """
    build = _BUILDERS.get(config.type)
    if build is None:
        raise _refused(f"encoder.type must be one of {', '.join(_BUILDERS)} (got {config.type!r})")
    try:
        importlib.import_module("pixel_llm.encoder.patch")
    except ImportError as exc:
        raise _refused(
            f"encoder.type {config.type} needs {exc.name or 'torch'}: pip install 'pixel-llm[encoder]'"
        ) from exc
    encoder = build(config)
    if not config.cache.max_bytes:
        return encoder
    from pixel_llm.encoder.caching import CachedEncoder, EncodingCache

    return CachedEncoder(encoder, EncodingCache(config.cache.max_bytes))


def _patch(config: EncoderConfig) -> Encoder:
    from pixel_llm.encoder.patch import PatchEncoder

    return PatchEncoder(config.device, limits=_limits(config))


def _vit(config: EncoderConfig) -> Encoder:
    from pixel_llm.encoder.preprocessing import NORMALIZATIONS
    from pixel_llm.encoder.vit_encoder import vit_backbone

    if config.normalize not in NORMALIZATIONS:  # in a config that a program has made
        raise _refused(f"encoder.normalize must be one of {', '.join(NORMALIZATIONS)} (got {config.normalize!r})")
    path = _path(config.checkpoint, "checkpoint", config)
    identity = f"{_stamp(path)}:{config.heads}:{config.normalize}"
    return _model(config, identity, partial(vit_backbone, path, config.heads, config.normalize))


def _transformers(config: EncoderConfig) -> Encoder:
    from pixel_llm.encoder.model_folder import read_folder

    folder = _path(config.model, "model", config)
    labels = tuple(config.labels or ())
    asked = labels, config.label_template, config.max_labels, config.min_probability
    identity = f"{_stamp(folder)}:{asked}"
    return _model(config, identity, partial(read_folder, folder, *asked))


def _model(config: EncoderConfig, identity: str, read: Callable[[], Backbone]) -> Encoder:
    from pixel_llm.encoder.model_encoder import ModelEncoder

    return ModelEncoder(config.type, identity, read, device=config.device, dtype=config.dtype, limits=_limits(config))


def _limits(config: EncoderConfig) -> Limits:
    from pixel_llm.encoder.batches import Limits

    batch = config.batch
    return Limits(max_size=batch.max_size, max_memory=batch.max_memory, on_out_of_memory=tuple(config.on_out_of_memory))


def _path(value: str | None, setting: str, config: EncoderConfig) -> Path:
    if value is None:
        raise _refused(f"encoder.type {config.type} needs encoder.{setting}")
    return Path(value).expanduser()


def _stamp(path: Path) -> str:
    """The path, with size and time of what is there: other content gets other encodings. Empty if nothing is."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        stats = [(file.name, file.stat()) for file in files]
    except OSError:  # loading says what is wrong
        return str(path)
    return f"{path}:{[(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]}"


def _refused(message: str) -> EncoderError:
    return EncoderError(message, error_code=ErrorCode.ERR_ENC_LOAD_FAILED)


_BUILDERS: dict[str, Callable[[EncoderConfig], Encoder]] = {
    "patch": _patch,
    "vit": _vit,
    "transformers": _transformers,
}
