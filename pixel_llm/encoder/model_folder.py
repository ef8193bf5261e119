"""
CLIP, SigLIP and DINOv2 from folders that `transformers` has saved.

Nothing is fetched, and nothing in the folder is run: only these three kinds are built, from classes that
transformers itself has, and only `tokenizer.json` makes a tokenizer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from pixel_llm.encoder.backbone import Backbone, Seen, numbers_of_a_pass
from pixel_llm.encoder.preprocessing import Preprocessing
from pixel_llm.encoder.torch_errors import first_line, is_out_of_memory
from pixel_llm.encoder.zero_shot import Labels
from pixel_llm.errors import EncoderError, ErrorCode

_CLASSES: Final = {"clip": "CLIPModel", "siglip": "SiglipModel", "dinov2": "Dinov2Model"}
#: PIL's numbers, as the folders have them; the image processors of all three take the second where none is said.
_BILINEAR, _BICUBIC = 2, 3
#: What shows that a file has more layers than its config says.
_LAYER: Final = re.compile(r"\blayers?\.\d+\.")
_LOCAL: Final[dict[str, Any]] = {"local_files_only": True, "trust_remote_code": False}
_LISTED: Final = 5


class _Tower(nn.Module):
    """The half of a model that sees: its tokens, without that for the whole picture, and its embedding."""

    def __init__(self, tower: nn.Module, projection: nn.Module | None, *, skip: int, compares: bool) -> None:
        super().__init__()
        self.tower = tower
        self.projection = projection
        self._skip = skip
        self._compares = compares

    def forward(self, pixels: Tensor) -> Seen:
        out = self.tower(pixel_values=pixels)
        embedding = out.pooler_output if self._compares else None
        if embedding is not None and self.projection is not None:
            embedding = self.projection(embedding)
        return Seen(out.last_hidden_state[:, self._skip :], embedding)


def read_folder(
    folder: Path,
    labels: tuple[str, ...] = (),
    template: str = "a photo of {label}",
    at_most: int = 3,
    at_least: float = 0.1,
) -> Backbone:
    """
    Read the model in *folder*.

    Args:
        folder: Holds `config.json`, the weights and `preprocessor_config.json`; with *labels*, `tokenizer.json` too.
        labels: What CLIP and SigLIP compare pictures with; DINOv2 knows no words.
        template: What they are put into, for `{label}`.
        at_most: How many labels a description tells.
        at_least: The probability from which on it tells them.

    Raises:
        EncoderError: ERR_ENC_LOAD_FAILED, naming the file and what is wrong with it.
    """
    kind = _kind_of(folder)
    preprocessing = _preprocessing(folder, kind)
    if labels and kind == "dinov2":
        raise _refused(
            folder, "is a DINOv2 model, which knows no words: leave encoder.labels out, or use CLIP or SigLIP"
        )
    if len(labels) == 1 and kind == "clip":
        raise _refused(
            folder, "is a CLIP model, which compares labels with each other: give at least two encoder.labels"
        )
    model = _model(folder, kind)
    known = None
    if labels:
        with torch.inference_mode():
            vectors = _text_vectors(folder, kind, model, [template.replace("{label}", label) for label in labels])
        known = Labels(
            labels=labels,
            vectors=vectors,
            scale=model.logit_scale.detach().exp().item(),
            bias=model.logit_bias.detach().item() if kind == "siglip" else None,
            at_most=at_most,
            at_least=at_least,
        )
    vision = model.config if kind == "dinov2" else model.config.vision_config
    tower = _Tower(
        model if kind == "dinov2" else model.vision_model,
        model.visual_projection if kind == "clip" else None,
        skip=0 if kind == "siglip" else 1,
        compares=known is not None,
    )
    grid = preprocessing.height // vision.patch_size, preprocessing.width // vision.patch_size
    hidden = getattr(vision, "intermediate_size", None) or vision.hidden_size * vision.mlp_ratio
    return Backbone(
        module=tower.eval().requires_grad_(False),
        preprocessing=preprocessing,
        grid=grid,
        numbers_each=numbers_of_a_pass(preprocessing, grid[0] * grid[1] + 1, vision.hidden_size, int(hidden)),
        words=known.words if known is not None else None,
    )


def _kind_of(folder: Path) -> str:
    if not folder.is_dir():
        raise _refused(folder, "no such folder" if not folder.exists() else "is no folder")
    kind = _json(folder, "config.json").get("model_type")
    if not isinstance(kind, str) or kind not in _CLASSES:
        raise _refused(folder / "config.json", f"model_type must be one of {', '.join(_CLASSES)} (got {kind!r})")
    return kind


def _model(folder: Path, kind: str) -> Any:
    try:
        import transformers
    except ImportError as exc:
        raise EncoderError(
            f"encoder.type transformers needs {exc.name or 'transformers'}: pip install 'pixel-llm[transformers]'",
            error_code=ErrorCode.ERR_ENC_LOAD_FAILED,
        ) from exc
    try:
        with _quiet(transformers.utils.logging):
            model, report = getattr(transformers, _CLASSES[kind]).from_pretrained(
                folder, output_loading_info=True, dtype=torch.float32, **_LOCAL
            )
    except Exception as exc:  # transformers raises OSError, ValueError, RuntimeError, its own and safetensors' classes
        if is_out_of_memory(exc):
            code = ErrorCode.ERR_ENC_OUT_OF_MEMORY
            raise EncoderError(f"{folder}: not enough memory to load it", error_code=code) from exc
        raise _refused(folder, f"can't be loaded: {first_line(exc)}") from exc
    # transformers fills in what is missing with random numbers, whose results would mean nothing.
    missing = sorted(report["missing_keys"])
    if missing:
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        raise _refused(folder, f"lacks weights: {', '.join(missing[:_LISTED])}{more}")
    # Heads for other tasks may be left over, but not layers: without them it would be another model.
    if left := sorted(name for name in report["unexpected_keys"] if _LAYER.search(name)):
        raise _refused(folder, f"has weights that its config.json has no layers for, such as {left[0]}")
    return model.eval()


@contextmanager
def _quiet(log: Any) -> Iterator[None]:
    """No bar of transformers' in the terminal, where `caption` has its own; what else it says is in the errors."""
    shown = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            log.enable_progress_bar()


def _text_vectors(folder: Path, kind: str, model: Any, texts: list[str]) -> Tensor:
    from transformers import PreTrainedTokenizerFast

    if not (folder / "tokenizer.json").is_file():
        raise _refused(folder, "has no tokenizer.json, which encoder.labels need: save the model's tokenizer there")
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, **_LOCAL)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokens = tokenizer(
            texts,
            padding="max_length",  # what SigLIP was trained with; CLIP masks it
            truncation=True,
            max_length=model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        if kind == "siglip":
            vectors = model.text_model(input_ids=tokens["input_ids"]).pooler_output
        else:
            out = model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
            vectors = model.text_projection(out.pooler_output)
    except Exception as exc:  # a tokenizer that does not fit its model fails anywhere in here
        raise _refused(
            folder, f"encoder.labels can't be read by its tokenizer and text model: {first_line(exc)}"
        ) from exc
    return normalize(vectors.float(), dim=-1)


def _preprocessing(folder: Path, kind: str) -> Preprocessing:
    """What the model's own image processor does; what is not said is as it has it."""
    name = "preprocessor_config.json"
    settings: Any = None
    if not (folder / name).is_file() and (folder / "processor_config.json").is_file():
        name = "processor_config.json"
        settings = _json(folder, name).get("image_processor")
    settings = settings if isinstance(settings, dict) else _json(folder, name)
    refused = partial(_refused, folder / name)
    resample = settings.get("resample", _BICUBIC)
    if resample not in (_BILINEAR, _BICUBIC):
        raise refused(f"resample must be 2 (bilinear) or 3 (bicubic) (got {resample!r})")
    if not settings.get("do_resize", True):
        raise refused("do_resize must be true: pictures of any size are to be encoded")
    try:
        size = settings["size"]
        size = {"shortest_edge": size} if isinstance(size, int) else size
        crops = settings.get("do_center_crop", kind != "siglip")
        crop = settings.get("crop_size") if crops else None
        crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
        wanted = crop or size
        return Preprocessing(
            height=int(wanted["height"]),
            width=int(wanted["width"]),
            shortest=int(size["shortest_edge"]) if "shortest_edge" in size else None,
            bicubic=resample == _BICUBIC,
            **_normalization(settings),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as exc:
        raise refused(f"does not say how pictures are prepared ({type(exc).__name__}: {exc})") from exc


def _normalization(settings: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """
    Mean and deviation of pixels that are divided by 255, which is done here whatever the folder says.

    What it says is (pixel · factor - mean) / deviation: the same with both divided by 255 · factor.
    """
    factor = float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 1.0
    mean, deviation = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if settings.get("do_normalize", True):
        mean, deviation = _three(settings["image_mean"]), _three(settings["image_std"])
    if 0 in deviation:
        raise ValueError("image_std holds a 0")
    scale = 255 * factor
    return {"mean": tuple(m / scale for m in mean), "deviation": tuple(d / scale for d in deviation)}


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    if not isfinite(first + second + third):
        raise ValueError(f"three numbers are wanted, got {values}")
    return first, second, third


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise _refused(
            folder, f"has no {name}: it must be a folder that transformers' save_pretrained() wrote"
        ) from exc
    except (OSError, ValueError) as exc:
        raise _refused(folder / name, f"can't be read ({first_line(exc)})") from exc
    if not isinstance(content, dict):
        raise _refused(folder / name, f"must hold an object (got {type(content).__name__})")
    return content


def _refused(path: Path, complaint: str) -> EncoderError:
    return EncoderError(f"encoder.model {path}: {complaint}", error_code=ErrorCode.ERR_ENC_LOAD_FAILED)
