"""A checkpoint file to a :class:`ViT`: read without running any of it, and compared tensor by tensor."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from pixel_llm.encoder.torch_errors import first_line, is_out_of_memory
from pixel_llm.encoder.vit import ViT, ViTShape
from pixel_llm.errors import EncoderError, ErrorCode

#: torchvision's names to timm's, which are ours.
_TORCHVISION: Final = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^class_token$", "cls_token"),
        (r"^encoder\.pos_embedding$", "pos_embed"),
        (r"^conv_proj\.", "patch_embed.proj."),
        (r"^encoder\.ln\.", "norm."),
        (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
        (r"^(blocks\.\d+\.)ln_([12])\.", r"\1norm\2."),
        (r"^(blocks\.\d+\.)self_attention\.in_proj_(\w+)$", r"\1attn.qkv.\2"),
        (r"^(blocks\.\d+\.)self_attention\.out_proj\.", r"\1attn.proj."),
        (r"^(blocks\.\d+\.)mlp\.(?:0|linear_1)\.", r"\1mlp.fc1."),
        (r"^(blocks\.\d+\.)mlp\.(?:3|linear_2)\.", r"\1mlp.fc2."),
    )
)
#: What names classes, which is not used: timm's `head`, torchvision's `heads`.
_HEAD: Final = re.compile(r"(head|heads|fc_norm|pre_logits)\.")
#: Under these keys training scripts keep the tensors, beside other things.
_WRAPPERS: Final = ("state_dict", "model")
#: Width of a head in every published ViT but a few.
_HEAD_WIDTH: Final = 64
_LISTED: Final = 5


def read_vit(path: Path, heads: int | None = None) -> ViT:
    """
    Build the ViT that the checkpoint at *path* holds; its sizes are read off its tensors.

    Args:
        path: A `.safetensors` file, or one written by `torch.save` that holds nothing but tensors.
            Names are timm's or torchvision's.
        heads: How many heads its attention has, which no tensor tells; by default width / 64.

    Raises:
        EncoderError: ERR_ENC_LOAD_FAILED for a file that is missing, no checkpoint, or holds code; and for tensors
            that are missing, left over or of the wrong shape, each named.
    """
    tensors = _named(_read(path))
    shape = _shape_of(tensors, path, heads)
    with torch.device("meta"):  # no memory, no random numbers: every parameter comes from the file
        model = ViT(shape)
    _compare(tensors, model, path)
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return model.eval().requires_grad_(False)


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise _refused(path, "no such file" if not path.exists() else "is no file")
    try:
        if path.suffix == ".safetensors":
            return _safetensors(path)
        # With weights_only, torch's own unpickler knows tensors and plain containers, and calls nothing else.
        return _unwrapped(torch.load(path, map_location="cpu", weights_only=True), path)
    except EncoderError:
        raise
    except pickle.UnpicklingError as exc:
        raise _refused(
            path,
            "is no checkpoint, or holds more than tensors, which could run code: it was not run. Save the model's "
            "state_dict() alone, best as .safetensors",
        ) from exc
    except Exception as exc:  # what damaged files raise is not written down anywhere
        if is_out_of_memory(exc):
            code = ErrorCode.ERR_ENC_OUT_OF_MEMORY
            raise EncoderError(f"{path}: not enough memory to load it", error_code=code) from exc
        raise _refused(path, f"is no checkpoint, or is damaged ({first_line(exc)})") from exc


def _safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as exc:
        raise _refused(path, "needs safetensors: pip install 'pixel-llm[encoder]'") from exc
    tensors: Mapping[str, Tensor] = load_file(path)
    return tensors


def _unwrapped(content: Any, path: Path) -> Mapping[str, Any]:
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise _refused(path, f"must hold a state_dict: names and tensors (got {type(content).__name__})")
    return content


def _named(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors by our names, without the head."""
    found = {}
    for key, tensor in content.items():
        name = str(key).removeprefix("module.")  # DataParallel's
        if _HEAD.match(name) or not isinstance(tensor, Tensor):
            continue
        for pattern, ours in _TORCHVISION:
            name = pattern.sub(ours, name)
        found[name] = tensor
    return found


def _shape_of(tensors: Mapping[str, Tensor], path: Path, heads: int | None) -> ViTShape:
    """Read the sizes off the tensors that say them; whether the others fit is compared later."""
    kernel, places, hidden = (
        tensors.get(name) for name in ("patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight")
    )
    if kernel is None or places is None or hidden is None:
        raise _refused(
            path,
            "is no ViT as timm or torchvision name it: patch_embed.proj.weight, pos_embed and blocks.0.mlp.fc1.weight "
            f"must be there (got {_listed(sorted(tensors)) or 'no tensors'})",
        )
    if hidden.ndim != 2:
        raise _refused(path, f"blocks.0.mlp.fc1.weight must be hidden×width (got {_size(hidden)})")
    if kernel.ndim != 4 or kernel.shape[1] != 3 or kernel.shape[2] != kernel.shape[3]:
        raise _refused(path, f"patch_embed.proj.weight must be width×3×patch×patch (got {_size(kernel)})")
    width, patch = kernel.shape[0], kernel.shape[2]
    side = round((places.shape[1] - 1) ** 0.5) if places.ndim == 3 else 0
    if side < 1 or side**2 + 1 != places.shape[1]:
        raise _refused(
            path, f"pos_embed must be 1×(1 + side²)×{width}, one for a square of patches (got {_size(places)})"
        )
    heads = heads or max(1, width // _HEAD_WIDTH)
    if heads < 1 or width % heads:
        raise _refused(path, f"encoder.heads must divide the width of {width} (got {heads})")
    return ViTShape(
        width=width, depth=_depth(tensors, path), heads=heads, hidden=hidden.shape[0], patch=patch, side=side
    )


def _depth(tensors: Mapping[str, Tensor], path: Path) -> int:
    """How many blocks there are. One name with a large number must not make us build as many."""
    blocks = {found[1] for name in tensors if (found := re.match(r"blocks\.(\d+)\.", name))}
    for number in range(len(blocks)):
        if str(number) not in blocks:
            strange = min(blocks - {str(number) for number in range(len(blocks))})
            raise _refused(path, f"has tensors of blocks.{strange[:20]}, but none of blocks.{number}")
    return len(blocks)


def _compare(tensors: Mapping[str, Tensor], model: ViT, path: Path) -> None:
    wanted = model.state_dict()
    complaints = [
        f"{name} must be {_size(wanted[name])} (got {_size(tensor)})"
        for name, tensor in tensors.items()
        if name in wanted and tensor.shape != wanted[name].shape
    ]
    complaints += [
        f"{name} must be real numbers (got {str(tensor.dtype).removeprefix('torch.')})"
        for name, tensor in tensors.items()
        if tensor.is_complex()
    ]
    if len(complaints) > _LISTED:
        complaints[_LISTED:] = [f"{len(complaints) - _LISTED} more that do not fit"]
    if missing := [name for name in wanted if name not in tensors]:
        complaints.append(f"missing: {_listed(missing)}")
    if unexpected := [name for name in tensors if name not in wanted]:
        complaints.append(f"unexpected: {_listed(unexpected)}")
    if complaints:
        raise _refused(path, f"does not fit a plain ViT: {'; '.join(complaints)}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _size(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a single number"


def _refused(path: Path, complaint: str) -> EncoderError:
    return EncoderError(f"encoder.checkpoint {path}: {complaint}", error_code=ErrorCode.ERR_ENC_LOAD_FAILED)
