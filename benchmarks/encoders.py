"""The encoders: pictures a second, and what stands beside the bare passes of torch."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from skimage import data, transform

from benchmarks.measure import in_turn, per_call
from pixel_llm.encoder import CachedEncoder, EncodingCache, PatchEncoder, Picture, build_encoder
from pixel_llm.encoder.model_folder import read_folder
from pixel_llm.encoder.preprocessing import Preprocessing
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


def transformers() -> dict[str, float]:
    """CLIP, SigLIP and DINOv2 of the same size: transformers' own pass with what stands around it, and the encoder."""
    pictures = _pictures(8)
    measured = PatchEncoder("cpu")
    candidates: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, model in _models().items():
            place = Path(folder) / name
            model.save_pretrained(place)
            (place / "preprocessor_config.json").write_text(json.dumps(_PREPARED), "utf-8")
            off = EncoderCacheConfig(max_bytes=0)
            encoder = build_encoder(
                EncoderConfig(type=EncoderType.TRANSFORMERS, model=str(place), device=Device.CPU, cache=off)
            )
            encoder.load()
            vision = model.eval() if name == "DINOv2" else model.eval().vision_model
            candidates[f"{name}: preprocessing, pass and description, bare"] = partial(
                _bare, vision, read_folder(place).preprocessing, measured, pictures
            )
            candidates[f"{name}: transformers"] = partial(encoder.encode_batch, pictures)
    return _each(candidates, pictures)


def _bare(
    vision: torch.nn.Module, preprocessing: Preprocessing, measured: PatchEncoder, pictures: list[Picture]
) -> None:
    with torch.inference_mode():
        vision(pixel_values=preprocessing.apply(pictures))
    measured.encode_batch(pictures)


_PREPARED = {
    "resample": 3,
    "image_mean": [0.48, 0.46, 0.41],
    "image_std": [0.27, 0.26, 0.28],
    "do_center_crop": False,
    "size": {"height": 224, "width": 224},
}


def _models() -> dict[str, Any]:
    """Random numbers in the shapes of real ones."""
    from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model, SiglipConfig, SiglipModel

    tower = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "patch_size": 16, "image_size": 224}
    vision = tower | {"intermediate_size": 1536}
    text = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    return {
        "CLIP": CLIPModel(CLIPConfig(text_config=text, vision_config=vision)),
        "SigLIP": SiglipModel(SiglipConfig(text_config=text, vision_config=vision)),
        "DINOv2": Dinov2Model(Dinov2Config(**tower)),
    }


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
