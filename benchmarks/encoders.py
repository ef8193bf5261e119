"""The encoders: pictures a second, and what stands beside the bare passes of torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from skimage import data, transform

from benchmarks.measure import in_turn, per_call
from pixel_llm.encoder import CachedEncoder, EncodingCache, PatchEncoder, Picture, build_encoder
from pixel_llm.encoder.vit import ViT, ViTShape
from pixel_llm.encoder.vit_encoder import vit_backbone
from pixel_llm.policy import Device, EncoderCacheConfig, EncoderConfig, EncoderType

_BATCH = 32


def _pictures(count: int = _BATCH) -> list[Picture]:
    """Photographs of 224×224, each a little different."""
    photographs = (data.astronaut(), data.coffee(), data.cat(), data.rocket())
    small = [(transform.resize(photograph, (224, 224)) * 255).astype(np.uint8) for photograph in photographs]
    return [Picture(np.roll(small[number % len(small)], number, axis=1)) for number in range(count)]


def patch() -> dict[str, float]:
    """Seconds a picture: in batches, and one after the other."""
    encoder, pictures = PatchEncoder("cpu"), _pictures()
    encoder.encode_batch(pictures)
    found = in_turn(
        {
            "patch, batches of 32": lambda: encoder.encode_batch(pictures),
            "patch, one by one": lambda: [encoder.encode(picture) for picture in pictures],
        }
    )
    return {name: seconds / len(pictures) for name, seconds in found.items()}


def vit() -> dict[str, float]:
    """A ViT-S/16 on the CPU: its bare preprocessing and pass, with what patch measures, and the encoder."""
    pictures = _pictures(8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vit.safetensors"
        save_file(ViT(ViTShape(width=384, depth=12, heads=6, hidden=1536, patch=16, side=14)).state_dict(), path)
        off = EncoderCacheConfig(max_bytes=0)
        encoder = build_encoder(EncoderConfig(type=EncoderType.VIT, checkpoint=str(path), device=Device.CPU, cache=off))
        encoder.load()
        bare = vit_backbone(path)
    measured = PatchEncoder("cpu")

    def forward() -> None:
        with torch.inference_mode():
            bare.module(bare.preprocessing.apply(pictures))

    def both() -> None:
        forward()
        measured.encode_batch(pictures)

    return _each(
        {
            "preprocessing, pass and description, bare": both,
            "vit": lambda: encoder.encode_batch(pictures),
            "preprocessing and pass alone": forward,
        },
        pictures,
    )


def hit() -> dict[str, float]:
    """Seconds for a picture whose digest is known: what is kept, behind the patch encoder's cache."""
    picture = _pictures(1)[0]
    encoder = CachedEncoder(PatchEncoder("cpu"), EncodingCache(2**20))
    encoder.encode(picture)
    return per_call({"a hit": lambda: encoder.encode(picture)}, calls=2000)


def _each(candidates: dict[str, Callable[[], object]], pictures: Sequence[Picture]) -> dict[str, float]:
    for run in candidates.values():
        run()
    return {name: seconds / len(pictures) for name, seconds in in_turn(candidates, rounds=11).items()}
